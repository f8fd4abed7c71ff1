#include <keel/runtime/event.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/when_any.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "support/line_model.hpp"
#include "support/sweep.hpp"

using namespace std::chrono_literals;
using keel::auto_event;
using keel::errc;
using keel::event;
using keel::task;
using keel::test::check_line;
using keel::test::in_runtime;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

template <class Event>
task<> note_when(Event& e, std::vector<int>& notes, int n) {
  const auto happened = co_await e.wait();
  if (happened) notes.push_back(n);
}

// The manual one lets everybody in while it is set, the automatic one gives each set() to one.
template <class Event>
struct event_subject {
  static constexpr bool automatic = std::is_same_v<Event, auto_event>;

  static std::size_t pick(std::mt19937_64&) { return 0; }
  std::unique_ptr<keel::test::any_wait> wait(std::size_t) {
    return std::make_unique<keel::test::hand_wait<typename Event::wait_op>>(e.wait());
  }
  static void arrives(std::size_t) {}
  bool fits(std::size_t) const { return set; }
  void took(std::size_t) { set = !automatic; }
  static void give_back(keel::test::any_wait&, std::size_t) {}
  void other(std::mt19937_64& random, bool nobody_waits) {
    if (nobody_waits) REQUIRE(e.is_set() == set);
    set = random() % 2 == 0;
    set ? e.set() : e.reset();
  }

  Event e;
  bool set = false;
};

}  // namespace

TEST_CASE("event: it lets all go on who wait when it is set, in their order, and all who come then") {
  in_runtime([]() -> task<> {
    event e;
    std::vector<int> notes;
    for (int i = 0; i < 5; ++i) keel::spawn(note_when<event>, std::ref(e), std::ref(notes), i);
    co_await some_turns();
    CHECK(notes.empty());
    e.set();
    CHECK(e.is_set());
    co_await note_when(e, notes, 5);
    CHECK(notes == std::vector<int>{5});
    co_await some_turns();
    CHECK(notes == std::vector<int>{5, 0, 1, 2, 3, 4});
  });
}

TEST_CASE("event: after a reset() one waits again; set() and reset() let exactly those go on who wait") {
  in_runtime([]() -> task<> {
    event e;
    std::vector<int> notes;
    keel::spawn(note_when<event>, std::ref(e), std::ref(notes), 0);
    co_await some_turns();
    e.set();
    e.reset();
    keel::spawn(note_when<event>, std::ref(e), std::ref(notes), 1);
    co_await some_turns();
    CHECK(notes == std::vector<int>{0});
    e.set();
    co_await some_turns();
    CHECK(notes == std::vector<int>{0, 1});
  });
}

TEST_CASE("event: a timeout ends the wait, says so, and leaves nothing behind") {
  run_simulated([]() -> task<> {
    event e;
    const auto before = now();
    const auto late = co_await keel::with_timeout(1s, e.wait());
    CHECK(late.error() == errc::timed_out);
    CHECK(now() - before >= 1s);
    e.set();
    const auto at_once = co_await keel::with_timeout(1s, e.wait());
    CHECK(at_once);
  }());
}

TEST_CASE("event: a stop ends the wait, and says what was tried") {
  run_simulated([]() -> task<> {
    event e;
    auto waits = [](event& for_it) -> task<keel::result<void>> { co_return co_await for_it.wait(); };
    auto handle = keel::spawn(waits, std::ref(e));
    co_await some_turns();
    handle.request_stop(keel::stop_level::graceful);
    co_await some_turns();
    CHECK(!handle.done());
    handle.request_stop();
    const auto ended = co_await std::move(handle);
    CHECK(ended.error() == errc::operation_canceled);
    CHECK(ended.why().doing == std::string("wait for an event"));
  }());
}

TEST_CASE("event: who waits in when_any and loses has left the line") {
  run_simulated([]() -> task<> {
    auto_event e;
    const auto first = co_await keel::when_any(e.wait(), keel::sleep_for(1s));
    CHECK(first.index == 1);
    e.set();
    CHECK(e.is_set());
  }());
}

TEST_CASE("event: it may go as soon as it has been set") {
  in_runtime([]() -> task<> {
    auto e = std::make_unique<event>();
    std::vector<int> notes;
    for (int i = 0; i < 3; ++i) keel::spawn(note_when<event>, std::ref(*e), std::ref(notes), i);
    co_await some_turns();
    e->set();
    e.reset();
    co_await some_turns();
    CHECK(notes == std::vector<int>{0, 1, 2});
  });
}

// H1
TEST_CASE("event: a loop that waits for one that is set lets the others run") {
  in_runtime([]() -> task<> {
    event e;
    e.set();
    bool others_ran = false;
    auto other = [](bool& ran) -> task<> {
      ran = true;
      co_return;
    };
    keel::spawn(other, std::ref(others_ran));
    int waits = 0;
    for (; !others_ran && waits < 10'000; ++waits) {
      const auto happened = co_await e.wait();
      REQUIRE(happened);
    }
    CHECK(waits <= 200);
  });
}

TEST_CASE("auto_event: each set() is for one, and those that nobody used are one") {
  in_runtime([]() -> task<> {
    auto_event e;
    std::vector<int> notes;
    for (int i = 0; i < 3; ++i) keel::spawn(note_when<auto_event>, std::ref(e), std::ref(notes), i);
    co_await some_turns();
    e.set();
    e.set();
    CHECK(!e.is_set());
    co_await some_turns();
    CHECK(notes == std::vector<int>{0, 1});
    e.set();
    e.set();
    CHECK(e.is_set());
    co_await note_when(e, notes, 3);
    CHECK(!e.is_set());
    co_await some_turns();
    CHECK(notes == std::vector<int>{0, 1, 3, 2});
    e.set();
    e.reset();
    CHECK(!e.is_set());
  });
}

TEST_CASE("event: random waits, stops, sets and resets end as the reference says") {
  check_line<event_subject<event>>();
}

TEST_CASE("auto_event: random waits, stops, sets and resets end as the reference says") {
  check_line<event_subject<auto_event>>();
}

TEST_CASE("event: two that wake one another can be stopped at every point") {
  struct pair {
    auto_event ping;
    auto_event pong;
  };
  auto player = [](auto_event& mine, auto_event& other) -> task<> {
    for (int i = 0; i < 5; ++i) {
      other.set();
      const auto happened = co_await mine.wait();
      if (!happened) co_return;
    }
  };
  const unsigned runs = keel::test::sweep([player](keel::runtime& rt) {
    auto both = std::make_unique<pair>();
    rt.spawn(player, std::ref(both->ping), std::ref(both->pong));
    rt.spawn(player, std::ref(both->pong), std::ref(both->ping));
    return both;
  });
  CHECK(runs >= 2);
}
