#include <keel/runtime/fd_watch.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <unistd.h>
#include <functional>
#include <memory>
#include <ostream>

#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_runtime.hpp"
#include "support/sweep.hpp"
#include "support/temporary_folder.hpp"

using namespace std::chrono_literals;
namespace fd_event = keel::fd_event;
using keel::errc;
using keel::fd_watch;
using keel::result;
using keel::task;
using keel::test::in_runtime;
using keel::test::pause;
using keel::test::some_turns;

namespace {

task<> put_later(const keel::test::fd_pair& pair) {
  co_await some_turns();
  pair.put("x");
}
task<result<std::uint32_t>> until_readable(fd_watch& watch) {
  co_return co_await watch.readable();
}

}  // namespace

TEST_CASE("fd_watch: readable ends when there is something to read, and again while there is") {
  in_runtime([]() -> task<> {
    const auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    auto putting = keel::spawn(put_later, std::cref(pair));
    // Nobody reads: what is ready stays ready.
    for (int i = 0; i < 3; ++i) {
      const auto ready = co_await watch.readable();
      CHECK(ready.value() == fd_event::readable);
    }
    co_await std::move(putting);
    char byte = 0;
    CHECK(::read(pair.ours.get(), &byte, 1) == 1);
    const auto none = co_await keel::with_timeout(1ms, watch.readable());
    CHECK(none.error() == errc::timed_out);
  });
}

TEST_CASE("fd_watch: writable waits for room") {
  in_runtime([]() -> task<> {
    const auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    const auto empty = co_await watch.writable();
    CHECK(empty.value() == fd_event::writable);
    char bytes[4096] = {};
    while (::write(pair.ours.get(), bytes, sizeof bytes) > 0) {
    }
    const auto full = co_await keel::with_timeout(1ms, watch.writable());
    CHECK(full.error() == errc::timed_out);
    while (::read(pair.theirs.get(), bytes, sizeof bytes) > 0) {
    }
    const auto room = co_await watch.writable();
    CHECK(room.value() == fd_event::writable);
  });
}

TEST_CASE("fd_watch: wait tells what is ready of what was asked for") {
  in_runtime([]() -> task<> {
    const auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    const auto one = co_await watch.wait(fd_event::readable | fd_event::writable);
    CHECK(one.value() == fd_event::writable);
    pair.put("x");
    const auto both = co_await watch.wait(fd_event::readable | fd_event::writable);
    CHECK(both.value() == (fd_event::readable | fd_event::writable));
  });
}

TEST_CASE("fd_watch: a peer that closes is told as hung_up, also to who waits already") {
  in_runtime([]() -> task<> {
    auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    auto waiting = keel::spawn(until_readable, std::ref(watch));
    co_await some_turns();
    pair.theirs.reset();
    const auto woken = co_await std::move(waiting);
    CHECK((woken.value() & fd_event::hung_up) != 0);
    const auto nothing_asked = co_await watch.wait(0);
    CHECK(nothing_asked.value() == fd_event::hung_up);
    const auto closed = co_await watch.wait(fd_event::peer_closed);
    CHECK((closed.value() & fd_event::peer_closed) != 0);
  });
}

TEST_CASE("fd_watch: a pipe whose reader has gone is told as an error to the writer") {
  in_runtime([]() -> task<> {
    auto pair = keel::test::pipe_pair(O_NONBLOCK);
    fd_watch watch(pair.theirs.get());
    pair.ours.reset();
    const auto ready = co_await watch.writable();
    CHECK((ready.value() & fd_event::error) != 0);
  });
}

