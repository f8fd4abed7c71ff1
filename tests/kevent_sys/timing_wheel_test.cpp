#include <doctest/doctest.h>
#include <keel/kevent_sys/timing_wheel.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <vector>

#include "support/death_test.hpp"

using keel::intrusive_list;
using keel::kevent_sys::timer_node;
using keel::kevent_sys::timing_wheel;

namespace {

constexpr std::uint64_t tick = timing_wheel::tick_ns;
constexpr std::uint64_t never = timing_wheel::never_ns;
constexpr int level_count = 9;

std::uint64_t chosen_seed() {
  const char* text = std::getenv("KEEL_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : std::random_device()();
}

// When a timer may fire: the end of the tick that holds the deadline, or never.
std::uint64_t rounded_up(std::uint64_t deadline_ns) {
  const std::uint64_t down = deadline_ns & ~(tick - 1);
  if (down == deadline_ns) return deadline_ns;
  return down > never - tick ? never : down + tick;
}

std::vector<timer_node*> advanced(timing_wheel& wheel, std::uint64_t now_ns) {
  intrusive_list<timer_node> expired;
  wheel.advance(now_ns, expired);
  std::vector<timer_node*> timers;
  while (!expired.empty()) timers.push_back(&expired.pop_front());
  return timers;
}

// What a wheel should do, said with a sorted container. Equal keys of a multimap keep their order.
class model {
 public:
  explicit model(std::size_t timer_count) : timers_(timer_count), places_(timer_count, by_tick_.end()) {}
  ~model() {
    for (timer_node& timer : timers_) wheel_.erase(timer);
  }

  timing_wheel& wheel() { return wheel_; }
  std::uint64_t now_ns() const { return now_ns_; }

  void toggle(std::size_t index, std::uint64_t deadline_ns) {
    timer_node& timer = timers_[index];
    REQUIRE(timer.armed() == (places_[index] != by_tick_.end()));
    if (timer.armed()) {
      wheel_.erase(timer);
      by_tick_.erase(places_[index]);
      places_[index] = by_tick_.end();
    } else {
      wheel_.insert(timer, deadline_ns);
      const std::uint64_t due_ns = deadline_ns <= now_ns_ ? now_ns_ & ~(tick - 1) : rounded_up(deadline_ns);
      places_[index] = by_tick_.emplace(due_ns, index);
    }
    check();
  }

  void advance(std::uint64_t now_ns) {
    now_ns_ = std::max(now_ns_, std::min(now_ns, never - 1));
    std::vector<timer_node*> expected;
    while (!by_tick_.empty() && by_tick_.begin()->first <= (now_ns_ & ~(tick - 1))) {
      const std::size_t index = by_tick_.begin()->second;
      expected.push_back(&timers_[index]);
      places_[index] = by_tick_.end();
      by_tick_.erase(by_tick_.begin());
    }
    REQUIRE(advanced(wheel_, now_ns) == expected);
    for (const timer_node* timer : expected) REQUIRE(timer->deadline_ns() <= now_ns_);
    check();
  }

 private:
  void check() {
    REQUIRE(wheel_.size() == by_tick_.size());
    const std::uint64_t earliest = by_tick_.empty() ? never : by_tick_.begin()->first;
    REQUIRE(wheel_.next_ns() <= earliest);
    REQUIRE(wheel_.next_ns() >= (now_ns_ & ~(tick - 1)));
    if (by_tick_.size() <= 4) REQUIRE(wheel_.next_ns() == earliest);
  }

  using by_tick = std::multimap<std::uint64_t, std::size_t>;

  timing_wheel wheel_;
  std::vector<timer_node> timers_;
  by_tick by_tick_;
  std::vector<by_tick::iterator> places_;
  std::uint64_t now_ns_ = 0;
};

// Durations of every magnitude, and often the same ones.
std::uint64_t random_distance(std::mt19937_64& random) {
  const unsigned bits = unsigned(random() % 65);
  const std::uint64_t distance = bits == 64 ? random() : random() & ((std::uint64_t{1} << bits) - 1);
  return random() % 4 == 0 ? distance & ~(tick - 1) : distance;
}

std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) { return a > never - b ? never : a + b; }

constexpr std::uint64_t edges[] = {
    0,          1,         tick - 1,         tick,             tick + 1,     tick * 64,
    1ULL << 62, never / 2, 1ULL << 63,       never / 10,       never - 1,    never,
    never - tick, never - 2 * tick, never - tick - 1, never - tick + 1,
};

}  // namespace

