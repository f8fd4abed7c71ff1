// Private to kevent_sys: whether it pays to look for an event for a while before sleeping.
#pragma once

#include <algorithm>
#include <cstdint>

namespace keel::kevent_sys {

// Learns from what spins came to. A sleep and a wake-up cost more than a short spin, but a spin on a CPU that
// the peer needs only keeps the answer away. A value.
//
// With credit, every wait may spin. An answer adds a little, a spin in vain takes more. Without credit, waits
// go straight to sleep, but for one attempt after a pause; each attempt in vain doubles the pause.
class adaptive_spin {
 public:
  static constexpr std::uint32_t credit_max = 16;
  static constexpr std::uint32_t price_in_vain = 2;
  static constexpr std::uint32_t pause_min = 16;
  static constexpr std::uint32_t pause_max = 8192;

  // Asked once per wait.
  bool worth_trying() noexcept {
    if (left_ == 0) return true;
    --left_;
    return false;
  }
  void answered() noexcept {
    credit_ = std::min(credit_ + 1, credit_max);
    pause_ = 0;
  }
  void in_vain() noexcept {
    credit_ -= std::min(credit_, price_in_vain);
    if (credit_ != 0) return;
    pause_ = std::clamp(pause_ * 2, pause_min, pause_max);
    left_ = pause_;
  }

 private:
  std::uint32_t credit_ = credit_max / 2;
  std::uint32_t pause_ = 0;  // in waits
  std::uint32_t left_ = 0;   // of the pause
};

}  // namespace keel::kevent_sys