TEST_CASE("fd_watch: a regular file is always ready") {
  in_runtime([]() -> task<> {
    const keel::test::temporary_folder folder;
    const keel::unique_fd file(::open((folder / "file").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    REQUIRE(file);
    fd_watch watch(file.get());
    const auto in = co_await watch.readable();
    CHECK(in.value() == fd_event::readable);
    const auto out = co_await watch.writable();
    CHECK(out.value() == fd_event::writable);
  });
}

TEST_CASE("fd_watch: a number that is no descriptor is EBADF") {
  in_runtime([]() -> task<> {
    auto pair = keel::test::unix_pair();
    const int number = pair.ours.get();
    pair.ours.reset();
    fd_watch closed(number);
    const auto in = co_await closed.readable();
    CHECK(in.error() == std::errc::bad_file_descriptor);
    fd_watch none(-1);
    const auto out = co_await none.writable();
    CHECK(out.error() == std::errc::bad_file_descriptor);
  });
}

TEST_CASE("fd_watch: a number that the library closed and got again is the new file") {
  in_runtime([]() -> task<> {
    auto first = keel::test::unix_pair();
    const int number = first.ours.get();
    first.put("old");
    {
      fd_watch watch(number);
      const auto ready = co_await watch.readable();
      CHECK(ready);
      const auto busy = co_await keel::with_timeout(1ms, watch.wait(fd_event::urgent));
      CHECK(busy.error() == errc::timed_out);
    }
    auto second = keel::test::unix_pair();
    REQUIRE(::dup2(second.ours.get(), number) == number);
    second.ours.reset();
    fd_watch watch(number);
    const auto none = co_await keel::with_timeout(1ms, watch.readable());
    CHECK(none.error() == errc::timed_out);
    second.put("new");
    const auto ready = co_await watch.readable();
    CHECK(ready.value() == fd_event::readable);
  });
}

TEST_CASE("fd_watch: a stop ends the wait, before it and during it, and takes nothing") {
  in_runtime([]() -> task<> {
    const auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    for (const bool during : {false, true}) {
      auto waiting = keel::spawn(until_readable, std::ref(watch));
      if (during) co_await some_turns();
      waiting.request_stop();
      const auto ended = co_await std::move(waiting);
      CHECK(ended.error() == errc::operation_canceled);
    }
    pair.put("x");
    const auto ready = co_await watch.readable();
    CHECK(ready.value() == fd_event::readable);
  });
}

TEST_CASE("fd_watch: a graceful stop does not end a wait") {
  in_runtime([]() -> task<> {
    const auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    auto waiting = keel::spawn(until_readable, std::ref(watch));
    waiting.request_stop(keel::stop_level::graceful);
    co_await some_turns();
    pair.put("x");
    const auto ended = co_await std::move(waiting);
    CHECK(ended.value() == fd_event::readable);
  });
}

TEST_CASE("fd_watch: cancel ends all waits, and later ones wait anew") {
  in_runtime([]() -> task<> {
    const auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    watch.cancel();
    auto one = keel::spawn(until_readable, std::ref(watch));
    auto urgent = [](fd_watch& w) -> task<result<std::uint32_t>> {
      co_return co_await w.wait(fd_event::urgent);
    };
    auto other = keel::spawn(urgent, std::ref(watch));
    co_await some_turns();
    watch.cancel();
    const auto first = co_await std::move(one);
    CHECK(first.error() == errc::operation_canceled);
    const auto second = co_await std::move(other);
    CHECK(second.error() == errc::operation_canceled);
    pair.put("x");
    const auto ready = co_await watch.readable();
    CHECK(ready.value() == fd_event::readable);
  });
}

TEST_CASE("fd_watch: one waits for each direction at the same time") {
  in_runtime([]() -> task<> {
    const auto pair = keel::test::unix_pair();
    fd_watch watch(pair.ours.get());
    auto putting = keel::spawn(put_later, std::cref(pair));
    const auto all =
        co_await keel::when_all(watch.readable(), watch.writable(), watch.wait(fd_event::readable));
    CHECK(std::get<0>(all).value() == fd_event::readable);
    CHECK(std::get<1>(all).value() == fd_event::writable);
    CHECK(std::get<2>(all).value() == fd_event::readable);
    co_await std::move(putting);
  });
}

TEST_CASE("fd_watch: stopped at every point it leaves nothing behind") {
  struct world {
    keel::test::fd_pair pair = keel::test::unix_pair();
    fd_watch watch{pair.ours.get()};
  };
  auto reads = [](world& w) -> task<> {
    for (int i = 0; i < 5; ++i) {
      const auto ready = co_await w.watch.readable();
      if (!ready) co_return;
      char byte = 0;
      CHECK(::read(w.pair.ours.get(), &byte, 1) == 1);
    }
  };
  auto writes = [](world& w) -> task<> {
    for (int i = 0; i < 5; ++i) {
      co_await pause(0s);
      w.pair.put("x");
    }
  };
  const unsigned runs = keel::test::sweep([&](keel::runtime& rt) {
    auto made = std::make_unique<world>();
    rt.spawn(reads, std::ref(*made));
    rt.spawn(writes, std::ref(*made));
    return made;
  });
  CHECK(runs > 5);
}

TEST_CASE("fd_watch: misuse says what is wrong") {
  const auto pair = keel::test::unix_pair();
  auto two = [](int fd) -> task<> {
    fd_watch watch(fd);
    static_cast<void>(co_await keel::when_all(watch.readable(), watch.readable()));
  };
  CHECK_DEATH(keel::run(two(pair.ours.get())), "one reader and one writer at a time");
  auto leaves = [](int fd) -> task<> {
    auto watch = std::make_unique<fd_watch>(fd);
    auto waiting = keel::spawn(until_readable, std::ref(*watch));
    co_await some_turns();
    watch.reset();
  };
  CHECK_DEATH(keel::run(leaves(pair.ours.get())), "an fd_watch was destroyed while somebody waits");
  auto unknown = [](int fd) -> task<> {
    fd_watch watch(fd);
    static_cast<void>(co_await watch.wait(1u << 20));
  };
  CHECK_DEATH(keel::run(unknown(pair.ours.get())), "a set of fd_event");
}
