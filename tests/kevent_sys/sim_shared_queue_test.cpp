// A queue of kevent_init's kind in virtual time.
#include <doctest/doctest.h>
#include <keel/kevent_sys/shared_queue.hpp>
#include <keel/kevent_sys/sim_engine.hpp>

#include <vector>

#include "support/sim_queue.hpp"

using keel::kevent_sys::shared_queue;
using keel::kevent_sys::sim_world;
using keel::kevent_sys::time_limit;
using keel::kevent_sys::user_ring;
using keel::test::sim_ms;

namespace {

// Closes and destroys it.
struct simulated_queue {
  explicit simulated_queue(sim_world& world) {
    int error = 0;
    q = shared_queue::create(user_ring(), {.factory = world.factory()}, error);
    REQUIRE(error == 0);
  }
  simulated_queue(const simulated_queue&) = delete;
  simulated_queue& operator=(const simulated_queue&) = delete;
  ~simulated_queue() {
    q->close();
    delete q;
  }

  void add(std::uint32_t type, std::uint32_t first, std::uint32_t second, std::uint32_t event,
           std::uint32_t req_flags = 0) {
    ukevent entry{};
    entry.id.raw[0] = first;
    entry.id.raw[1] = second;
    entry.type = type;
    entry.event = event;
    entry.req_flags = req_flags;
    REQUIRE(q->add(&entry, 1) == 0);
  }
  // Waits for ever.
  std::vector<ukevent> get(unsigned min, unsigned max) {
    time_limit endless;
    REQUIRE(time_limit::parse({.tv_sec = -1, .tv_nsec = 0}, false, endless));
    std::vector<ukevent> events(max);
    const int n = q->get_events(min, max, &endless, events.data());
    REQUIRE(n >= 0);
    events.resize(std::size_t(n));
    return events;
  }

  shared_queue* q = nullptr;
};

// Never early; late by no more than the wheel's tick.
bool comes_at(sim_world& world, std::uint64_t ns) {
  const std::uint64_t now_ns = world.engine().now_ns();
  return now_ns >= ns && now_ns < ns + sim_ms;
}

}  // namespace

TEST_CASE("sim shared_queue: hours of timers pass in no time, in their order") {
  sim_world world;
  simulated_queue s(world);
  const std::uint64_t start = world.engine().now_ns();
  s.add(KEVENT_TIMER, 3600, 0, KEVENT_TIMER_FIRED, KEVENT_REQ_ONESHOT);
  s.add(KEVENT_TIMER, 60, 0, KEVENT_TIMER_FIRED, KEVENT_REQ_ONESHOT);

  auto first = s.get(1, 4);
  REQUIRE(first.size() == 1);
  CHECK(first[0].id.raw[0] == 60);
  CHECK(comes_at(world, start + 60'000 * sim_ms));
  auto second = s.get(1, 4);
  REQUIRE(second.size() == 1);
  CHECK(second[0].id.raw[0] == 3600);
  CHECK(comes_at(world, start + 3'600'000 * sim_ms));
}

TEST_CASE("sim shared_queue: a periodic timer fires as often as a wait asks for") {
  sim_world world;
  simulated_queue s(world);
  const std::uint64_t start = world.engine().now_ns();
  s.add(KEVENT_TIMER, 0, 500'000'000, KEVENT_TIMER_FIRED);
  for (std::uint64_t i = 1; i <= 10; ++i) {
    CHECK(s.get(1, 1).size() == 1);
    CHECK(comes_at(world, start + i * 500 * sim_ms));
  }
}
