// Checks that coroutine frames go as they came.
#pragma once

#include <keel/runtime/frame_allocator.hpp>

#include <doctest/doctest.h>

namespace keel::test {

// Checks at its end that as many frames of this thread live as at its start.
class frame_balance {
 public:
  frame_balance() noexcept = default;
  frame_balance(const frame_balance&) = delete;
  frame_balance& operator=(const frame_balance&) = delete;
  ~frame_balance() { CHECK(this_thread_frames().live == live_); }

 private:
  std::uint64_t live_ = this_thread_frames().live;
};

}  // namespace keel::test
