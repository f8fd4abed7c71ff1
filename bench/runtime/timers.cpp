// What timers cost while many are alive: arm and cancel in the wheel, and a sleep through the whole runtime.
//
//     build/release/bench/timers [ALIVE]
//
// With KEEL_BENCH_ASIO (the build has found asio.hpp), the same of Asio's timers, which stand in a heap.
//
// CPU time of this thread; ALIVE timers (default 1,000,000) with deadlines spread over an hour stay armed.
// Medians of 9 rounds of 100,000. Deadlines are pseudo-random, from a fixed seed.

#include "report.hpp"

#include <keel/keel.hpp>
#include <keel/kevent_sys/timing_wheel.hpp>

#ifdef KEEL_BENCH_ASIO
#include <asio/io_context.hpp>
#include <asio/steady_timer.hpp>
#endif

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

// keel::timer: an idle timeout that each message puts off, of one of ALIVE connections at random; and a
// timeout that is armed and cancelled.
task<> timer_objects(std::uint64_t alive) {
  std::mt19937_64 random(1);
  std::deque<timer> timers(alive);
  for (auto& t : timers) t.arm_after(nanoseconds(random() % hour_ns));
  co_await sleep_for(nanoseconds(1));
  std::vector<double> again_here;
  std::vector<double> again_anywhere;
  std::vector<double> arm_cancel;
  timer one;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    for (std::uint64_t n = 0; n < per_round; ++n) timers[n % 64].arm_after(seconds(3600));
    const double here = bench::cpu_seconds();
    for (std::uint64_t n = 0; n < per_round; ++n) timers[random() % alive].arm_after(seconds(3600));
    const double anywhere = bench::cpu_seconds();
    for (std::uint64_t n = 0; n < per_round; ++n) {
      one.arm_after(seconds(30));
      one.cancel();
    }
    const double canceled = bench::cpu_seconds();
    again_here.push_back((here - begin) * 1e9 / per_round);
    again_anywhere.push_back((anywhere - here) * 1e9 / per_round);
    arm_cancel.push_back((canceled - anywhere) * 1e9 / per_round);
  }
  bench::report("timers", "timer_rearm_64_of_them", again_here, per_round);
  bench::report("timers", "timer_rearm_any_of_them", again_anywhere, per_round);
  bench::report("timers", "timer_arm_cancel", arm_cancel, per_round);
}

#ifdef KEEL_BENCH_ASIO
void asio_timers(std::uint64_t alive) {
  std::mt19937_64 random(1);
  asio::io_context context(1);
  std::deque<asio::steady_timer> timers;
  auto arm = [&](asio::steady_timer& t) {
    t.expires_after(nanoseconds(random() % hour_ns));
    t.async_wait([](const asio::error_code&) {});
  };
  for (std::uint64_t i = 0; i < alive; ++i) arm(timers.emplace_back(context));
  std::deque<asio::steady_timer> others;
  for (std::uint64_t i = 0; i < per_round; ++i) others.emplace_back(context);
  std::vector<double> arming;
  std::vector<double> cancelling;
  std::vector<double> again;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    for (auto& t : others) arm(t);
    const double armed = bench::cpu_seconds();
    for (auto& t : others) t.cancel();
    context.poll();
    const double canceled = bench::cpu_seconds();
    for (std::uint64_t n = 0; n < per_round; ++n) arm(timers[random() % alive]);
    context.poll();
    const double rearmed = bench::cpu_seconds();
    arming.push_back((armed - begin) * 1e9 / per_round);
    cancelling.push_back((canceled - armed) * 1e9 / per_round);
    again.push_back((rearmed - canceled) * 1e9 / per_round);
  }
  bench::report("timers", "asio_arm", arming, per_round);
  bench::report("timers", "asio_cancel", cancelling, per_round);
  bench::report("timers", "asio_rearm_any_of_them", again, per_round);
}
#endif

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
  const std::uint64_t alive = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  wheel_alone(alive);
  run(timer_objects(alive));
  run(guarded());
#ifdef KEEL_BENCH_ASIO
  asio_timers(alive);
#endif
}
