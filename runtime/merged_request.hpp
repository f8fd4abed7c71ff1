// A request with a level, on its way to another thread.
#pragma once

#include <keel/runtime/inbox.hpp>

namespace keel::detail {

// Requests that are on the way at one time are one request, of the highest level: one message carries them,
// and no thread sends it while it is on the way.
//
// raised_ values: false, the message is at home; true, somebody sends it, and its receiver has not opened it.
// Thread safety: raise() any thread, open() the receiver's.
template <class Level, class Atomics = std_atomics>
class merged_request {
 public:
  // True: the caller sends the message. False: one that is on the way tells of `level`, or of a higher one.
  [[nodiscard]] bool raise(Level level) noexcept {
    Level before = level_.load();
    while (before < level && !level_.compare_exchange_weak(before, level)) {
    }
    return !raised_.exchange(true);
  }

  // On delivery of the message: the level so far. Whoever raises it from now on sends the message again. In
  // this order, and sequentially consistent: a level that comes in between is told twice, never not at all.
  Level open() noexcept {
    raised_.store(false, std::memory_order_seq_cst);
    return level_.load(std::memory_order_seq_cst);
  }

  // Any thread: the highest level so far.
  Level level() const noexcept { return level_.load(); }

 private:
  typename Atomics::template atomic<bool> raised_{false};
  typename Atomics::template atomic<Level> level_{Level()};
};

}  // namespace keel::detail
