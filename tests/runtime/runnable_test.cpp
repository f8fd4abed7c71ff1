#include <keel/runtime/runnable.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <array>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::named;
using keel::priority;
using keel::ready_queue;
using keel::runnable;
using keel::scheduler;
using keel::sleep_for;
using keel::task;
using keel::test::pause;
using keel::test::run_simulated;

namespace {

struct numbered : runnable {
  explicit numbered(int n = 0) noexcept : runnable([](runnable&) noexcept {}), number(n) {}
  int number;
};

// Counts its runs, and is ready again at once.
struct greedy : runnable {
  greedy(priority p, std::vector<priority>& o) noexcept
      : runnable([](runnable& self) noexcept {
          auto& me = static_cast<greedy&>(self);
          me.order.push_back(me.urgency);
          if (me.order.size() < 10'000) scheduler::current()->make_ready(me, me.urgency);
        }),
        urgency(p),
        order(o) {}
  priority urgency;
  std::vector<priority>& order;
};

std::array<int, keel::priority_count> shares_of(const std::vector<priority>& order, std::size_t first) {
  std::array<int, keel::priority_count> seen{};
  for (std::size_t i = 0; i < first; ++i) ++seen[static_cast<unsigned>(order.at(i))];
  return seen;
}

}  // namespace

TEST_CASE("ready_queue: first in, first out, also when what was popped is pushed again") {
  ready_queue queue;
  CHECK(queue.empty());
  numbered one(1);
  numbered two(2);
  numbered three(3);
  queue.push(one);
  queue.push(two);
  CHECK(&queue.pop() == &one);
  queue.push(three);
  queue.push(one);
  CHECK(&queue.pop() == &two);
  CHECK(&queue.pop() == &three);
  CHECK(&queue.pop() == &one);
  CHECK(queue.empty());
  queue.push(two);
  CHECK(!queue.empty());
  CHECK(&queue.pop() == &two);
  CHECK(queue.empty());
}

TEST_CASE("priority: those that are always ready share the turns 16 : 4 : 1") {
  std::vector<priority> order;
  keel::kevent_sys::sim_world world;
  keel::runtime rt({.factory = world.factory()});
  greedy batch(priority::batch, order);
  greedy normal(priority::normal, order);
  greedy latency(priority::latency, order);
  for (greedy* each : {&batch, &normal, &latency}) rt.at(0).make_ready(*each, each->urgency);
  while (order.size() < 10'000) rt.run_ready();
  // A turn may end in the middle of a round: the shares hold over many.
  const auto seen = shares_of(order, 5'000);
  CHECK(seen[0] > 5'000 * 15 / 21);
  CHECK(seen[1] > 5'000 * 3 / 21);
  CHECK(seen[2] > 5'000 / 42);
  while (rt.at(0).counters().runs < 10'002) rt.run_ready();
}

TEST_CASE("priority: two take the share of an absent third, and nobody starves") {
  for (const auto absent : {priority::latency, priority::normal, priority::batch}) {
    std::vector<priority> order;
    keel::kevent_sys::sim_world world;
    keel::runtime rt({.factory = world.factory()});
    greedy batch(priority::batch, order);
    greedy normal(priority::normal, order);
    greedy latency(priority::latency, order);
    for (greedy* each : {&batch, &normal, &latency})
      if (each->urgency != absent) rt.at(0).make_ready(*each, each->urgency);
    while (order.size() < 10'000) rt.run_ready();
    const auto seen = shares_of(order, 1'000);
    for (unsigned p = 0; p < keel::priority_count; ++p)
      CHECK((seen[p] == 0) == (p == static_cast<unsigned>(absent)));
    while (rt.at(0).counters().runs < 10'001) rt.run_ready();
  }
}

TEST_CASE("priority: an urgent task overtakes those that were ready before it; children inherit") {
  run_simulated([]() -> task<> {
    std::string order;
    auto note = [](std::string& notes, char who) -> task<> {
      notes.push_back(who);
      static_cast<void>(co_await sleep_for(0s));
      notes.push_back(who);
    };
    auto with_child = [](auto child, std::string& notes) -> task<> {
      notes.push_back('(');
      co_await keel::spawn(child, std::ref(notes), 'c');
      notes.push_back(')');
    };
    keel::spawn(named("batch", priority::batch, note), std::ref(order), 'b');
    keel::spawn(named("normal", note), std::ref(order), 'n');
    keel::spawn(named("urgent", priority::latency, note), std::ref(order), 'u');
    keel::spawn(named("parent", priority::latency, with_child), note, std::ref(order));
    co_await pause(1s);
    CHECK(order.substr(0, 5) == "u(cnb");
    CHECK(order.size() == 10);
  }());
}

TEST_CASE("priority: while a batch task never waits, those of normal priority are served in each turn") {
  run_simulated([]() -> task<> {
    auto grinds = [](bool& enough, std::uint64_t& rounds) -> task<> {
      while (!enough) {
        ++rounds;
        static_cast<void>(co_await sleep_for(0s));
      }
    };
    bool enough = false;
    std::uint64_t rounds = 0;
    auto batch = keel::spawn(named("grinder", priority::batch, grinds), std::ref(enough), std::ref(rounds));
    for (int i = 0; i < 100; ++i) co_await pause(0s);
    CHECK(rounds > 50);
    CHECK(rounds < 200);
    enough = true;
    co_await std::move(batch);
  }());
}
