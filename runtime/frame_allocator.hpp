// Memory for coroutine frames and what lives as shortly as they do: recycled by size on each thread.
#pragma once

#include <cstddef>
#include <cstdint>

namespace keel {

// What this thread's recycler has done so far. On a warm path `fresh` stands still.
struct frame_counters {
  std::uint64_t fresh = 0;     // taken from operator new
  std::uint64_t recycled = 0;  // taken from what was freed before
  std::uint64_t live = 0;      // taken and not freed, by this thread
};

const frame_counters& this_thread_frames() noexcept;

namespace detail {

// Throws std::bad_alloc. Memory may be freed on another thread than it was allocated on.
void* allocate_frame(std::size_t bytes);
void free_frame(void* memory, std::size_t bytes) noexcept;

// A base for classes whose objects are allocated like frames.
struct recycled {
  static void* operator new(std::size_t bytes) { return allocate_frame(bytes); }
  static void operator delete(void* memory, std::size_t bytes) noexcept { free_frame(memory, bytes); }
};

}  // namespace detail
}  // namespace keel
