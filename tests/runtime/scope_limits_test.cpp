// What a scope limits, and the waits for its children.
#include <keel/runtime/scope.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/scope_children.hpp"
#include "support/sweep.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::scope;
using keel::sleep_for;
using keel::stop_level;
using keel::task;
using keel::test::finisher;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::sleeper;
using keel::test::throwing;
using keel::test::thrown_by;
using keel::test::tracked;
using keel::test::tracked_balance;

TEST_CASE("scope: room() waits while children_max children live, in the order of those who asked") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    int ended = 0;
    std::size_t most = 0;
    const auto before = now();
    auto body = [&](scope& children) -> task<> {
      for (int i = 0; i < 10; ++i) {
        const auto room = co_await children.room();
        CHECK(room);
        children.spawn(sleeper, 1s, std::ref(ended));
        most = std::max(most, children.size());
      }
    };
    co_await scope(body, {.children_max = 3});
    CHECK(ended == 10);
    CHECK(most == 3);
    CHECK(now() - before >= 4s);
    CHECK(now() - before < 5s);
  }());
}

TEST_CASE(
    "scope: several that wait for room keep the limit, and one that does not use its room hurts nobody") {
  run_simulated([]() -> task<> {
    struct world {
      scope* of = nullptr;
      int begun = 0;
      std::size_t most = 0;
    } all;
    auto work = [](world& w) -> task<> {
      ++w.begun;
      w.most = std::max(w.most, w.of->size());
      static_cast<void>(co_await sleep_for(1s));
    };
    auto acceptor = [](world& w, int count, auto job) -> task<> {
      for (int i = 0; i < count; ++i) {
        const auto room = co_await w.of->room();
        CHECK(room);
        // Each third one thinks better of it.
        if (i % 3 != 2) w.of->spawn(job, std::ref(w));
      }
    };
    auto inner = [&](scope& workers) -> task<> {
      all.of = &workers;
      co_await scope([&](scope& acceptors) -> task<> {
        for (int i = 0; i < 4; ++i) acceptors.spawn(acceptor, std::ref(all), 6, work);
        co_return;
      });
    };
    co_await scope(inner, {.children_max = 5});
    CHECK(all.begun == 16);
    CHECK(all.most <= 5);
  }());
}

TEST_CASE("scope: a wait for room ends at a graceful stop, with operation_canceled") {
  run_simulated([]() -> task<> {
    int finished = 0;
    errc why = {};
    auto body = [&](scope& children) -> task<> {
      children.spawn(finisher, 5s, std::ref(finished));
      children.spawn(
          [](scope& of) -> task<> {
            static_cast<void>(co_await sleep_for(1s));
            of.request_stop({.grace = 1min});
          },
          std::ref(children));
      const auto room = co_await children.room();
      if (room.error() == errc::operation_canceled) why = errc::operation_canceled;
    };
    co_await scope(body, {.children_max = 1});
    CHECK(why == errc::operation_canceled);
    CHECK(finished == 1);
  }());
}

TEST_CASE("scope: H12, room and a stop in one turn, in either order: who is not stopped has the room") {
  for (const bool stop_first : {false, true}) {
    run_simulated([](bool first) -> task<> {
      int begun = 0;
      auto acceptor = [](scope& of, int& count) -> task<> {
        const auto room = co_await of.room();
        if (room) ++count;
      };
      auto body = [&](scope& workers) -> task<> {
        auto child = workers.spawn([]() -> task<> { static_cast<void>(co_await sleep_for(1h)); });
        auto one = keel::spawn(acceptor, std::ref(workers), std::ref(begun));
        auto two = keel::spawn(acceptor, std::ref(workers), std::ref(begun));
        static_cast<void>(co_await sleep_for(1ms));
        if (first) one.request_stop();
        child.request_stop();
        co_await std::move(child);
        if (!first) one.request_stop();
        co_await std::move(one);
        co_await std::move(two);
      };
      co_await scope(body, {.children_max = 1});
      CHECK(begun == 1);
    }(stop_first));
  }
}

TEST_CASE("scope: join_all waits for the children so far, and for no others") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    int ended = 0;
    co_await scope([&](scope& children) -> task<> {
      const auto none = co_await children.join_all();
      CHECK(none);
      const auto before = now();
      children.spawn(sleeper, 1s, std::ref(ended));
      children.spawn(sleeper, 2s, std::ref(ended));
      children.spawn(
          [](scope& of, int& count) -> task<> {
            static_cast<void>(co_await sleep_for(500ms));
            of.spawn(sleeper, 1h, std::ref(count));
          },
          std::ref(children), std::ref(ended));
      const auto all = co_await children.join_all();
      CHECK(all);
      CHECK(ended == 2);
      CHECK(children.size() == 1);
      CHECK(now() - before < 3s);
      children.request_stop();
      const auto stopped = co_await children.join_all();
      CHECK(stopped.error() == errc::operation_canceled);
    });
    CHECK(ended == 3);
  }());
}

TEST_CASE("scope: a child that fails ends its body's join_all, with operation_canceled") {
  run_simulated([]() -> task<> {
    errc why = {};
    auto body = [&](scope& children) -> task<> {
      int ended = 0;
      children.spawn(throwing, 1s, "first");
      children.spawn(throwing, 1h, "second");
      const auto joined = co_await children.join_all();
      if (joined.error() == errc::operation_canceled) why = errc::operation_canceled;
      CHECK(ended == 0);
    };
    const std::string said = co_await thrown_by(body);
    CHECK(said == "first");
    CHECK(why == errc::operation_canceled);
  }());
}

TEST_CASE("scope: C13, with room and join_all, stopped at any point, nothing is left") {
  for (const auto level : {stop_level::hard, stop_level::graceful}) {
    keel::kevent_sys::sim_world world;
    keel::test::sweep_options options;
    options.level = level;
    options.runtime.factory = world.factory();
    const tracked_balance objects;
    auto server = []() -> task<> {
      auto body = [](scope& children) -> task<> {
        const tracked local(1);
        int ended = 0;
        for (int i = 0; i < 4; ++i) {
          const auto room = co_await children.room();
          if (!room) break;
          children.spawn([]() -> task<> { static_cast<void>(co_await sleep_for(1ms)); });
        }
        static_cast<void>(co_await children.join_all());
        ended = 1;
        CHECK(ended == 1);
      };
      co_await scope(body, {.children_max = 2});
    };
    CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(server); }, options) > 5);
  }
}

TEST_CASE("scope: a child does not wait for itself, and no children are no room") {
  auto child_joins = []() -> task<> {
    co_await scope([](scope& children) -> task<> {
      children.spawn([](scope& of) -> task<> { static_cast<void>(co_await of.join_all()); },
                     std::ref(children));
      co_return;
    });
  };
  CHECK_DEATH(run_simulated(child_joins()), "a child would wait for itself");
  auto no_room = []() -> task<> {
    auto body = [](scope& children) -> task<> { static_cast<void>(co_await children.room()); };
    co_await scope(body, {.children_max = 0});
  };
  CHECK_DEATH(run_simulated(no_room()), "a scope with room for no children never has room");
}
