// The stacks of fibers: mapped with a guard below, kept by each thread for the next fiber.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

namespace keel {

struct fiber_options {
  // Rounded up to a power of two, at least 16 KiB; 128 bytes of it are ours. Sanitizer builds give four times
  // as much: their frames are larger. Only what is touched takes memory.
  std::size_t stack_bytes = std::size_t(64) << 10;
};

// What a fiber throws out of co_await when there is no stack for it.
class no_fiber_stack : public std::bad_alloc {
 public:
  const char* what() const noexcept override;
};

struct fiber_counters {
  std::uint64_t fresh = 0;       // stacks that were mapped
  std::uint64_t reused = 0;      // fibers that ran on a stack of the pool
  std::uint64_t in_use = 0;      // stacks of fibers that have begun and not ended
  std::uint64_t pooled = 0;      // stacks that wait for a fiber
  std::uint64_t warm_bytes = 0;  // of those, what may have memory behind it
};

// Of the stacks of this thread. Cheap.
fiber_counters this_thread_fibers() noexcept;

// The most that any fiber of this thread has used of its stack so far. Asks the kernel about each stack.
std::size_t fiber_high_water_bytes() noexcept;

// Gives back the memory and the mappings of the stacks of this thread that no fiber uses.
void trim_fiber_stacks() noexcept;

namespace detail {

// A mapping: a guard that nobody may touch, the stack, and at its top this object.
//
// Memory comes from the kernel as zeroes: what is not zero was used. So the high water costs nothing until
// somebody asks for it.
//
// Life cycle: take() -> a fiber -> give_back(), on one thread.
class fiber_stack {
 public:
  // Throws no_fiber_stack.
  static fiber_stack& take(std::size_t stack_bytes);
  void give_back() noexcept;

  // The stack grows down from here, to low().
  void* top() const noexcept { return top_; }
  char* low() const noexcept { return low_; }
  std::size_t size_bytes() const noexcept {
    return static_cast<std::size_t>(static_cast<char*>(top_) - low_);
  }
  // The same with what this object takes.
  std::size_t nominal_bytes() const noexcept;
  // The most that was used since the memory came from the kernel.
  std::size_t used_bytes() const noexcept;
  // Whether a fault there is an overflow of this stack.
  bool guards(const void* address) const noexcept;

 private:
  friend class fiber_stack_pool;
  fiber_stack() noexcept = default;

  char* low_ = nullptr;
  void* top_ = nullptr;
  fiber_stack* next_free_ = nullptr;
  fiber_stack* next_ = nullptr;  // of all stacks of the thread
  fiber_stack* previous_ = nullptr;
  unsigned size_class_ = 0;
};

}  // namespace detail
}  // namespace keel