TEST_CASE("timing_wheel: does what a sorted map does, for any inserts, erases and jumps of time") {
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  MESSAGE("KEEL_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (const std::size_t timer_count : {1U, 3U, 8U, 100U, 1000U}) {
    for (int round = 0; round < 20; ++round) {
      model both(timer_count);
      // Near the end of time in some rounds, so that overflow would show.
      if (round % 4 == 3) both.advance(never - random_distance(random));
      for (int step = 0; step < 1000; ++step) {
        const std::uint64_t now = both.now_ns();
        switch (random() % 16) {
          case 0: both.advance(saturating_add(now, random_distance(random) >> (random() % 64))); break;
          case 1: both.advance(both.wheel().next_ns() == never ? now : both.wheel().next_ns()); break;
          case 2: both.advance(now - std::min(now, random_distance(random))); break;
          case 3: both.toggle(random() % timer_count, edges[random() % std::size(edges)]); break;
          case 4: both.toggle(random() % timer_count, now - std::min(now, random_distance(random))); break;
          case 5: both.toggle(random() % timer_count, now); break;
          default: both.toggle(random() % timer_count, saturating_add(now, random_distance(random))); break;
        }
      }
    }
  }
}

TEST_CASE("timing_wheel: who follows next_ns() to any deadline is in time, and wakes few times") {
  for (const std::uint64_t start : edges) {
    for (const std::uint64_t distance : edges) {
      CAPTURE(start);
      CAPTURE(distance);
      timing_wheel wheel;
      REQUIRE(advanced(wheel, start).empty());
      // The crowd behind the first timer hides it from the shortcut for few timers.
      std::array<timer_node, 8> timers;
      const std::uint64_t deadline = saturating_add(start, distance);
      for (timer_node& timer : timers) wheel.insert(timer, deadline);

      int calls = 0;
      std::size_t fired = 0;
      std::uint64_t now = start;
      while (fired == 0 && wheel.next_ns() != never) {
        REQUIRE(wheel.next_ns() <= std::max(rounded_up(deadline), start));
        now = std::max(now, wheel.next_ns());
        fired = advanced(wheel, now).size();
        REQUIRE(++calls <= level_count + 1);
      }

      const bool is_never = rounded_up(deadline) == never && (deadline > start || deadline == never);
      CHECK(fired == (is_never ? 0 : timers.size()));
      if (fired > 0) CHECK(now >= deadline);
      if (fired > 0) CHECK(now - deadline < tick);
      for (timer_node& timer : timers) wheel.erase(timer);
    }
  }
}

TEST_CASE("timing_wheel: a lone timer costs one wake-up, however far away it is") {
  for (const std::uint64_t deadline : {10'000'000ULL, 3'600'000'000'000ULL, 1ULL << 62}) {
    timing_wheel wheel;
    timer_node timer;
    wheel.insert(timer, deadline);

    CHECK(wheel.next_ns() == rounded_up(deadline));
    CHECK(advanced(wheel, deadline - 1).empty());
    CHECK(advanced(wheel, rounded_up(deadline)).size() == 1);
  }
}

TEST_CASE("timing_wheel: a deadline of UINT64_MAX never comes, not even at the end of time") {
  timing_wheel wheel;
  timer_node timer;
  wheel.insert(timer, never);

  CHECK(wheel.next_ns() == never);
  CHECK(advanced(wheel, never).empty());
  CHECK(timer.armed());

  wheel.erase(timer);
  wheel.insert(timer, never);
  CHECK(advanced(wheel, never).empty());
  wheel.erase(timer);
  CHECK(wheel.empty());
}

TEST_CASE("timing_wheel: a deadline in the past is due at the next advance, though time stands still") {
  timing_wheel wheel;
  constexpr std::uint64_t now = 5'000'000'000;
  CHECK(advanced(wheel, now).empty());
  timer_node zero;
  timer_node old;
  wheel.insert(zero, 0);
  wheel.insert(old, now - 1);

  CHECK(wheel.next_ns() <= now);
  CHECK(advanced(wheel, now) == std::vector<timer_node*>{&zero, &old});
  CHECK(advanced(wheel, now).empty());
}

