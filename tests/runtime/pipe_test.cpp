#include <keel/runtime/pipe.hpp>

#include <keel/kevent_sys/sim_engine.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <array>
#include <csignal>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <type_traits>

#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/in_child.hpp"
#include "support/in_runtime.hpp"
#include "support/sweep.hpp"
#include "support/virtual_time.hpp"

using keel::as_bytes;
using keel::errc;
using keel::make_pipe;
using keel::pipe_ends;
using keel::pipe_reader;
using keel::pipe_writer;
using keel::result;
using keel::task;
using keel::test::in_runtime;
using keel::test::some_turns;

static_assert(std::is_nothrow_move_constructible_v<pipe_reader> &&
              !std::is_copy_constructible_v<pipe_reader>);
static_assert(std::is_nothrow_move_assignable_v<pipe_writer> && !std::is_copy_assignable_v<pipe_writer>);

namespace {

// More than a pipe holds.
constexpr std::size_t large = 1 << 20;

task<result<std::string>> read_to_the_end(pipe_reader& from) {
  std::string all;
  std::array<std::byte, 4096> buffer;
  for (;;) {
    const auto n = co_await from.read(buffer);
    if (!n) co_return n.why();
    if (*n == 0) co_return all;
    all += keel::as_text(keel::const_byte_span(buffer).first(*n));
  }
}

task<result<void>> write_and_close(pipe_writer& to, std::string_view text) {
  const auto written = co_await to.write_all(as_bytes(text));
  co_await to.close();
  co_return written;
}

task<result<std::size_t>> read_some(pipe_reader& from) {
  std::array<std::byte, 16> buffer;
  const auto n = co_await from.read(buffer);
  co_return n;
}

}  // namespace

TEST_CASE("pipe: what is written is read, and 0 says that no writer is left") {
  in_runtime([]() -> task<> {
    auto ends = make_pipe().value();
    const auto written = co_await ends.writer.write(as_bytes("hello"));
    CHECK(*written == 5);
    std::array<std::byte, 16> buffer;
    const auto n = co_await ends.reader.read(buffer);
    REQUIRE(n);
    CHECK(keel::as_text(keel::const_byte_span(buffer).first(*n)) == "hello");
    co_await ends.writer.close();
    for (int i = 0; i < 2; ++i) {
      const auto end = co_await ends.reader.read(buffer);
      CHECK(*end == 0);
    }
  });
}

TEST_CASE("pipe: write_all writes more than the pipe holds, while it is read (F1)") {
  in_runtime([]() -> task<> {
    auto ends = make_pipe().value();
    const std::string text = keel::test::pattern(large);
    const auto both =
        co_await keel::when_all(write_and_close(ends.writer, text), read_to_the_end(ends.reader));
    CHECK(std::get<0>(both));
    CHECK(*std::get<1>(both) == text);
  });
}

TEST_CASE("pipe: nothing to write is written at once") {
  in_runtime([]() -> task<> {
    auto ends = make_pipe().value();
    const auto written = co_await ends.writer.write_all({});
    CHECK(written);
  });
}

TEST_CASE("pipe: a pipe without readers gives EPIPE, and no signal (F6)") {
  const auto end = keel::test::in_child([] {
    ::signal(SIGPIPE, SIG_DFL);
    int code = 0;
    keel::run([](int* seen) -> task<> {
      auto gone = make_pipe().value();
      co_await gone.reader.close();
      const auto at_once = co_await gone.writer.write(as_bytes("x"));
      if (at_once.error() != std::errc::broken_pipe) *seen += 1;

      // And where the write waits already.
      auto full = make_pipe().value();
      const std::string text = keel::test::pattern(large);
      auto writing = keel::spawn(&write_and_close, std::ref(full.writer), text);
      co_await some_turns();
      co_await full.reader.close();
      const auto later = co_await std::move(writing);
      if (later.error() != std::errc::broken_pipe) *seen += 2;
    }(&code));
    return code;
  });
  CHECK(end.signal == 0);
  CHECK_MESSAGE(end.exit_code == 0, end.said);
}

