#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/when_all.hpp>

#include <array>
#include <fcntl.h>
#include <string>
#include <thread>
#include <unistd.h>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/sockets.hpp"
#include "support/temporary_folder.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

unique_fd opened(const std::string& path, int flags = O_RDONLY) {
  unique_fd fd(::open(path.c_str(), flags | O_CLOEXEC));
  REQUIRE(fd);
  return fd;
}

task<std::string> receive_all(net::tcp_stream& from) {
  std::string all;
  std::vector<std::byte> buffer(1 << 18);
  for (;;) {
    const auto n = co_await from.recv(buffer);
    if (!n || *n == 0) co_return all;
    all += as_text(std::span(buffer).first(*n));
  }
}

task<result<std::uint64_t>> send_and_shut(net::tcp_stream& to, borrowed_fd file, std::uint64_t offset,
                                          std::uint64_t count) {
  const auto sent = co_await to.sendfile(file, offset, count);
  CHECK(to.shutdown_send());
  co_return sent;
}

}  // namespace

TEST_CASE("sendfile: the whole file, ranges of it, and nothing") {
  const test::temporary_folder folder;
  const std::string bytes = test::pattern(3'000'001);
  const unique_fd file = opened(folder.write("file", bytes));
  ::lseek(file.get(), 17, SEEK_SET);
  struct range {
    std::uint64_t offset;
    std::uint64_t count;
  };
  for (const range r : {range{0, bytes.size()}, range{0, 1}, range{bytes.size() - 1, 1}, range{4095, 8194},
                        range{262'143, 262'146}, range{1'000'000, 2'000'001}}) {
    CAPTURE(r.offset);
    test::in_runtime([&]() -> task<> {
      auto pair = test::connected_pair();
      auto [sent, got] =
          co_await when_all(send_and_shut(pair.ours, file, r.offset, r.count), receive_all(pair.theirs));
      CHECK(sent.value() == r.count);
      CHECK((got == bytes.substr(r.offset, r.count)));
    });
  }
  CHECK(::lseek(file.get(), 0, SEEK_CUR) == 17);

  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    for (const std::uint64_t offset :
         {std::uint64_t{0}, std::uint64_t{bytes.size()}, std::uint64_t{1} << 40}) {
      const auto nothing = co_await pair.ours.sendfile(file, offset, 0);
      CHECK(nothing.value() == 0);
    }
  });
}

TEST_CASE("sendfile: a file shorter than asked for is unexpected_end_of_file, after what there was") {
  const test::temporary_folder folder;
  const unique_fd file = opened(folder.write("short", "twelve bytes"));
  const unique_fd empty = opened(folder.write("empty", ""));
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    const auto sent = co_await pair.ours.sendfile(file, 7, 6);
    CHECK(sent.error() == errc::unexpected_end_of_file);
    CHECK(pair.theirs.receive(5) == "bytes");
    const auto beyond = co_await pair.ours.sendfile(file, 13, 1);
    CHECK(beyond.error() == errc::unexpected_end_of_file);
    const auto none = co_await pair.ours.sendfile(empty, 0, 1);
    CHECK(none.error() == errc::unexpected_end_of_file);
    // The connection is as good as before.
    const auto good = co_await pair.ours.sendfile(file, 0, 6);
    CHECK(good.value() == 6);
    CHECK(pair.theirs.receive(6) == "twelve");
  });
}

TEST_CASE("sendfile: a file that is truncated meanwhile is unexpected_end_of_file") {
  const test::temporary_folder folder;
  const std::string path = folder.write("file", test::pattern(std::size_t{48} << 20));
  const unique_fd file = opened(path);
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    auto sending = spawn(send_and_shut, std::ref(pair.ours), borrowed_fd(file), std::uint64_t{0},
                         std::uint64_t{48} << 20);
    co_await test::pause(5ms);
    CHECK(!sending.done());
    REQUIRE(::truncate(path.c_str(), 1000) == 0);
    std::thread reader(
        [&] { CHECK(pair.theirs.receive(std::size_t{48} << 20).size() < (std::size_t{48} << 20)); });
    const auto sent = co_await std::move(sending);
    CHECK(sent.error() == errc::unexpected_end_of_file);
    reader.join();
  });
}

TEST_CASE("sendfile: a receiver that stops reading, and then goes on, gets all of it") {
  const test::temporary_folder folder;
  const std::string bytes = test::pattern(std::size_t{24} << 20);
  const unique_fd file = opened(folder.write("file", bytes));
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw(4096);
    auto sending =
        spawn(send_and_shut, std::ref(pair.ours), borrowed_fd(file), std::uint64_t{0}, bytes.size());
    std::string got;
    for (int i = 0; i < 3; ++i) {
      co_await test::pause(5ms);
      CHECK(!sending.done());
      // With the socket full, waiting costs nothing.
      const auto enters = scheduler::current()->queue().counters().enters;
      co_await test::pause(20ms);
      CHECK(scheduler::current()->queue().counters().enters - enters < 10);
      got += pair.theirs.receive(std::size_t{256} << 10);
    }
    std::thread reader([&] { got += pair.theirs.receive(bytes.size()); });
    const auto sent = co_await std::move(sending);
    CHECK(sent.value() == bytes.size());
    reader.join();
    CHECK((got == bytes));
  });
}

