#include <keel/runtime/handle.hpp>

#include <keel/runtime/blocking.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/in_runtime.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::handle;
using keel::result;
using keel::runtime;
using keel::scheduler;
using keel::sleep_for;
using keel::stop_level;
using keel::task;

namespace {

task<> until_stopped() {
  static_cast<void>(co_await sleep_for(1h));
}

// A runtime on a thread of its own that runs until it is stopped.
class served {
 public:
  explicit served(const keel::runtime_options& options = {}) : rt_(options) {
    rt_.spawn(until_stopped);
    thread_ = std::thread([this] { rt_.run(); });
  }
  ~served() { end(); }
  void end() {
    if (!thread_.joinable()) return;
    rt_.request_stop();
    thread_.join();
  }
  runtime& rt() { return rt_; }

 private:
  runtime rt_;
  std::thread thread_;
};

}  // namespace

TEST_CASE("handle: run gives a foreign thread what the task gives, or throws what it throws") {
  served s;
  const handle h = s.rt().handle();
  auto adds = [](int a, std::unique_ptr<int> b) -> task<int> {
    static_cast<void>(co_await sleep_for(1ms));
    co_return a + *b;
  };
  const result<int> sum = h.run(adds, 1, std::make_unique<int>(2));
  CHECK(sum.value() == 3);
  auto fails = []() -> task<result<int>> { co_return keel::failure(errc::timed_out, "it"); };
  const result<int> failed = h.run(fails);
  CHECK(failed.error() == errc::timed_out);
  bool ran = false;
  const result<void> nothing = h.run([&ran]() -> task<> {
    ran = scheduler::current() != nullptr;
    co_return;
  });
  CHECK(nothing);
  CHECK(ran);
  auto throws = []() -> task<> {
    static_cast<void>(co_await sleep_for(1ms));
    throw std::runtime_error("no");
  };
  CHECK_THROWS_AS(static_cast<void>(h.run(throws)), std::runtime_error);
  auto throws_before = []() -> task<> { throw std::runtime_error("no"); };
  CHECK_THROWS_AS(static_cast<void>(h.run(throws_before)), std::runtime_error);
}

TEST_CASE("handle: a reference given to run is one") {
  served s;
  auto increments = [](int& n) -> task<> {
    ++n;
    co_return;
  };
  int n = 0;
  CHECK(s.rt().handle().run(increments, n));
  CHECK(n == 1);
}

TEST_CASE("handle: post calls a function on the scheduler, in the order of the posts of a thread") {
  served s;
  const handle h(s.rt());
  std::vector<int> order;
  std::thread::id where;
  for (int i = 0; i < 100; ++i) {
    CHECK(h.post([&order, &where, i] {
      order.push_back(i);
      where = std::this_thread::get_id();
    }));
  }
  const auto there = h.run([]() -> task<std::thread::id> { co_return std::this_thread::get_id(); });
  CHECK(where == there.value());
  REQUIRE(order.size() == 100);
  for (int i = 0; i < 100; ++i) CHECK(order[std::size_t(i)] == i);
}

TEST_CASE("handle: what post is given may be moved only, and goes after the call") {
  served s;
  const handle h(s.rt());
  const auto token = std::make_shared<int>(4);
  std::atomic<int> sum{0};
  CHECK(h.post([&sum, one = std::make_unique<int>(4), other = token] { sum += *one + *other; }));
  CHECK(h.run([]() -> task<> { co_return; }));
  CHECK(sum == 8);
  CHECK(token.use_count() == 1);
}

TEST_CASE("handle: spawn runs a task with its arguments") {
  served s;
  const handle h(s.rt());
  std::atomic<int> sum{0};
  auto adds = [](std::atomic<int>& to, std::unique_ptr<int> n) -> task<> {
    static_cast<void>(co_await sleep_for(1us));
    to += *n;
    to.notify_all();
  };
  CHECK(h.spawn(adds, std::ref(sum), std::make_unique<int>(9)));
  sum.wait(0);
  CHECK(sum == 9);
}

TEST_CASE("handle: an exception of a posted function goes to the runtime's handler") {
  static std::atomic<int> seen{0};
  seen = 0;
  keel::runtime_options options;
  options.on_exception = [](const keel::task_description&, std::exception_ptr) { ++seen; };
  served s(options);
  const handle h(s.rt());
  CHECK(h.post([] { throw std::runtime_error("no"); }));
  CHECK(h.run([]() -> task<> { co_return; }));
  CHECK(seen == 1);
}

TEST_CASE("handle: a post counts as a task: run does not end before it was done") {
  runtime rt;
  const handle h = rt.handle();
  int done = 0;
  CHECK(h.post([&done, &h] {
    ++done;
    h.post([&done] { ++done; });
  }));
  rt.run();
  CHECK(done == 2);
}

TEST_CASE("handle: of each scheduler") {
  served s({.cpus = 2});
  for (unsigned i = 0; i < 2; ++i) {
    const auto index =
        s.rt().handle(i).run([]() -> task<unsigned> { co_return scheduler::current()->index(); });
    CHECK(index.value() == i);
  }
}

TEST_CASE("handle: request_stop ends the tasks") {
  runtime rt;
  rt.spawn(until_stopped);
  const handle h = rt.handle();
  std::thread stopper([h] { CHECK(h.request_stop()); });
  rt.run();
  stopper.join();
}

