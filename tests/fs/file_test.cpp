#include <doctest/doctest.h>
#include <keel/fs/file.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/when_all.hpp>

#include <array>
#include <cstdlib>
#include <ostream>
#include <string>
#include <sys/mount.h>
#include <sys/stat.h>
#include <type_traits>
#include <unistd.h>
#include <vector>

#include "support/descriptors.hpp"
#include "support/in_runtime.hpp"
#include "support/skip.hpp"
#include "support/sweep.hpp"
#include "support/temporary_folder.hpp"

using namespace keel;
using fs::open_mode;

// Operations have constructors of their own: g++ 12 copies temporary aggregates bitwise into coroutine
// frames.
static_assert(!std::is_aggregate_v<fs::open_op> && !std::is_aggregate_v<fs::transfer_op> &&
              !std::is_aggregate_v<fs::close_op> && !std::is_aggregate_v<fs::file>);

namespace {

mode_t mode_of(const std::string& path) {
  struct stat status{};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return status.st_mode & 07777;
}

task<std::error_code> open_error(std::string path, open_mode mode) {
  const auto file = co_await fs::file::open(path, mode);
  co_return file.error();
}

// What the file holds at `offset`.
task<std::string> text_at(fs::file& file, std::uint64_t offset, std::size_t size) {
  std::vector<std::byte> buffer(size);
  const auto n = co_await file.read_at(buffer, offset);
  CHECK(n);
  co_return std::string(as_text(std::span(buffer).first(n ? *n : 0)));
}

}  // namespace

TEST_CASE("open, read_at, size: a file that exists; the end of it is short, then 0") {
  const test::temporary_folder folder;
  const std::string path = folder.write("file", "0123456789");
  test::in_runtime([&]() -> task<> {
    auto file = co_await fs::file::open(path);
    REQUIRE(file);
    CHECK(file->size() == 10);
    CHECK(file->size_now().value() == 10);
    CHECK(test::is_close_on_exec(file->fd()));
    const std::string middle = co_await text_at(*file, 3, 4);
    CHECK(middle == "3456");
    const std::string end = co_await text_at(*file, 8, 100);
    CHECK(end == "89");
    for (const std::uint64_t beyond : {std::uint64_t{10}, std::uint64_t{11}, std::uint64_t{1} << 40}) {
      const std::string nothing = co_await text_at(*file, beyond, 8);
      CHECK(nothing.empty());
    }
    const auto none = co_await file->read_at({}, 0);
    CHECK(none.value() == 0);
  });
}

