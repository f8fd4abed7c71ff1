// What timers cost while many are alive: arm and cancel in the wheel, and a sleep through the whole runtime.
//
//     build/release/bench/timers [ALIVE]
//
// CPU time of this thread; ALIVE timers (default 1,000,000) with deadlines spread over an hour stay armed.
// Medians of 9 rounds of 100,000. Deadlines are pseudo-random, from a fixed seed.

#include "report.hpp"

#include <keel/kevent_sys/timing_wheel.hpp>
#include <keel/keel.hpp>

#include <cstdlib>
#include <deque>
#include <random>

using namespace keel;

namespace {

constexpr int rounds = 9;
constexpr std::uint64_t per_round = 100'000;
constexpr std::uint64_t hour_ns = 3'600'000'000'000;

void wheel_alone(std::uint64_t alive) {
  std::mt19937_64 random(1);
  std::deque<kevent_sys::timer_node> others(alive);
  std::deque<kevent_sys::timer_node> timers(per_round);
  kevent_sys::timing_wheel wheel;
  for (auto& t : others) wheel.insert(t, random() % hour_ns);
  std::vector<double> arm;
  std::vector<double> cancel;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    for (auto& t : timers) wheel.insert(t, random() % hour_ns);
    const double armed = bench::cpu_seconds();
    for (auto& t : timers) wheel.erase(t);
    const double canceled = bench::cpu_seconds();
    arm.push_back((armed - begin) * 1e9 / per_round);
    cancel.push_back((canceled - armed) * 1e9 / per_round);
  }
  bench::report("timers", "wheel_arm", arm, per_round);
  bench::report("timers", "wheel_cancel", cancel, per_round);
  for (auto& t : others) wheel.erase(t);
}

// A timeout that never fires around something that is ready at once: what each guarded operation of a server
// pays.
task<> guarded() {
  std::vector<double> ns;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    for (std::uint64_t n = 0; n < per_round; ++n)
      co_await with_timeout(seconds(30), []() -> task<> { co_return; }());
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / per_round);
  }
  bench::report("timers", "with_timeout_ready", ns, per_round);
}

}  // namespace

int main(int argc, char** argv) {
  wheel_alone(argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000);
  run(guarded());
}
