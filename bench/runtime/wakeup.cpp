// What it costs to reach a scheduler from another thread: messages to one that is busy, and to one that
// sleeps.
//
//     build/release/bench/wakeup [MESSAGES]
//
// `flooded`: the sender's CPU time per post while it posts as fast as it can; the receiver is mostly awake,
// and an awake scheduler is never woken. `sleeping`: wall time from a post until a sleeping scheduler has the
// message: a system call, and the kernel's way to wake a thread. Two threads: run it with two CPUs.

#include "report.hpp"

#include <keel/keel.hpp>

#include <atomic>
#include <cstdlib>
#include <deque>
#include <thread>

using namespace keel;

namespace {

struct counted : message {
  counted() noexcept : message([](message& self, scheduler&) noexcept {
    auto& me = static_cast<counted&>(self);
    me.arrived->fetch_add(1, std::memory_order_release);
  }) {}
  std::atomic<std::uint64_t>* arrived = nullptr;
};

double wall_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

void flood(scheduler& to, std::uint64_t messages) {
  std::atomic<std::uint64_t> arrived{0};
  std::vector<double> ns;
  for (int i = 0; i < 9; ++i) {
    std::deque<counted> sent(messages);
    for (auto& m : sent) m.arrived = &arrived;
    arrived = 0;
    const double begin = bench::cpu_seconds();
    for (auto& m : sent) to.post(m);
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / static_cast<double>(messages));
    while (arrived.load(std::memory_order_acquire) != messages) std::this_thread::yield();
  }
  bench::report("wakeup", "flooded", ns, messages);
}

void reach_sleeper(scheduler& to, std::uint64_t count) {
  std::atomic<std::uint64_t> arrived{0};
  std::vector<double> ns;
  for (std::uint64_t i = 0; i < count; ++i) {
    // Long enough for the receiver to fall asleep again.
    const double pause = wall_seconds() + 100e-6;
    while (wall_seconds() < pause) {
    }
    counted m;
    m.arrived = &arrived;
    const double begin = wall_seconds();
    to.post(m);
    while (arrived.load(std::memory_order_acquire) != i + 1) {
    }
    ns.push_back((wall_seconds() - begin) * 1e9);
  }
  bench::report("wakeup", "sleeping", ns, count);
}

task<> until_stopped() { (void)co_await sleep_for(std::chrono::hours(1)); }

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t messages = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 100'000;
  runtime rt;
  rt.spawn(until_stopped);
  std::thread receiver([&rt] { rt.run(); });
  flood(rt.at(0), messages);
  reach_sleeper(rt.at(0), 2'000);
  rt.request_stop();
  receiver.join();
}