TEST_CASE("handle: refused once the runtime has ended") {
  std::optional<handle> h;
  {
    runtime rt;
    h = rt.handle();
    rt.run();
  }
  const handle copy = *h;
  bool called = false;
  CHECK(!copy.post([&called] { called = true; }));
  CHECK(!copy.spawn(until_stopped));
  CHECK(!copy.request_stop());
  const auto ended = copy.run([]() -> task<int> { co_return 1; });
  CHECK(ended.error() == errc::operation_canceled);
  CHECK(!called);
}

TEST_CASE("handle: what was accepted and comes too late is dropped, and destroyed") {
  const keel::test::frame_balance frames;
  const auto token = std::make_shared<int>(0);
  bool called = false;
  {
    runtime rt;
    const handle h = rt.handle();
    CHECK(h.post([&called, token] { called = true; }));
    CHECK(h.spawn([](std::shared_ptr<int>) -> task<> { co_return; }, token));
  }
  CHECK(!called);
  CHECK(token.use_count() == 1);
}

TEST_CASE("handle: a task that ends may wait for a post, also in the runtime's destructor") {
  std::thread foreign;
  bool told = false;
  auto cleans_up = [](std::thread& other, bool& t) -> task<> {
    static_cast<void>(co_await sleep_for(1h));
    // Stopped: what it lent to another thread has to come back.
    const handle h = scheduler::current()->owner().handle();
    other = std::thread([h, &t] { CHECK(h.post([&t] { t = true; })); });
    co_await keel::blocking([&other] { other.join(); });
    while (!t) co_await keel::blocking([] { std::this_thread::yield(); });
  };
  {
    runtime rt;
    rt.spawn(cleans_up, std::ref(foreign), std::ref(told));
    rt.run_ready();
  }
  CHECK(told);
}

TEST_CASE("handle: after a hard stop no task is begun") {
  runtime rt;
  const handle h = rt.handle();
  rt.request_stop();
  rt.run_ready();
  bool called = false;
  bool spawned = false;
  auto sets = [](bool& s) -> task<> {
    s = true;
    co_return;
  };
  CHECK(h.spawn(sets, std::ref(spawned)));
  CHECK(h.post([&called] { called = true; }));
  result<void> ended;
  std::atomic<bool> answered{false};
  std::thread foreign([&] {
    ended = h.run(sets, spawned);
    answered = true;
  });
  while (!called || !answered) rt.run_ready();
  foreign.join();
  CHECK(ended.error() == errc::operation_canceled);
  CHECK(!spawned);
}

TEST_CASE("handle: run in a runtime that is stopped meanwhile ends with what the task says") {
  served s;
  const handle h(s.rt());
  auto sleeps = [](std::atomic<bool>& began) -> task<result<void>> {
    began = true;
    began.notify_all();
    co_return co_await sleep_for(1h);
  };
  std::atomic<bool> began{false};
  result<void> ended;
  std::thread foreign([&] { ended = h.run(sleeps, began); });
  began.wait(false);
  CHECK(h.request_stop());
  foreign.join();
  CHECK(ended.error() == errc::operation_canceled);
}

TEST_CASE("handle: threads that race the end of the runtime are served or refused, and nothing is lost") {
  auto turns = [](std::shared_ptr<int>) -> task<> { co_await keel::test::some_turns(1); };
  for (int round = 0; round < 40; ++round) {
    const auto token = std::make_shared<int>(0);
    std::atomic<int> accepted{0};
    std::atomic<int> called{0};
    std::atomic<bool> over{false};
    std::vector<std::thread> threads;
    {
      std::atomic<int> ready{0};
      std::optional<runtime> rt;
      rt.emplace(keel::runtime_options{.cpus = 1 + round % 2});
      rt->spawn(until_stopped);
      for (unsigned i = 0; i < 4; ++i) {
        threads.emplace_back([&, h = rt->handle(i % rt->size()), i] {
          ++ready;
          for (int k = 0; !over; ++k) {
            // Every now and then it waits: whoever only posts is faster than whoever is told.
            if (k % 8 == 7) {
              const auto ended = h.run([]() -> task<int> { co_return 5; });
              if (ended) CHECK(*ended == 5);
              if (!ended) CHECK(ended.error() == errc::operation_canceled);
            } else if (i % 2 == 0) {
              if (h.post([&called, token] { ++called; })) ++accepted;
            } else {
              h.spawn(turns, token);
            }
          }
        });
      }
      threads.emplace_back([&, h = rt->handle()] {
        while (ready < 4) std::this_thread::yield();
        // Some rounds end while they run, some when they are destroyed.
        if (round % 4 < 2) {
          CHECK(h.request_stop());
        } else {
          h.post([&] { rt->request_stop(); });
        }
      });
      rt->run();
      rt.reset();
    }
    over = true;
    for (std::thread& t : threads) t.join();
    CHECK(called <= accepted);
    threads.clear();
    CHECK(token.use_count() == 1);
  }
}

TEST_CASE("handle: run on a scheduler's own thread is a bug") {
  auto waits_for_itself = []() -> task<> {
    const handle h = scheduler::current()->owner().handle();
    static_cast<void>(h.run(until_stopped));
    co_return;
  };
  CHECK_DEATH(keel::run(waits_for_itself()), "handle::run() blocks its thread");
  runtime rt;
  CHECK_DEATH(static_cast<void>(rt.handle(1)), "a scheduler that the runtime does not have");
}
