// Private to runtime: what a runtime shares with its handles, and what outlives it.
#pragma once

#include <atomic>
#include <cstdint>

namespace keel {

class runtime;

namespace detail {

// Open until its runtime has no task left and goes. Whoever is inside keeps the runtime from ending.
//
// Life cycle: made and closed by the runtime; goes with the last of its shares.
// Thread safety: any thread.
class door {
 public:
  explicit door(runtime& owner) noexcept : owner_(owner) {}
  door(const door&) = delete;
  door& operator=(const door&) = delete;

  void share() noexcept { shares_.fetch_add(1, std::memory_order_relaxed); }
  void let_go() noexcept {
    if (shares_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  // False when it is closed. After true: leave(), soon.
  bool enter() noexcept {
    if ((state_.fetch_add(inside, std::memory_order_acquire) & closed) == 0) return true;
    leave();
    return false;
  }
  void leave() noexcept {
    if (state_.fetch_sub(inside, std::memory_order_release) == (closed | inside)) state_.notify_all();
  }
  // Lets nobody in any more, and waits for those who are.
  void close() noexcept {
    std::uint32_t now = state_.fetch_or(closed, std::memory_order_acq_rel) | closed;
    while (now != closed) {
      state_.wait(now, std::memory_order_acquire);
      now = state_.load(std::memory_order_acquire);
    }
  }
  // REQUIRES: inside
  runtime& owner() const noexcept { return owner_; }

 private:
  ~door() = default;

  static constexpr std::uint32_t closed = 1;
  static constexpr std::uint32_t inside = 2;

  runtime& owner_;
  std::atomic<std::uint32_t> shares_{1};
  std::atomic<std::uint32_t> state_{0};  // `closed`, if it is, and `inside` for each who is
};

}  // namespace detail
}  // namespace keel
