// What fibers cost: making, running and joining one; leaving it and coming back; awaiting in it; and the same
// from a coroutine.
//
//     build/release/bench/fiber [OPERATIONS]
//
// CPU time of this thread, one scheduler, after a warm-up round that fills the pools; medians of 9 rounds. A
// yield goes through the ready queue and is two switches of stacks; the coroutine's counterpart goes through
// it, too. The floor of two switches is what Boost.Context alone takes: some 14 ns. `at_once` keeps that many
// suspended together.

#include "report.hpp"

#include <keel/keel.hpp>

#include <cstdlib>
#include <vector>

using namespace keel;

namespace {

constexpr int rounds = 9;
constexpr std::uint64_t crowd = 10'000;

task<int> ready_child(int value) {
  co_return value;
}

// As this_fiber::yield(), for a coroutine.
auto turn() {
  return detail::fiber_turn();
}

template <class Round>
task<> measure(const char* what, std::uint64_t operations, Round round) {
  std::vector<double> ns;
  co_await round(operations);
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    co_await round(operations);
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / static_cast<double>(operations));
  }
  bench::report("fiber", what, ns, operations);
}

task<> fiber_run(std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) co_await fiber([] {});
}
task<> coroutine_run(std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) co_await ready_child(1);
}

task<> fiber_spawn_join(std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) co_await spawn_fiber([] {});
}
task<> nothing() {
  co_return;
}
task<> coroutine_spawn_join(std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) co_await spawn(nothing);
}

task<> fiber_yield(std::uint64_t n) {
  co_await fiber([n] {
    for (std::uint64_t i = 0; i < n; ++i) this_fiber::yield();
  });
}
task<> coroutine_yield(std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) co_await turn();
}

task<> fiber_await_ready(std::uint64_t n) {
  co_await fiber([n] {
    std::uint64_t sum = 0;
    for (std::uint64_t i = 0; i < n; ++i) sum += static_cast<std::uint64_t>(await(ready_child(1)));
    KEEL_ASSERT(sum == n);
  });
}

// Everyone yields once with all the others in between.
task<> fiber_at_once(std::uint64_t n) {
  const std::uint64_t each = n / crowd;
  std::vector<join_handle<void>> handles;
  handles.reserve(crowd);
  auto many = [each] {
    for (std::uint64_t i = 0; i < each; ++i) this_fiber::yield();
  };
  for (std::uint64_t i = 0; i < crowd; ++i) handles.push_back(spawn_fiber(many));
  for (auto& handle : handles) co_await std::move(handle);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t operations = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200'000;
  run(measure("fiber_run", operations, fiber_run));
  run(measure("coroutine_run", operations, coroutine_run));
  run(measure("fiber_spawn_join", operations, fiber_spawn_join));
  run(measure("coroutine_spawn_join", operations, coroutine_spawn_join));
  run(measure("fiber_yield", operations, fiber_yield));
  run(measure("coroutine_yield", operations, coroutine_yield));
  run(measure("fiber_await_ready_task", operations, fiber_await_ready));
  run(measure("fiber_yield_10000_at_once", operations * 5, fiber_at_once));
  std::printf("{\"bench\": \"fiber\", \"what\": \"high_water_bytes\", \"bytes\": %zu}\n",
              fiber_high_water_bytes());
}
