#include <keel/runtime/scope.hpp>

#include <keel/runtime/graceful.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/this_task.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <system_error>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/scope_children.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
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

TEST_CASE("scope: ends when its body and every child have ended") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    int ended = 0;
    const auto before = now();
    co_await scope([&](scope& children) -> task<> {
      for (int i = 1; i <= 3; ++i) children.spawn(sleeper, std::chrono::seconds(i), std::ref(ended));
      CHECK(children.size() == 3);
      static_cast<void>(co_await sleep_for(1ms));
    });
    CHECK(ended == 3);
    CHECK(now() - before >= 3s);
    CHECK(now() - before < 4s);
  }());
}

TEST_CASE("scope: without children it ends with its body, and a body need not wait") {
  run_simulated([]() -> task<> {
    bool ran = false;
    co_await scope([&](scope&) -> task<> {
      ran = true;
      co_return;
    });
    CHECK(ran);
    co_await scope([](scope&) -> task<> { static_cast<void>(co_await sleep_for(1s)); });
  }());
}

TEST_CASE("scope: children may spawn others into it, also after the body has ended") {
  run_simulated([]() -> task<> {
    int ended = 0;
    struct family {
      static task<> member(scope& children, int generation, int& count) {
        static_cast<void>(co_await sleep_for(1s));
        if (generation > 0) {
          children.spawn(&member, std::ref(children), generation - 1, std::ref(count));
          children.spawn(&member, std::ref(children), generation - 1, std::ref(count));
        }
        ++count;
      }
    };
    co_await scope([&](scope& children) -> task<> {
      children.spawn(&family::member, std::ref(children), 4, std::ref(ended));
      co_return;
    });
    CHECK(ended == 31);
  }());
}

TEST_CASE("scope: the first failure of a child stops the others, and is thrown after all have ended") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    int ended = 0;
    int finished = 0;
    const auto before = now();
    auto body = [&](scope& children) -> task<> {
      const tracked local(1);
      children.spawn(sleeper, 1h, std::ref(ended));
      children.spawn(finisher, 1h, std::ref(finished));
      children.spawn(throwing, 1s, "first");
      children.spawn(throwing, 2s, "second");
      const auto slept = co_await sleep_for(2h);
      CHECK(slept.error() == errc::operation_canceled);
    };
    const std::string said = co_await thrown_by(body);
    CHECK(said == "first");
    CHECK(ended == 1);
    CHECK(finished == 0);
    CHECK(now() - before < 2s);
  }());
}

TEST_CASE("scope: a failure of the body stops the children, and is thrown after they have ended") {
  run_simulated([]() -> task<> {
    int ended = 0;
    auto late = [&](scope& children) -> task<> {
      children.spawn(sleeper, 1h, std::ref(ended));
      co_await throwing(1s, "body");
    };
    const auto got_1 = co_await thrown_by(late);
    CHECK(got_1 == "body");
    CHECK(ended == 1);
    auto before_it_is_a_task = [&](scope& children) -> task<> {
      children.spawn(sleeper, 1h, std::ref(ended));
      throw std::runtime_error("no task at all");
    };
    const auto got_2 = co_await thrown_by(before_it_is_a_task);
    CHECK(got_2 == "no task at all");
    CHECK(ended == 2);
  }());
}

TEST_CASE("scope: a child that begins after a failure is stopped at its first wait") {
  run_simulated([]() -> task<> {
    int finished = 0;
    const auto before = now();
    auto body = [&](scope& children) -> task<> {
      children.spawn(throwing, 1s, "thrown");
      static_cast<void>(co_await sleep_for(1h));
      children.spawn(finisher, 1h, std::ref(finished));
    };
    const auto got_3 = co_await thrown_by(body);
    CHECK(got_3 == "thrown");
    CHECK(finished == 0);
    CHECK(now() - before < 2s);
  }());
}

TEST_CASE("scope: a failure that a child's handle collects goes to whoever joins") {
  run_simulated([]() -> task<> {
    int finished = 0;
    auto body = [&](scope& children) -> task<> {
      children.spawn(finisher, 2s, std::ref(finished));
      auto handle = children.spawn(throwing, 1s, "collected");
      std::string said;
      try {
        co_await std::move(handle);
      } catch (const std::runtime_error& e) {
        said = e.what();
      }
      CHECK(said == "collected");
    };
    const auto got_4 = co_await thrown_by(body);
    CHECK(got_4 == "nothing");
    CHECK(finished == 1);
  }());
}

TEST_CASE("scope: an error result of a child is the child's own affair") {
  static int reported = 0;
  reported = 0;
  auto main = []() -> task<> {
    int finished = 0;
    co_await scope([&](scope& children) -> task<> {
      children.spawn(finisher, 2s, std::ref(finished));
      children.spawn([]() -> task<result<void>> {
        static_cast<void>(co_await sleep_for(1s));
        co_return errc::closed;
      });
      co_return;
    });
    CHECK(finished == 1);
  };
  run_simulated(main(), {.on_error = [](const keel::task_description&, std::error_code code) {
                  CHECK(code == errc::closed);
                  ++reported;
                }});
  CHECK(reported == 1);
}

TEST_CASE("scope: a stop from inside ends the body and the children") {
  run_simulated([]() -> task<> {
    int ended = 0;
    const auto before = now();
    co_await scope([&](scope& children) -> task<> {
      children.spawn(sleeper, 1h, std::ref(ended));
      CHECK(!children.stopping());
      children.request_stop();
      CHECK(children.stopping());
      const auto slept = co_await sleep_for(1h);
      CHECK(slept.error() == errc::operation_canceled);
    });
    CHECK(ended == 1);
    CHECK(now() - before < 1s);
  }());
}