TEST_CASE("pipe: a read or a write that waits ends with a stop, and no byte is lost") {
  in_runtime([]() -> task<> {
    auto ends = make_pipe().value();
    auto reading = keel::spawn(&read_some, std::ref(ends.reader));
    co_await some_turns();
    reading.request_stop();
    const auto stopped = co_await std::move(reading);
    CHECK(stopped.error() == errc::operation_canceled);

    // Both at once: the read has the bytes, or leaves them to the next.
    auto racing = keel::spawn(&read_some, std::ref(ends.reader));
    co_await some_turns();
    const auto written = co_await ends.writer.write(as_bytes("hello"));
    CHECK(written);
    racing.request_stop();
    auto n = co_await std::move(racing);
    if (!n) {
      CHECK(n.error() == errc::operation_canceled);
      n = co_await read_some(ends.reader);
    }
    CHECK(*n == 5);

    const std::string text = keel::test::pattern(large);
    auto writing = keel::spawn(&write_and_close, std::ref(ends.writer), text);
    co_await some_turns();
    writing.request_stop();
    const auto gone = co_await std::move(writing);
    CHECK(gone.error() == errc::operation_canceled);
    const auto there = co_await read_to_the_end(ends.reader);
    CHECK(text.starts_with(*there));
  });
}

TEST_CASE("pipe: in a task that was stopped nothing begins") {
  in_runtime([]() -> task<> {
    auto ends = make_pipe().value();
    const auto written = co_await ends.writer.write(as_bytes("hello"));
    CHECK(written);
    auto reading = keel::spawn(&read_some, std::ref(ends.reader));
    reading.request_stop();
    const auto none = co_await std::move(reading);
    CHECK(none.error() == errc::operation_canceled);
    const auto n = co_await read_some(ends.reader);
    CHECK(*n == 5);
  });
}

TEST_CASE("pipe: close ends what is in flight and awaits it (D1, D2)") {
  in_runtime([]() -> task<> {
    const auto before = keel::test::open_descriptors();
    auto ends = make_pipe().value();
    auto reading = keel::spawn(&read_some, std::ref(ends.reader));
    co_await some_turns();
    co_await ends.reader.close();
    CHECK_FALSE(ends.reader.is_open());
    CHECK(reading.done());
    const auto stopped = co_await std::move(reading);
    CHECK(stopped.error() == errc::operation_canceled);

    auto full = make_pipe().value();
    const std::string text = keel::test::pattern(large);
    auto writing = keel::spawn(&write_and_close, std::ref(full.writer), text);
    co_await some_turns();
    co_await full.writer.close();
    const auto cut = co_await std::move(writing);
    CHECK(cut.error() == errc::operation_canceled);
    co_await full.reader.close();
    co_await full.reader.close();
    co_await ends.writer.close();
    CHECK(keel::test::open_descriptors() == before);
  });
}

