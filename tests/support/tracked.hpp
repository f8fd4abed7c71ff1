// An object that notices what compilers and lifetimes do to it.
#pragma once

#include <doctest/doctest.h>

#include <atomic>
#include <utility>

namespace keel::test {

// Counts its instances. One that was copied bitwise, or is destroyed twice, shows in broken(): it then does
// not stand where it was made. The counts are for all threads together.
class tracked {
 public:
  explicit tracked(int number = 0) noexcept : value(number), self_(this) { ++alive_; }
  tracked(const tracked& other) noexcept : value(other.checked().value), self_(this) { ++alive_; }
  tracked(tracked&& other) noexcept : value(std::exchange(other.checked().value, -1)), self_(this) {
    ++alive_;
  }
  tracked& operator=(const tracked& other) noexcept {
    value = other.checked().value;
    return *this;
  }
  ~tracked() {
    checked();
    self_ = nullptr;
    --alive_;
  }

  static int alive() noexcept { return alive_; }
  static int broken() noexcept { return broken_; }

  int value;

 private:
  tracked& checked() noexcept {
    if (self_ != this) ++broken_;
    return *this;
  }
  const tracked& checked() const noexcept { return const_cast<tracked*>(this)->checked(); }

  static inline std::atomic<int> alive_ = 0;
  static inline std::atomic<int> broken_ = 0;
  tracked* self_;
};

// Checks at its end that no tracked object was left or broken meanwhile.
class tracked_balance {
 public:
  tracked_balance() noexcept = default;
  tracked_balance(const tracked_balance&) = delete;
  tracked_balance& operator=(const tracked_balance&) = delete;
  ~tracked_balance() {
    CHECK(tracked::alive() == alive_);
    CHECK(tracked::broken() == broken_);
  }

 private:
  int alive_ = tracked::alive();
  int broken_ = tracked::broken();
};

}  // namespace keel::test
