#include <keel/runtime/fiber_stack.hpp>

#include <keel/base/address_sanitizer.hpp>
#include <keel/runtime/fiber.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <sys/mman.h>
#include <cstring>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/in_child.hpp"
#include "support/in_runtime.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::await;
using keel::spawn_fiber;
using keel::task;
using keel::this_thread_fibers;
using keel::detail::fiber_stack;
using keel::test::run_simulated;

namespace {

// The thread sanitizer knows of 8,000 threads and fibers at a time.
#if defined(__SANITIZE_THREAD__)
constexpr int many = 1'000;
#else
constexpr int many = 10'000;
#endif

void touch(std::size_t bytes) {
  auto* memory = static_cast<volatile char*>(__builtin_alloca(bytes));
  for (std::size_t i = 0; i < bytes; i += 512) memory[i] = 1;
}

}  // namespace

TEST_CASE("fiber_stack: the stack of one that has ended serves the next, and nothing is allocated") {
  keel::trim_fiber_stacks();
  run_simulated([]() -> task<> {
    auto one = [] { await(keel::sleep_for(1us)).value(); };
    co_await keel::fiber(one);
    keel::trim_fiber_stacks();
    const auto before = this_thread_fibers();
    const auto fresh_frames = keel::this_thread_frames().fresh;
    for (int i = 0; i < 1'000; ++i) co_await keel::fiber(one);
    CHECK(keel::this_thread_frames().fresh == fresh_frames);
    const auto after = this_thread_fibers();
    CHECK(after.fresh == before.fresh + 1);
    CHECK(after.reused == before.reused + 999);
    CHECK(after.pooled == 1);
    CHECK(after.in_use == 0);
  }());
  keel::trim_fiber_stacks();
  CHECK(this_thread_fibers().pooled == 0);
  CHECK(this_thread_fibers().warm_bytes == 0);
}

TEST_CASE("fiber_stack: ten thousand at once, and a bounded pool afterwards") {
  const keel::test::frame_balance frames;
  keel::trim_fiber_stacks();
  run_simulated([]() -> task<> {
    std::vector<keel::join_handle<int>> fibers;
    auto waits = [](int number) {
      await(keel::sleep_for(1ms)).value();
      return number;
    };
    for (int i = 0; i < many; ++i) fibers.push_back(spawn_fiber(waits, i));
    co_await keel::test::some_turns(many / 100);
    CHECK(this_thread_fibers().in_use == many);
    long sum = 0;
    for (auto& each : fibers) sum += co_await std::move(each);
    CHECK(sum == long(many) * (many - 1) / 2);
    CHECK(this_thread_fibers().in_use == 0);
    CHECK(this_thread_fibers().pooled <= 1'024);
    CHECK(this_thread_fibers().warm_bytes <= (4u << 20));
  }());
  keel::trim_fiber_stacks();
}

TEST_CASE("fiber_stack: sizes are rounded up, and each has its own pool") {
  for (const std::size_t asked :
       {std::size_t(1), std::size_t(16) << 10, std::size_t(100'000), std::size_t(4) << 20}) {
    fiber_stack& stack = fiber_stack::take(asked);
    CHECK(stack.nominal_bytes() >= asked);
    CHECK(stack.nominal_bytes() >= (16u << 10));
    CHECK(stack.size_bytes() == stack.nominal_bytes() - 128);
    std::memset(stack.low(), 1, stack.size_bytes());
    CHECK(stack.guards(stack.low() - 1));
    CHECK(!stack.guards(stack.low()));
    CHECK(!stack.guards(stack.top()));
    stack.give_back();
  }
  keel::trim_fiber_stacks();
  CHECK_DEATH(fiber_stack::take(std::size_t(2) << 30), "at most 1 GiB");
}

TEST_CASE("fiber_stack: the guard stops whoever goes too far") {
  const auto end = keel::test::in_child([] {
    fiber_stack& stack = fiber_stack::take(1);
    *static_cast<volatile char*>(stack.low() - 1) = 1;
    return 0;
  });
  CHECK(end.exit_code != 0);
}

TEST_CASE("fiber_stack: the high water is what was used, to the word") {
  keel::trim_fiber_stacks();
  fiber_stack& stack = fiber_stack::take(std::size_t(1) << 20);
  CHECK(stack.used_bytes() == 0);
  char* top = static_cast<char*>(stack.top());
  top[-8] = 1;
  CHECK(stack.used_bytes() == 8);
  top[-4096] = 1;
  CHECK(stack.used_bytes() == 4096);
  // Further down than what one question to the kernel covers.
  top[-900'000] = 1;
  CHECK(stack.used_bytes() == 900'000);
  stack.give_back();
  CHECK(keel::fiber_high_water_bytes() >= 900'000);
  // It is remembered when the stack has gone.
  keel::trim_fiber_stacks();
  CHECK(keel::fiber_high_water_bytes() >= 900'000);
}

TEST_CASE("fiber_stack: a fiber sees how much stack fibers like it have used") {
  keel::trim_fiber_stacks();
  run_simulated([]() -> task<> {
    auto uses = [] {
      touch(40'000);
      return keel::this_fiber::stack_use();
    };
    const auto use = co_await keel::fiber(uses);
    CHECK(use.high_water_bytes > 40'000);
    CHECK(use.high_water_bytes < 60'000);
  }());
}

TEST_CASE("fiber_stack: stacks that the pool keeps beyond its measure have no memory") {
  keel::trim_fiber_stacks();
  std::vector<fiber_stack*> stacks;
  for (int i = 0; i < 8; ++i) {
    stacks.push_back(&fiber_stack::take(std::size_t(1) << 20));
    std::memset(stacks.back()->low(), 1, stacks.back()->size_bytes());
  }
  const std::size_t each = stacks.front()->size_bytes();
  for (fiber_stack* stack : stacks) stack->give_back();
  CHECK(this_thread_fibers().pooled == 8);
  CHECK(this_thread_fibers().warm_bytes <= (4u << 20));
  // The warm ones are taken first; the others look new.
  std::size_t used = 0;
  for (fiber_stack*& stack : stacks) {
    stack = &fiber_stack::take(std::size_t(1) << 20);
    used += stack->used_bytes() > each / 2 ? each : 0;
  }
  CHECK(used <= (4u << 20));
  CHECK(used > 0);
  for (fiber_stack* stack : stacks) stack->give_back();
  keel::trim_fiber_stacks();
}

TEST_CASE("H10 fiber: with no memory for a stack the co_await throws, and nothing is left") {
#if defined(__SANITIZE_THREAD__)
  return;  // its shadow takes longer to run out than a test may last
#endif
  const auto end = keel::test::in_child([] {
    const keel::test::frame_balance frames;
    // Uses up what the process may map: page by page of different kinds.
    constexpr std::size_t pages = 400'000;
    auto* memory = static_cast<char*>(
        ::mmap(nullptr, pages * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    std::size_t used = 0;
    auto exhaust = [&] {
      while (used < pages && ::mprotect(memory + used * 4096, 4096, PROT_READ) == 0) used += 2;
      return used < pages;
    };
    bool limited = true;
    auto main = [&]() -> task<int> {
      // A fiber whose stack is there goes on.
      auto survivor = spawn_fiber([] { return await(keel::sleep_for(1ms)).has_value(); });
      co_await keel::test::some_turns();
      const auto before = this_thread_fibers();
      limited = exhaust();
      int caught = 0;
      for (int i = 0; i < 3; ++i) {
        try {
          co_await keel::fiber([] {}, {.stack_bytes = std::size_t(1) << 20});
        } catch (const keel::no_fiber_stack& e) {
          caught += std::strstr(e.what(), "max_map_count") != nullptr ? 1 : 0;
        }
      }
      ::munmap(memory, pages * 4096);
      co_await keel::fiber([] {}, {.stack_bytes = std::size_t(1) << 20});
      const bool survived = co_await std::move(survivor);
      const bool even = this_thread_fibers().in_use == before.in_use - 1;
      co_return survived&& even ? caught : -1;
    };
    const int caught = run_simulated(main());
    if (!limited) return 77;
    return caught == 3 ? 0 : 1;
  });
  if (end.exit_code == 77) return;
  CHECK_MESSAGE(end.exit_code == 0, end.said);
}

TEST_CASE("fiber_stack: a thread gives its stacks back when it ends") {
  // The sanitizer for leaks and the memory map would tell: mappings do not grow.
  for (int i = 0; i < 50; ++i) {
    std::thread([] {
      keel::run([]() -> task<> { co_await keel::fiber([] { touch(1'000); }); }());
      CHECK(this_thread_fibers().fresh == 1);
    }).join();
  }
}
