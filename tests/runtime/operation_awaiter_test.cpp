#include <keel/runtime/operation_awaiter.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/when_any.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <functional>
#include <ostream>
#include <string>
#include <type_traits>
#include <vector>

#include "support/death_test.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::io_direction;
using keel::operation_awaiter;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::kevent_sys::opcode;
using keel::kevent_sys::sim_cancel;
using keel::kevent_sys::sim_world;

namespace {

constexpr int fd = 7;

// A poll, with everything that an operation may ask for.
class test_op : public operation_awaiter {
 public:
  test_op() noexcept : operation_awaiter({.code = opcode::poll, .fd = fd}) {}
  test_op(test_op&&) = default;

  test_op on(io_direction& direction) && noexcept {
    occupy(direction);
    return test_op(std::move(*this));
  }
  test_op known(std::int32_t value) && noexcept {
    answer_now(value);
    return test_op(std::move(*this));
  }
  test_op ended_by(keel::stop_level level) && noexcept {
    stop_at(level);
    return test_op(std::move(*this));
  }
  test_op unstoppable() && noexcept {
    never_stop();
    return test_op(std::move(*this));
  }
  // Answers are added up until one is 0 or an error.
  test_op summing() && noexcept {
    steps_with([](operation_awaiter& self) noexcept {
      auto& me = static_cast<test_op&>(self);
      if (me.value() > 0) me.sum_ += static_cast<std::size_t>(me.value());
      return me.value() > 0;
    });
    return test_op(std::move(*this));
  }

  result<std::size_t> take() noexcept {
    if (sum_ != 0 && value() >= 0) return sum_;
    return size_or_error("test");
  }

 private:
  std::size_t sum_ = 0;
};

static_assert(!std::is_copy_constructible_v<test_op>);
static_assert(keel::awaitable<test_op>);

// A runtime whose polls a test answers.
struct world {
  sim_world sim;
  keel::runtime rt{{.factory = sim.factory()}};

  keel::kevent_sys::sim_engine& engine() { return sim.engine(); }
  void expect(std::int32_t value, keel::duration delay = {}, sim_cancel on_cancel = sim_cancel::ends_it) {
    engine().expect(opcode::poll, fd,
                    {.value = value, .delay_ns = keel::delay_ns(delay), .on_cancel = on_cancel});
  }
  // Runs fn(args...) to its end.
  template <class Fn, class... Args>
  void run(Fn fn, Args... args) {
    rt.spawn(fn, args...);
    rt.run();
  }
};

}  // namespace

TEST_CASE("operation: its answer is a size or an error that says what was tried") {
  world w;
  w.expect(5);
  w.expect(-ECONNRESET);
  w.run([]() -> task<> {
    const auto five = co_await test_op();
    CHECK(*five == 5);
    const auto reset = co_await test_op();
    CHECK(reset.error() == std::errc::connection_reset);
    CHECK(reset.why().doing == std::string("test"));
  });
  CHECK(w.rt.at(0).queue().in_flight() == 0);
}

TEST_CASE("operation: nothing is submitted before it is awaited") {
  world w;
  {
    const test_op never_awaited;
  }
  w.expect(1);
  w.run([](world& where) -> task<> {
    test_op idle;
    test_op moved = std::move(idle);
    CHECK(where.engine().submitted(opcode::poll, fd) == 0);
    const auto got = co_await std::move(moved);
    CHECK(got);
    CHECK(where.engine().submitted(opcode::poll, fd) == 1);
  }, std::ref(w));
}

TEST_CASE("operation: what is known beforehand is not submitted, and no stop takes it away") {
  world w;
  w.run([](world& where) -> task<> {
    auto known = []() -> task<result<std::size_t>> { co_return co_await test_op().known(3); };
    auto handle = keel::spawn(known);
    handle.request_stop();
    const auto got = co_await std::move(handle);
    CHECK(*got == 3);
    CHECK(where.engine().submitted(opcode::poll, fd) == 0);
  }, std::ref(w));
}

