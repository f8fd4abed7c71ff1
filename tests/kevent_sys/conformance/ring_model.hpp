// What commit must answer: the arithmetic of a ring whose commits are strict, told without looking at keel.
#pragma once

#include <cerrno>

namespace keel::test {

class ring_model {
 public:
  explicit ring_model(unsigned size) : size_(size) {}

  unsigned used() const { return full_ ? size_ : (kidx_ + size_ - uidx_) % size_; }
  unsigned space() const { return size_ - used(); }
  unsigned kidx() const { return kidx_; }
  unsigned uidx() const { return uidx_; }
  unsigned over() const { return over_; }

  // One event; false when it finds no room.
  bool put() {
    if (space() == 0) return false;
    kidx_ = (kidx_ + 1) % size_;
    full_ = kidx_ == uidx_;
    return true;
  }
  int commit(unsigned new_uidx, unsigned over) {
    if (new_uidx >= size_) return -EINVAL;
    if (over != over_) return -EOVERFLOW;
    const unsigned freed = (new_uidx + size_ - uidx_) % size_;
    // A full ring and an empty commit look alike: nothing moves.
    if (freed == 0) return 0;
    if (freed > used()) return -EINVAL;
    if (new_uidx < uidx_) ++over_;
    uidx_ = new_uidx;
    full_ = false;
    return static_cast<int>(freed);
  }

 private:
  unsigned size_;
  unsigned kidx_ = 0;
  unsigned uidx_ = 0;
  unsigned over_ = 0;
  bool full_ = false;
};

}  // namespace keel::test