TEST_CASE("scope: a stop with a grace lets children finish, and ends them when it is over") {
  run_simulated([]() -> task<> {
    int finished = 0;
    int ended = 0;
    bool waits_for_work = true;
    const auto before = now();
    auto idle = [](bool& waiting) -> task<> {
      static_cast<void>(co_await keel::graceful(sleep_for(1h)));
      waiting = false;
      const auto got_5 = co_await keel::this_task::stopping();
      CHECK(got_5);
    };
    co_await scope([&](scope& children) -> task<> {
      children.spawn(finisher, 5s, std::ref(finished));
      children.spawn(finisher, 1h, std::ref(finished));
      children.spawn(sleeper, 1h, std::ref(ended));
      children.spawn(idle, std::ref(waits_for_work));
      static_cast<void>(co_await sleep_for(1s));
      children.request_stop({.grace = 10s});
      CHECK(children.stopping());
      const auto slept = co_await sleep_for(1ms);
      CHECK(slept);
      CHECK(!waits_for_work);
    });
    CHECK(finished == 1);
    CHECK(ended == 1);
    CHECK(now() - before >= 11s);
    CHECK(now() - before < 12s);
  }());
}

TEST_CASE("scope: with a grace it ends as soon as its children have, and the timer goes with it") {
  run_simulated([]() -> task<> {
    int finished = 0;
    const auto before = now();
    co_await scope([&](scope& children) -> task<> {
      children.spawn(finisher, 5s, std::ref(finished));
      children.request_stop({.grace = 1h});
      children.request_stop({.grace = 2h});
      co_return;
    });
    CHECK(finished == 1);
    CHECK(now() - before < 6s);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("scope: a grace can be cut short") {
  run_simulated([]() -> task<> {
    int ended = 0;
    const auto before = now();
    co_await scope([&](scope& children) -> task<> {
      children.spawn(sleeper, 2h, std::ref(ended));
      children.request_stop({.grace = 1h});
      static_cast<void>(co_await sleep_for(1s));
      children.request_stop();
    });
    CHECK(ended == 1);
    CHECK(now() - before < 2s);
  }());
}

TEST_CASE("scope: a stop from outside is passed on, at both levels, and its end awaited") {
  run_simulated([]() -> task<> {
    int finished = 0;
    auto server = [](int& count) -> task<result<void>> {
      co_await scope([&](scope& children) -> task<> {
        children.spawn(finisher, 5s, std::ref(count));
        children.spawn(finisher, 1h, std::ref(count));
        static_cast<void>(co_await keel::graceful(sleep_for(2h)));
      });
      co_return {};
    };
    const auto before = now();
    auto handle = keel::spawn(server, std::ref(finished));
    static_cast<void>(co_await sleep_for(1s));
    handle.request_stop(stop_level::graceful);
    static_cast<void>(co_await sleep_for(10s));
    CHECK(!handle.done());
    CHECK(finished == 1);
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(ended);
    CHECK(finished == 1);
    CHECK(now() - before < 12s);
  }());
}

TEST_CASE("scope: under a deadline, its children end with it") {
  run_simulated([]() -> task<> {
    int ended = 0;
    auto body = [&](scope& children) -> task<> {
      children.spawn(sleeper, 1h, std::ref(ended));
      co_return;
    };
    const auto timed = co_await keel::with_timeout(1s, scope(body));
    CHECK(timed.error() == errc::timed_out);
    CHECK(ended == 1);
  }());
}

TEST_CASE("scope: scopes nest, and a failure inside comes up through them") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    int ended = 0;
    auto outer = [&](scope& children) -> task<> {
      children.spawn(sleeper, 1h, std::ref(ended));
      auto inner = [&](scope& grandchildren) -> task<> {
        const tracked local(1);
        grandchildren.spawn(sleeper, 1h, std::ref(ended));
        grandchildren.spawn(throwing, 1s, "from the inside");
        co_return;
      };
      co_await scope(inner);
    };
    const auto got_6 = co_await thrown_by(outer);
    CHECK(got_6 == "from the inside");
    CHECK(ended == 2);
  }());
}

TEST_CASE("scope: a body with captures goes with the scope") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    {
      auto body = [object = tracked(7)](scope& children) -> task<> {
        children.spawn([](const tracked& seen) -> task<> {
          static_cast<void>(co_await sleep_for(1s));
          CHECK(seen.value == 7);
        }, std::cref(object));
        co_return;
      };
      co_await scope(body);
    }
    CHECK(tracked::alive() == 0);
  }());
}

TEST_CASE("scope: a hundred thousand children") {
  run_simulated([]() -> task<> {
    int ended = 0;
    co_await scope([&](scope& children) -> task<> {
      for (int i = 0; i < 100'000; ++i)
        children.spawn(sleeper, std::chrono::microseconds(i % 100), std::ref(ended));
      co_return;
    });
    CHECK(ended == 100'000);
  }());
}

TEST_CASE("scope: spawning into one that does not run, stopping it, and awaiting it twice are bugs") {
  auto nothing = [](scope&) -> task<> { co_return; };
  auto child = []() -> task<> { co_return; };
  CHECK_DEATH(scope(nothing).spawn(child), "children are spawned while the scope runs");
  CHECK_DEATH(scope(nothing).request_stop(), "a scope that does not run was asked to stop");
  auto twice = [](auto body) -> task<> {
    scope once(body);
    co_await std::move(once);
    co_await std::move(once);
  };
  CHECK_DEATH(keel::run(twice(nothing)), "a scope is awaited once");
}