TEST_CASE("pipe: what begins on a closed end fails") {
  in_runtime([]() -> task<> {
    pipe_reader none;
    CHECK_FALSE(none.is_open());
    const auto n = co_await read_some(none);
    CHECK(n.error() == std::errc::bad_file_descriptor);
    pipe_writer nothing;
    const auto written = co_await nothing.write_all(as_bytes("x"));
    CHECK(written.error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("pipe: cancel ends what is in flight, and the pipe is good for more") {
  in_runtime([]() -> task<> {
    auto ends = make_pipe().value();
    ends.reader.cancel();
    auto reading = keel::spawn(&read_some, std::ref(ends.reader));
    co_await some_turns();
    ends.reader.cancel();
    const auto stopped = co_await std::move(reading);
    CHECK(stopped.error() == errc::operation_canceled);
    const auto written = co_await ends.writer.write(as_bytes("more"));
    CHECK(written);
    const auto n = co_await read_some(ends.reader);
    CHECK(*n == 4);
  });
}

TEST_CASE("pipe: both ends are close-on-exec, may be moved, and give their descriptors back (D7)") {
  const auto before = keel::test::open_descriptors();
  {
    auto ends = make_pipe().value();
    CHECK(keel::test::is_close_on_exec(ends.reader.fd()));
    CHECK(keel::test::is_close_on_exec(ends.writer.fd()));
    const int fd = ends.reader.fd();
    pipe_reader moved = std::move(ends.reader);
    CHECK(moved.fd() == fd);
    CHECK_FALSE(ends.reader.is_open());
    pipe_reader other = make_pipe().value().reader;
    other = std::move(moved);
    CHECK(other.fd() == fd);
    const keel::unique_fd own = other.release();
    CHECK(own.get() == fd);
    CHECK_FALSE(other.is_open());
  }
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("pipe: where no descriptor is left there is an error, and nothing is left open") {
  const auto before = keel::test::open_descriptors();
  {
    const keel::test::descriptor_limit limit(1);
    CHECK(make_pipe().error() == std::errc::too_many_files_open);
  }
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("pipe: a simulated world has pipes of its own") {
  keel::kevent_sys::sim_world world({.real_descriptors = true});
  keel::runtime_options options;
  options.factory = world.factory();
  keel::run(
      [](keel::kevent_sys::sim_world& in) -> task<> {
        CHECK(make_pipe().error() == errc::not_supported);
        const auto made = in.pipe();
        pipe_ends ends{pipe_reader(keel::unique_fd(made.first)), pipe_writer(keel::unique_fd(made.second))};
        const std::string text = keel::test::pattern(large);
        const auto both =
            co_await keel::when_all(write_and_close(ends.writer, text), read_to_the_end(ends.reader));
        CHECK(std::get<0>(both));
        CHECK(*std::get<1>(both) == text);
        co_await ends.reader.close();
      }(world),
      options);
}

TEST_CASE("pipe: stopped at any point, a transfer leaves nothing behind") {
  struct session {
    pipe_ends ends = make_pipe().value();
    std::string text = keel::test::pattern(200'000);
  };
  const auto runs = keel::test::sweep([](keel::runtime& rt) {
    auto both = std::make_unique<session>();
    session& one = *both;
    rt.spawn([&one]() -> task<> {
      const auto written = co_await write_and_close(one.ends.writer, one.text);
      (void)written;
    });
    rt.spawn([&one]() -> task<> {
      const auto all = co_await read_to_the_end(one.ends.reader);
      (void)all;
    });
    return both;
  });
  CHECK(runs > 3);
}

TEST_CASE("pipe: two readers at once, and an end that goes while it is read, are bugs") {
  auto two = []() -> task<> {
    auto ends = make_pipe().value();
    (void)co_await keel::when_all(read_some(ends.reader), read_some(ends.reader));
  };
  CHECK_DEATH(keel::run(two()), "one reader and one writer at a time");
  auto gone = []() -> task<> {
    auto ends = make_pipe().value();
    auto reading = keel::spawn(&read_some, std::ref(ends.reader));
    co_await some_turns();
    ends.reader = pipe_reader();
  };
  CHECK_DEATH(keel::run(gone()), "a pipe was destroyed while an operation is in flight");
  auto moved = []() -> task<> {
    auto ends = make_pipe().value();
    auto reading = keel::spawn(&read_some, std::ref(ends.reader));
    co_await some_turns();
    pipe_reader other = std::move(ends.reader);
  };
  CHECK_DEATH(keel::run(moved()), "a pipe was moved while it is in use");
}

TEST_CASE("pipe: room for no byte and no byte to write are bugs") {
  auto ends = make_pipe().value();
  CHECK_DEATH((void)ends.reader.read({}), "a read needs room for at least one byte");
  CHECK_DEATH((void)ends.writer.write({}), "a write needs at least one byte");
}