TEST_CASE("timing_wheel: a time before the last one counts as the last one") {
  timing_wheel wheel;
  CHECK(advanced(wheel, 1'000'000'000).empty());
  timer_node timer;
  wheel.insert(timer, 500'000'000);

  CHECK(advanced(wheel, 0).size() == 1);
}

TEST_CASE("timing_wheel: equal deadlines fire in the order of their insertion") {
  timing_wheel wheel;
  constexpr std::uint64_t deadline = 10'000'000'000;
  std::array<timer_node, 30> timers;
  std::vector<timer_node*> expected;
  for (std::size_t i = 0; i < timers.size(); ++i) {
    wheel.insert(timers[i], deadline);
    expected.push_back(&timers[i]);
    REQUIRE(advanced(wheel, deadline / timers.size() * (i + 1) - 100 * tick).empty());
  }

  CHECK(advanced(wheel, deadline + tick) == expected);
}

TEST_CASE("timing_wheel: an expired timer that nobody has taken yet can still be erased, and armed again") {
  timing_wheel wheel;
  timer_node first;
  timer_node second;
  wheel.insert(first, 1);
  wheel.insert(second, 1);
  intrusive_list<timer_node> expired;
  wheel.advance(tick, expired);
  CHECK(first.expired());
  CHECK_FALSE(first.armed());

  wheel.erase(first);

  CHECK_FALSE(first.expired());
  CHECK(&expired.pop_front() == &second);
  CHECK(expired.empty());
  wheel.insert(first, 0);
  CHECK(first.armed());
  wheel.erase(first);
  wheel.erase(first);
  CHECK(wheel.empty());
  CHECK(wheel.next_ns() == never);
}

TEST_CASE("timing_wheel: a copy of an idle timer is idle; whoever copies or loses an armed one is told") {
  timing_wheel wheel;
  timer_node idle;
  const timer_node copy = idle;
  CHECK_FALSE(copy.armed());

  timer_node armed;
  wheel.insert(armed, 1);
  CHECK_DEATH(timer_node(armed), "!other.linked()");
  CHECK_DEATH(armed = idle, "!linked()");
  CHECK_DEATH(wheel.insert(armed, 2), "erase a timer before you insert it again");
  CHECK_DEATH(armed.~timer_node(), "an element was destroyed while it is in a list");
  CHECK_DEATH(wheel.~timing_wheel(), "a timing wheel was destroyed while timers are armed");
  wheel.erase(armed);
}

TEST_CASE("timing_wheel: a million timers, half of them erased, fire in order and never early") {
  constexpr std::size_t count = 1'000'000;
  constexpr std::uint64_t start = 1'000'000'000'000;
  const std::uint64_t seed = chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  timing_wheel wheel;
  REQUIRE(advanced(wheel, start).empty());
  const auto timers = std::make_unique<timer_node[]>(count);
  for (std::size_t i = 0; i < count; ++i) wheel.insert(timers[i], start + random() % 60'000'000'000);
  for (std::size_t i = 0; i < count; i += 2) wheel.erase(timers[i]);
  REQUIRE(wheel.size() == count / 2);

  std::size_t fired = 0;
  std::size_t wrong = 0;
  std::uint64_t last_due = 0;
  for (std::uint64_t now = start; !wheel.empty(); now = std::max(now + 1'000'000, wheel.next_ns())) {
    for (const timer_node* timer : advanced(wheel, now)) {
      const std::uint64_t due = rounded_up(timer->deadline_ns());
      if (timer->deadline_ns() > now || due < last_due) ++wrong;
      last_due = due;
      ++fired;
    }
  }

  CHECK(fired == count / 2);
  CHECK(wrong == 0);
}

TEST_CASE("timing_wheel: one jump over centuries is no walk over its ticks") {
  timing_wheel wheel;
  std::array<timer_node, 64> timers;
  for (std::size_t i = 0; i < timers.size(); ++i) wheel.insert(timers[i], std::uint64_t{1} << i);

  const std::vector<timer_node*> fired = advanced(wheel, never);

  REQUIRE(fired.size() == timers.size());
  for (std::size_t i = 0; i < timers.size(); ++i) CHECK(fired[i] == &timers[i]);
}
