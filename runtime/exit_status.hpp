// How a process ended.
#pragma once

#include <string>

namespace keel {

// An exit code, or the signal that killed it. A value.
class exit_status {
 public:
  static constexpr exit_status exited_with(int code) noexcept { return {code, 0, false}; }
  static constexpr exit_status killed_by(int signal, bool core_dumped = false) noexcept {
    return {0, signal, core_dumped};
  }
  // From what wait(2) says of a process that has ended.
  static exit_status from_wait(int status) noexcept;

  constexpr bool success() const noexcept { return exited() && code_ == 0; }
  constexpr bool exited() const noexcept { return signal_ == 0; }
  // What it gave to exit(), 0 to 255. REQUIRES: exited(); else it is -1
  constexpr int code() const noexcept { return exited() ? code_ : -1; }
  // The number of the signal that killed it, or 0.
  constexpr int signal() const noexcept { return signal_; }
  constexpr bool core_dumped() const noexcept { return core_dumped_; }

  // "exited with 3", "killed by SIGSEGV (core dumped)".
  std::string text() const;

  friend constexpr bool operator==(exit_status, exit_status) noexcept = default;

 private:
  constexpr exit_status(int code, int signal, bool core_dumped) noexcept
      : code_(code), signal_(signal), core_dumped_(core_dumped) {}

  int code_;
  int signal_;
  bool core_dumped_;
};

}  // namespace keel
