// Owned and borrowed file descriptors.
#pragma once

#include <keel/base/assert.hpp>

#include <utility>

namespace keel {

// Somebody else's descriptor, open at least until the call that takes it has ended. A value.
class borrowed_fd {
 public:
  explicit constexpr borrowed_fd(int fd) noexcept : fd_(fd) {}
  constexpr int get() const noexcept { return fd_; }

 private:
  int fd_;
};

// A descriptor that is closed with its owner. A resource; movable.
class unique_fd {
 public:
  constexpr unique_fd() noexcept = default;
  explicit constexpr unique_fd(int fd) noexcept : fd_(fd) {}
  unique_fd(unique_fd&& other) noexcept : fd_(other.release()) {}
  unique_fd& operator=(unique_fd&& other) noexcept {
    if (this != &other) reset(other.release());
    return *this;
  }
  ~unique_fd() { reset(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  operator borrowed_fd() const noexcept { return borrowed_fd(fd_); }

  // Gives the descriptor away: the caller closes it.
  int release() noexcept { return std::exchange(fd_, -1); }
  // Closes the descriptor that was held. An error of close(2) is ignored: the descriptor is gone either way.
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

}  // namespace keel