TEST_CASE("operation: a stop cancels it, and its own answer says what became of it") {
  world w;
  auto waits = []() -> task<result<std::size_t>> { co_return co_await test_op(); };
  w.expect(1, 1h);
  w.expect(2, 1h, sim_cancel::loses);
  w.expect(3, 1h, sim_cancel::ignored);
  w.run([](auto wait) -> task<> {
    const auto start = keel::test::now();
    const auto stopped = [](auto one) -> task<result<std::size_t>> {
      auto handle = keel::spawn(one);
      static_cast<void>(co_await sleep_for(1s));
      handle.request_stop();
      co_return co_await std::move(handle);
    };
    const auto canceled = co_await stopped(wait);
    CHECK(canceled.error() == errc::operation_canceled);
    const auto too_late = co_await stopped(wait);
    CHECK(*too_late == 2);
    CHECK(keel::test::now() - start < 1min);
    // The end is awaited, however long it takes.
    const auto ignored = co_await stopped(wait);
    CHECK(*ignored == 3);
    CHECK(keel::test::now() - start >= 1h);
  }, waits);
}

TEST_CASE("operation: in a task that was stopped it does not start, unless it is not stoppable") {
  world w;
  w.expect(1);
  w.run([](world& where) -> task<> {
    auto tries = []() -> task<> {
      const auto none = co_await test_op();
      CHECK(none.error() == errc::operation_canceled);
      const auto anyway = co_await test_op().unstoppable();
      CHECK(*anyway == 1);
    };
    auto handle = keel::spawn(tries);
    handle.request_stop();
    co_await std::move(handle);
    CHECK(where.engine().submitted(opcode::poll, fd) == 1);
  }, std::ref(w));
}

TEST_CASE("operation: it may end at a graceful stop, or at none") {
  world w;
  w.expect(1, 1h);
  w.expect(2, 1h);
  w.expect(3, 1h);
  w.run([]() -> task<> {
    auto ended_by = [](keel::stop_level level) -> task<result<std::size_t>> {
      co_return co_await test_op().ended_by(level);
    };
    auto never = []() -> task<result<std::size_t>> { co_return co_await test_op().unstoppable(); };
    auto graceful = keel::spawn(ended_by, keel::stop_level::graceful);
    auto hard = keel::spawn(ended_by, keel::stop_level::hard);
    auto not_at_all = keel::spawn(never);
    static_cast<void>(co_await sleep_for(1s));
    for (auto* handle : {&graceful, &hard, &not_at_all}) handle->request_stop(keel::stop_level::graceful);
    not_at_all.request_stop();
    const auto first = co_await std::move(graceful);
    CHECK(first.error() == errc::operation_canceled);
    const auto second = co_await std::move(hard);
    CHECK(*second == 2);
    const auto third = co_await std::move(not_at_all);
    CHECK(*third == 3);
  });
}

TEST_CASE("operation: several steps are one wait, which a stop ends between two of them") {
  world w;
  for (const int part : {1, 2, 3, 0}) w.expect(part, 1s);
  w.run([](world& where) -> task<> {
    const auto sum = co_await test_op().summing();
    CHECK(*sum == 6);
    CHECK(where.engine().submitted(opcode::poll, fd) == 4);

    // The first step is faster than the cancel: there is no second.
    where.expect(1, 1h, sim_cancel::loses);
    const auto stopped = co_await keel::with_timeout(1s, test_op().summing());
    CHECK(stopped.error() == errc::timed_out);
    CHECK(where.engine().submitted(opcode::poll, fd) == 5);
  }, std::ref(w));
}

