#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <string>
#include <vector>

#include "support/descriptors.hpp"
#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

task<std::error_code> recv_end(net::tcp_stream& from) {
  std::vector<std::byte> buffer(64);
  const auto n = co_await from.recv(buffer);
  co_return n.error();
}

task<std::error_code> recv_exactly_end(net::tcp_stream& from) {
  std::vector<std::byte> buffer(64);
  const auto n = co_await from.recv_exactly(buffer);
  co_return n.error();
}

task<std::error_code> receive_end(net::tcp_stream& from) {
  const auto lease = co_await from.receive();
  co_return lease.error();
}

task<std::error_code> send_all_end(net::tcp_stream& to) {
  const std::string much(std::size_t{64} << 20, 'x');
  const auto sent = co_await to.send_all(as_bytes(much));
  co_return sent.error();
}

// First with a receiver: then recv rests on it.
task<std::error_code> recv_after_receive_end(net::tcp_stream& from) {
  const auto nothing = co_await with_timeout(1ms, from.receive());
  CHECK(nothing.error() == errc::timed_out);
  co_return co_await recv_end(from);
}

using operation = task<std::error_code> (*)(net::tcp_stream&);

}  // namespace

TEST_CASE("close: an idle stream; the descriptor is gone, and the peer sees the end") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    const int fd = pair.ours.fd();
    co_await pair.ours.close();
    CHECK(!pair.ours.is_open());
    CHECK(!test::is_open(fd));
    CHECK(pair.theirs.at_end());
    // Once more is no harm.
    co_await pair.ours.close();
  });
}

TEST_CASE("close: ends what other tasks await with operation_canceled, and then the descriptor") {
  const operation readers[] = {recv_end, recv_exactly_end, receive_end, recv_after_receive_end};
  for (const operation read : readers) {
    for (const bool write : {false, true}) {
      CAPTURE(write);
      test::in_runtime([&]() -> task<> {
        auto pair = test::connected_to_raw();
        const int fd = pair.ours.fd();
        auto reader = spawn(read, std::ref(pair.ours));
        auto writer = spawn(write ? send_all_end : operation([](net::tcp_stream&) -> task<std::error_code> {
          co_return errc::operation_canceled;
        }), std::ref(pair.ours));
        co_await test::pause(5ms);
        co_await pair.ours.close();
        CHECK(reader.done());
        CHECK(writer.done());
        CHECK(!pair.ours.is_open());
        CHECK(!test::is_open(fd));
        const auto read_error = co_await std::move(reader);
        CHECK(read_error == errc::operation_canceled);
        const auto write_error = co_await std::move(writer);
        CHECK(write_error == errc::operation_canceled);
      });
    }
  }
}

TEST_CASE("close: while the peer takes a part of a long send at a time") {
  // The step that wins its race against the cancel must not be followed by another one.
  test::in_runtime([]() -> task<> {
    for (int round = 0; round < 30; ++round) {
      auto pair = test::connected_to_raw();
      auto writer = spawn(send_all_end, std::ref(pair.ours));
      co_await test::some_turns(1 + round % 7);
      (void)pair.theirs.receive_ready(std::size_t{3} << 20);
      co_await pair.ours.close();
      CHECK(writer.done());
      const auto error = co_await std::move(writer);
      CHECK(error == errc::operation_canceled);
    }
  });
}

TEST_CASE("close: while bytes of a recv_exactly trickle in") {
  test::in_runtime([]() -> task<> {
    for (int round = 0; round < 30; ++round) {
      auto pair = test::connected_to_raw();
      auto reader = spawn(recv_exactly_end, std::ref(pair.ours));
      co_await test::some_turns(1 + round % 5);
      REQUIRE(pair.theirs.send("a part"));
      co_await pair.ours.close();
      CHECK(reader.done());
      const auto error = co_await std::move(reader);
      CHECK(error == errc::operation_canceled);
    }
  });
}

TEST_CASE("close: refuses operations that begin meanwhile") {
  test::in_runtime([]() -> task<> {
    for (const operation read : {operation(recv_end), operation(receive_end)}) {
      auto pair = test::connected_to_raw();
      // A reader that does not take the first no for an answer.
      auto stubborn = spawn([](operation again, net::tcp_stream& from) -> task<int> {
        int refusals = 0;
        while (refusals < 3) {
          const std::error_code error = co_await again(from);
          CHECK((error == errc::operation_canceled || error == std::errc::bad_file_descriptor));
          ++refusals;
        }
        co_return refusals;
      }, read, std::ref(pair.ours));
      co_await test::some_turns();
      co_await pair.ours.close();
      CHECK(pair.theirs.at_end());
      const int refusals = co_await std::move(stubborn);
      CHECK(refusals == 3);
    }
  });
}

TEST_CASE("close: a stop does not keep it from closing") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    auto reader = spawn(receive_end, std::ref(pair.ours));
    co_await test::some_turns();
    auto closer =
        spawn([](net::tcp_stream& stream) -> task<> { co_await stream.close(); }, std::ref(pair.ours));
    closer.request_stop();
    co_await std::move(closer);
    CHECK(!pair.ours.is_open());
    CHECK(pair.theirs.at_end());
    const auto error = co_await std::move(reader);
    CHECK(error == errc::operation_canceled);
  });
}

TEST_CASE("operations on a closed stream are errors") {
  test::in_runtime([]() -> task<> {
    for (const operation use : {operation(recv_end), operation(recv_exactly_end), operation(receive_end),
                                operation(send_all_end)}) {
      auto pair = test::connected_to_raw();
      co_await pair.ours.close();
      const auto error = co_await use(pair.ours);
      CHECK(error == std::errc::bad_file_descriptor);
    }
  });
}

TEST_CASE(
    "tcp_stream: destroyed with its receive armed, the descriptor goes when the kernel has let go of it") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    const int fd = pair.ours.fd();
    {
      net::tcp_stream stream = std::move(pair.ours);
      REQUIRE(pair.theirs.send("hello"));
      const auto lease = co_await stream.receive();
      CHECK(lease.value().text() == "hello");
      CHECK(scheduler::current()->queue().in_flight() == 2);  // the wake operation, and the receive
    }
    CHECK(test::is_open(fd));
    CHECK(scheduler::current()->detached() == 1);
    while (scheduler::current()->detached() != 0) co_await test::some_turns(1);
    CHECK(!test::is_open(fd));
    CHECK(pair.theirs.at_end());
    CHECK(scheduler::current()->queue().in_flight() == 1);
    CHECK(scheduler::current()->queue().buffers().away() == 0);
  });
}

TEST_CASE("tcp_stream: destroyed by the last task, the runtime waits for the kernel before it ends") {
  const std::size_t before = test::open_descriptors();
  {
    auto pair = test::connected_to_raw();
    test::in_runtime([&]() -> task<> {
      net::tcp_stream stream = std::move(pair.ours);
      const auto nothing = co_await with_timeout(1ms, stream.receive());
      CHECK(nothing.error() == errc::timed_out);
    });
    CHECK(pair.theirs.at_end());
  }
  CHECK(test::open_descriptors() == before);
}
