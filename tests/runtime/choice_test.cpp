#include <keel/runtime/choice.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::choice;
using keel::choice_place;
using keel::outcome;
using keel::task;
using keel::test::run_simulated;

namespace {

struct noted_place : choice_place {
  noted_place() noexcept {
    withdrawn = [](choice_place& self) noexcept { ++static_cast<noted_place&>(self).times_withdrawn; };
  }
  int times_withdrawn = 0;
};

// Waits in two queues at once.
struct twofold {
  twofold(keel::intrusive_list<choice_place>& one, keel::intrusive_list<choice_place>& two) noexcept
      : first(&one), second(&two) {}

  std::coroutine_handle<> start(keel::waiter& up, keel::stop_context& context) noexcept {
    who.begin(up, context, "either");
    who.add(a);
    first->push_back(a);
    who.add(b);
    second->push_back(b);
    return std::noop_coroutine();
  }
  std::string take() noexcept {
    const auto text = [](const noted_place& p) {
      return std::to_string(int(p.how)) + (p.times_withdrawn == 1 ? "w" : p.times_withdrawn == 0 ? "" : "?");
    };
    return text(a) + ' ' + text(b) + (who.settled() == &a ? " a" : who.settled() == &b ? " b" : " none");
  }

  keel::intrusive_list<choice_place>* first;
  keel::intrusive_list<choice_place>* second;
  choice who;
  noted_place a;
  noted_place b;
};

struct world {
  keel::intrusive_list<choice_place> one;
  keel::intrusive_list<choice_place> two;
  std::string said;
};

task<> wait_twofold(world& w) {
  w.said = co_await twofold(w.one, w.two);
}

std::string outcome_of(void (*action)(world&, keel::join_handle<void>&)) {
  world w;
  run_simulated([](world& in, auto act) -> task<> {
    auto waiting = keel::spawn(wait_twofold, std::ref(in));
    static_cast<void>(co_await keel::sleep_for(1ms));
    act(in, waiting);
    CHECK(in.one.empty());
    CHECK(in.two.empty());
    co_await std::move(waiting);
  }(w, action));
  return w.said;
}

}  // namespace

TEST_CASE("choice: the place that is settled takes effect, and the other one is withdrawn") {
  CHECK(outcome_of([](world& w, auto&) { w.one.front().settle(outcome::done); }) == "1 0w a");
  CHECK(outcome_of([](world& w, auto&) { w.two.front().settle(outcome::closed); }) == "0w 2 b");
}

TEST_CASE(
    "choice: a stop withdraws all places; after it none is settled, and before it the stop does nothing") {
  CHECK(outcome_of([](world&, auto& waiting) { waiting.request_stop(); }) == "3w 3w none");
  CHECK(outcome_of([](world& w, auto& waiting) {
          w.one.front().settle(outcome::done);
          waiting.request_stop();
        }) == "1 0w a");
}
