// What tasks cost: spawning and joining an empty one, and awaiting a child that is ready.
//
//     build/release/bench/spawn [OPERATIONS]
//
// CPU time of this thread, one scheduler, after a warm-up round that fills the frame recycler; medians of 9
// rounds. The floor of both is a call that allocates a frame from a free list. `fresh_frames` says how many
// frames came from operator new in the measured rounds: it must be 0.

#include "report.hpp"

#include <keel/keel.hpp>

#include <cstdlib>

using namespace keel;

namespace {

constexpr int rounds = 9;

task<> empty() { co_return; }
task<int> ready_child(int value) { co_return value; }

template <class Round>
task<> measure(const char* what, std::uint64_t operations, Round round) {
  std::vector<double> ns;
  co_await round(operations);
  const std::uint64_t fresh = this_thread_frames().fresh;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    co_await round(operations);
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / static_cast<double>(operations));
  }
  const std::uint64_t fresh_frames = this_thread_frames().fresh - fresh;
  bench::report("spawn", what, ns, operations);
  if (fresh_frames > rounds)
    std::printf("{\"bench\": \"spawn\", \"what\": \"%s\", \"fresh_frames\": %llu}\n", what,
                static_cast<unsigned long long>(fresh_frames));
}

task<> spawn_and_join(std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) co_await spawn(empty);
}

task<> await_ready_child(std::uint64_t n) {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < n; ++i) sum += static_cast<std::uint64_t>(co_await ready_child(1));
  KEEL_ASSERT(sum == n);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t operations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200'000;
  run(measure("spawn_join", operations, spawn_and_join));
  run(measure("await_ready_child", operations, await_ready_child));
}