TEST_CASE("open: what each mode makes, keeps and empties") {
  const test::temporary_folder folder;
  test::in_runtime([&]() -> task<> {
    for (const open_mode mode : {open_mode::write, open_mode::read_write, open_mode::truncate}) {
      CAPTURE(int(mode));
      const std::string old = folder.write("old", "old text");
      auto file = (co_await fs::file::open(old, mode)).value();
      const auto n = co_await file.write_at(as_bytes("NEW"), 0);
      CHECK(n.value() == 3);
      CHECK(folder.read("old") == (mode == open_mode::truncate ? "NEW" : "NEW text"));
      std::array<std::byte, 3> buffer;
      const auto got = co_await file.read_at(buffer, 0);
      CHECK((mode == open_mode::write ? got.error() == std::errc::bad_file_descriptor : got.value() == 3));
    }
    for (const open_mode mode :
         {open_mode::write, open_mode::read_write, open_mode::truncate, open_mode::create_new}) {
      const std::string made = folder / ("made" + std::to_string(int(mode)));
      const mode_t mask = ::umask(022);
      auto file = co_await fs::file::open(made, mode, 0664);
      ::umask(mask);
      CHECK(file);
      CHECK(mode_of(made) == 0644);
    }
    const std::string exists = folder.write("exists", "");
    const auto twice = co_await fs::file::open(exists, open_mode::create_new);
    CHECK(twice.error() == std::errc::file_exists);
    auto readable = (co_await fs::file::open(exists)).value();
    const auto refused = co_await readable.write_at(as_bytes("x"), 0);
    CHECK(refused.error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("open: errors, without a descriptor left") {
  const test::temporary_folder folder;
  folder.write("file", "");
  const std::size_t before = test::open_descriptors();
  test::in_runtime([&]() -> task<> {
    const auto expect = [](std::error_code got, std::errc wanted) { CHECK(got == wanted); };
    expect(co_await open_error(folder / "missing", open_mode::read), std::errc::no_such_file_or_directory);
    expect(co_await open_error("", open_mode::read), std::errc::no_such_file_or_directory);
    expect(co_await open_error(folder.path().string(), open_mode::write), std::errc::is_a_directory);
    expect(co_await open_error(folder / "file/below", open_mode::read), std::errc::not_a_directory);
    expect(co_await open_error(folder / std::string(300, 'x'), open_mode::write),
           std::errc::filename_too_long);
    expect(co_await open_error(std::string(5000, '/'), open_mode::read), std::errc::filename_too_long);
    // The kernel would open, or make, what stands before the zero.
    const std::string with_zero = (folder / "file") + std::string("\0.txt", 5);
    expect(co_await open_error(with_zero, open_mode::read), std::errc::invalid_argument);
    expect(co_await open_error(std::string("\0", 1), open_mode::read), std::errc::invalid_argument);
    {
      const test::descriptor_limit limit(0);
      expect(co_await open_error(folder / "file", open_mode::read), std::errc::too_many_files_open);
    }
    // A folder opens for reading, but has no bytes.
    auto opened = (co_await fs::file::open(folder.path().string())).value();
    std::array<std::byte, 8> buffer;
    const auto n = co_await opened.read_at(buffer, 0);
    CHECK(n.error() == std::errc::is_a_directory);
  });
  CHECK(test::open_descriptors() == before);
}

TEST_CASE("open: the path may go while the kernel looks at it") {
  const test::temporary_folder folder;
  const std::string path = folder.write(std::string(100, 'n'), "here");
  test::in_runtime([&]() -> task<> {
    auto opening = fs::file::open(std::string(path));
    auto moved = std::move(opening);
    const auto file = co_await std::move(moved);
    CHECK(file.value().size() == 4);
  });
}

TEST_CASE("write_at: grows the file; size() is as it was when it was opened, size_now() is not") {
  const test::temporary_folder folder;
  test::in_runtime([&]() -> task<> {
    auto file = (co_await fs::file::open(folder / "file", open_mode::create_new)).value();
    const auto n = co_await file.write_at(as_bytes("abc"), 5);
    CHECK(n.value() == 3);
    CHECK(file.size() == 0);
    CHECK(file.size_now().value() == 8);
    CHECK(folder.read("file") == std::string(5, '\0') + "abc");
    const auto none = co_await file.write_at({}, 100);
    CHECK(none.value() == 0);
    CHECK(file.size_now().value() == 8);
  });
}

TEST_CASE("several operations on a file at once") {
  const test::temporary_folder folder;
  const std::string bytes = test::pattern(64 * 1024);
  test::in_runtime([&]() -> task<> {
    auto file = (co_await fs::file::open(folder / "file", open_mode::create_new)).value();
    std::vector<join_handle<result<std::size_t>>> writers;
    for (std::size_t i = 0; i < 64; ++i) {
      writers.push_back(spawn(
          [](fs::file& to, const_byte_span piece, std::uint64_t at) -> task<result<std::size_t>> {
            co_return co_await to.write_at(piece, at);
          },
          std::ref(file), as_bytes(bytes).subspan(i * 1024, 1024), std::uint64_t{i * 1024}));
    }
    for (auto& writer : writers) {
      const auto n = co_await std::move(writer);
      CHECK(n.value() == 1024);
    }
    auto [first, second, all] = co_await when_all(text_at(file, 0, 1000), text_at(file, 30'000, 1000),
                                                  text_at(file, 0, bytes.size()));
    CHECK((first == bytes.substr(0, 1000)));
    CHECK((second == bytes.substr(30'000, 1000)));
    CHECK((all == bytes));
  });
}

TEST_CASE("read_at, write_at: beyond 2 and 4 GiB of a sparse file, and beyond what an offset can be") {
  const test::temporary_folder folder;
  test::in_runtime([&]() -> task<> {
    auto file = (co_await fs::file::open(folder / "sparse", open_mode::create_new)).value();
    for (const std::uint64_t offset : {(std::uint64_t{1} << 31) - 2, (std::uint64_t{1} << 32) - 2,
                                       std::uint64_t{5} << 30}) {
      const auto n = co_await file.write_at(as_bytes("far away"), offset);
      CHECK(n.value() == 8);
      CHECK(file.size_now().value() == offset + 8);
      const std::string got = co_await text_at(file, offset - 2, 10);
      CHECK(got == std::string("\0\0far away", 10));
    }
    std::array<std::byte, 1> byte{};
    for (const std::uint64_t offset : {std::uint64_t{1} << 63, ~std::uint64_t{0} - 1, ~std::uint64_t{0}}) {
      const auto read = co_await file.read_at(byte, offset);
      CHECK(read.error() == std::errc::invalid_argument);
      const auto written = co_await file.write_at(byte, offset);
      CHECK(written.error() == std::errc::invalid_argument);
    }
  });
}

TEST_CASE("write_at: a full file system is an error, after what still found room") {
  const test::temporary_folder folder;
  if (::mount("none", folder.path().c_str(), "tmpfs", 0, "size=64k") != 0) {
    test::skip("a tmpfs cannot be mounted");
    return;
  }
  test::in_runtime([&]() -> task<> {
    auto file = (co_await fs::file::open(folder / "file", open_mode::create_new)).value();
    const std::string bytes = test::pattern(100'000);
    std::size_t written = 0;
    std::error_code error;
    while (!error && written < bytes.size()) {
      const auto n = co_await file.write_at(as_bytes(bytes).subspan(written), written);
      error = n.error();
      written += n ? *n : 0;
    }
    CHECK(error == std::errc::no_space_on_device);
    CHECK(written == 64 * 1024);
    const auto closed = co_await file.close();
    CHECK(closed);
  });
  CHECK(::umount2(folder.path().c_str(), MNT_DETACH) == 0);
}

TEST_CASE("write_at: beyond the largest size of a file that the process may make") {
  const test::temporary_folder folder;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit small = before;
  small.rlim_cur = 1000;
  test::in_runtime([&]() -> task<> {
    auto file = (co_await fs::file::open(folder / "file", open_mode::create_new)).value();
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
    const std::string bytes(2000, 'x');
    const auto some = co_await file.write_at(as_bytes(bytes), 0);
    const auto none = co_await file.write_at(as_bytes(bytes), 1000);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(some.value() == 1000);
    CHECK(none.error() == std::errc::file_too_large);
  });
}

TEST_CASE("close: the descriptor is gone; what comes after is an error") {
  const test::temporary_folder folder;
  const std::string path = folder.write("file", "text");
  test::in_runtime([&]() -> task<> {
    auto file = (co_await fs::file::open(path)).value();
    const int fd = file.fd();
    const auto closed = co_await file.close();
    CHECK(closed);
    CHECK(!test::is_open(fd));
    CHECK(file.fd() == -1);
    std::array<std::byte, 4> buffer;
    const auto n = co_await file.read_at(buffer, 0);
    CHECK(n.error() == std::errc::bad_file_descriptor);
    CHECK(file.size_now().error() == std::errc::bad_file_descriptor);
    const auto again = co_await file.close();
    CHECK(again.error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("close: one that nobody awaits, and files that move and go, leave no descriptor") {
  const test::temporary_folder folder;
  const std::string path = folder.write("file", "text");
  const std::size_t before = test::open_descriptors();
  test::in_runtime([&]() -> task<> {
    const std::size_t running = test::open_descriptors();
    {
      auto file = (co_await fs::file::open(path)).value();
      { const auto never_awaited = file.close(); }
      CHECK(test::open_descriptors() == running);
      auto first = (co_await fs::file::open(path)).value();
      auto second = (co_await fs::file::open(path)).value();
      first = std::move(second);
      CHECK(test::open_descriptors() == running + 1);
      const std::string text = co_await text_at(first, 0, 10);
      CHECK(text == "text");
    }
    CHECK(test::open_descriptors() == running);
  });
  CHECK(test::open_descriptors() == before);
}

TEST_CASE("a stopped task opens, reads and writes no more, but it can close") {
  const test::temporary_folder folder;
  const std::string path = folder.write("file", "text");
  test::in_runtime([&]() -> task<> {
    auto file = (co_await fs::file::open(path)).value();
    auto stopped = spawn([](fs::file& f, const std::string& again) -> task<> {
      std::array<std::byte, 4> buffer{};
      const auto opened = co_await fs::file::open(again);
      CHECK(opened.error() == errc::operation_canceled);
      const auto read = co_await f.read_at(buffer, 0);
      CHECK(read.error() == errc::operation_canceled);
      const auto written = co_await f.write_at(buffer, 0);
      CHECK(written.error() == errc::operation_canceled);
      const auto closed = co_await f.close();
      CHECK(closed);
    }, std::ref(file), std::cref(path));
    stopped.request_stop();
    co_await std::move(stopped);
  });
  CHECK(folder.read("file") == "text");
}

TEST_CASE("a file is what it was given: an adopted descriptor, and a borrowed one of it") {
  const test::temporary_folder folder;
  const std::string path = folder.write("file", "adopted");
  test::in_runtime([&]() -> task<> {
    fs::file file{unique_fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC))};
    CHECK(file.size() == 7);
    const borrowed_fd borrowed = file;
    CHECK(borrowed.get() == file.fd());
    const std::string text = co_await text_at(file, 0, 100);
    CHECK(text == "adopted");
  });
}

TEST_CASE("sweep: open, write_at, read_at, close, stopped at every point") {
  const test::temporary_folder folder;
  const std::string bytes = test::pattern(100'000);
  const unsigned runs = test::sweep([&](runtime& rt) {
    rt.spawn([](const test::temporary_folder* where, const std::string* text) -> task<> {
      auto file = co_await fs::file::open(*where / "file", open_mode::truncate);
      if (!file) co_return;
      for (std::uint64_t at = 0; at < text->size(); at += 50'000) {
        const auto n = co_await file->write_at(as_bytes(*text).subspan(at, 50'000), at);
        if (!n) break;
      }
      std::vector<std::byte> buffer(text->size());
      const auto n = co_await file->read_at(buffer, 0);
      if (n && *n == text->size()) CHECK((as_text(buffer) == *text));
      const auto closed = co_await file->close();
      CHECK(closed);
    }, &folder, &bytes);
  });
  CHECK(runs >= 5);
}