TEST_CASE("operation: of several at once each has its own answer") {
  world w;
  w.expect(1, 3s);
  w.expect(2, 1s);
  w.expect(3, 1h);
  w.run([]() -> task<> {
    const auto both = co_await keel::when_all(test_op(), test_op());
    CHECK(*std::get<0>(both) == 1);
    CHECK(*std::get<1>(both) == 2);
    const auto first = co_await keel::when_any(sleep_for(1s), test_op());
    CHECK(first.index == 0);
    CHECK(std::get<1>(first.values)->error() == errc::operation_canceled);
  });
}

namespace {

// Is told when a direction has become free.
struct free_listener : keel::runnable {
  explicit free_listener(int& n) : runnable([](runnable& self) noexcept {
    ++static_cast<free_listener&>(self).count;
  }), count(n) {}
  int& count;
};

}  // namespace

TEST_CASE("io_direction: is busy while its operation is in flight, and tells when it is free") {
  world w;
  w.expect(1, 1s);
  w.run([]() -> task<> {
    io_direction in;
    int told = 0;
    free_listener listener(told);
    auto use = [](io_direction& direction) -> task<> {
      const auto got = co_await test_op().on(direction);
      CHECK(got);
      CHECK(direction.busy == nullptr);
    };
    auto handle = keel::spawn(use, std::ref(in));
    static_cast<void>(co_await sleep_for(1ms));
    REQUIRE(in.busy != nullptr);
    in.tell_when_free(listener);
    co_await std::move(handle);
    static_cast<void>(co_await sleep_for(0s));
    CHECK(told == 1);
  });
}

TEST_CASE("io_direction: a cancel also ends what has several steps, after the one that it is at") {
  world w;
  w.expect(1, 1h, sim_cancel::loses);
  w.run([](world& where) -> task<> {
    io_direction out;
    auto use = [](io_direction& direction) -> task<> {
      const auto got = co_await test_op().on(direction).summing();
      CHECK(got.error() == errc::operation_canceled);
    };
    auto handle = keel::spawn(use, std::ref(out));
    static_cast<void>(co_await sleep_for(1ms));
    out.cancel();
    co_await std::move(handle);
    CHECK(where.engine().submitted(opcode::poll, fd) == 1);
  }, std::ref(w));
}

TEST_CASE("io_direction: cancel ends what is in flight, and does nothing when it is free") {
  world w;
  w.expect(1, 1h);
  w.run([]() -> task<> {
    io_direction in;
    in.cancel();
    auto use = [](io_direction& direction) -> task<> {
      const auto got = co_await test_op().on(direction);
      CHECK(got.error() == errc::operation_canceled);
    };
    auto handle = keel::spawn(use, std::ref(in));
    static_cast<void>(co_await sleep_for(1ms));
    in.cancel();
    in.cancel();
    co_await std::move(handle);
  });
}

namespace {

// Runs `main` where a poll waits for an hour.
void run_with_slow_poll(task<> (*main)()) {
  world w;
  w.expect(1, 1h);
  w.expect(1, 1h);
  w.run(main);
}

task<> two_in_one_direction() {
  io_direction in;
  static_cast<void>(co_await keel::when_all(test_op().on(in), test_op().on(in)));
}

task<> awaited_twice() {
  test_op once;
  static_cast<void>(co_await std::move(once));
  static_cast<void>(co_await std::move(once));
}

// Does what no coroutine can: leaves an operation while it is in flight.
task<> left_in_flight() {
  keel::waiter nobody(
      [](keel::waiter*) noexcept -> std::coroutine_handle<> { return std::noop_coroutine(); });
  test_op operation;
  operation.start(nobody, keel::scheduler::current()->tasks().context());
  co_return;
}

}  // namespace

TEST_CASE("operation: two in one direction, awaiting twice and leaving one in flight are bugs") {
  CHECK_DEATH(run_with_slow_poll(two_in_one_direction), "one reader and one writer at a time");
  CHECK_DEATH(run_with_slow_poll(awaited_twice), "an operation is awaited once");
  CHECK_DEATH(run_with_slow_poll(left_in_flight), "destroyed while");
}