TEST_CASE("sendfile: stopped in the middle, the peer has a beginning of it") {
  const test::temporary_folder folder;
  const std::string bytes = test::pattern(std::size_t{32} << 20);
  const unique_fd file = opened(folder.write("file", bytes));
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    const auto sent = co_await with_timeout(10ms, pair.ours.sendfile(file, 0, bytes.size()));
    CHECK(sent.error() == errc::timed_out);
    CHECK(pair.ours.shutdown_send());
    const std::string got = pair.theirs.receive(bytes.size());
    CHECK(got.size() < bytes.size());
    CHECK((bytes.compare(0, got.size(), got) == 0));

    auto stopped = spawn([](net::tcp_stream& to, borrowed_fd from) -> task<> {
      const auto nothing = co_await to.sendfile(from, 0, 10);
      CHECK(nothing.error() == errc::operation_canceled);
    }, std::ref(pair.ours), borrowed_fd(file));
    stopped.request_stop();
    co_await std::move(stopped);
  });
}

TEST_CASE("sendfile: a reset by the peer ends it; close() does, too") {
  const test::temporary_folder folder;
  const std::string bytes = test::pattern(std::size_t{32} << 20);
  const unique_fd file = opened(folder.write("file", bytes));
  test::in_runtime([&]() -> task<> {
    for (const bool by_peer : {true, false}) {
      auto pair = test::connected_to_raw();
      auto sending = spawn(
          [](net::tcp_stream& to, borrowed_fd from, std::uint64_t count) -> task<std::error_code> {
            const auto sent = co_await to.sendfile(from, 0, count);
            co_return sent.error();
          },
          std::ref(pair.ours), borrowed_fd(file), std::uint64_t{bytes.size()});
      co_await test::pause(5ms);
      if (by_peer) {
        pair.theirs.reset();
      } else {
        co_await pair.ours.close();
        CHECK(sending.done());
      }
      const auto error = co_await std::move(sending);
      CHECK((by_peer ? error == std::errc::connection_reset || error == std::errc::broken_pipe
                     : error == errc::operation_canceled));
    }
  });
}

TEST_CASE("sendfile: what has no pages is refused") {
  const test::temporary_folder folder;
  std::array<int, 2> ends{};
  REQUIRE(::pipe2(ends.data(), O_CLOEXEC) == 0);
  REQUIRE(::write(ends[1], "kept", 4) == 4);
  const unique_fd read_end(ends[0]);
  const unique_fd write_end(ends[1]);
  const unique_fd directory = opened(folder.path().string(), O_RDONLY | O_DIRECTORY);
  const unique_fd write_only = opened(folder.write("file", "abc"), O_WRONLY);
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    const auto pipe = co_await pair.ours.sendfile(read_end, 0, 1);
    CHECK(pipe.error() == std::errc::invalid_seek);
    std::array<char, 8> kept;
    CHECK(::read(read_end.get(), kept.data(), kept.size()) == 4);
    const auto folder_sent = co_await pair.ours.sendfile(directory, 0, 1);
    CHECK(folder_sent.error() == std::errc::invalid_argument);
    const auto unreadable = co_await pair.ours.sendfile(write_only, 0, 1);
    CHECK(unreadable.error() == std::errc::bad_file_descriptor);
    const auto nothing = co_await pair.ours.sendfile(borrowed_fd(-1), 0, 1);
    CHECK(nothing.error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("sendfile: beyond 4 GiB of a sparse file") {
  const test::temporary_folder folder;
  const std::string path = folder.write("sparse", "");
  constexpr std::uint64_t end = (std::uint64_t{5} << 30) + 5;
  REQUIRE(::truncate(path.c_str(), static_cast<off_t>(end)) == 0);
  const unique_fd file = opened(path, O_RDWR);
  REQUIRE(::pwrite(file.get(), "tail!", 5, static_cast<off_t>(end - 5)) == 5);
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    const auto sent = co_await pair.ours.sendfile(file, end - 10, 10);
    CHECK(sent.value() == 10);
    CHECK(pair.theirs.receive(10) == std::string(5, '\0') + "tail!");
    const auto beyond = co_await pair.ours.sendfile(file, end - 1, 2);
    CHECK(beyond.error() == errc::unexpected_end_of_file);
  });
}
