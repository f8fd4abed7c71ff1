// Private to kevent_sys: KEVENT_FUTEX.
#pragma once

#include "shared_queue.hpp"

namespace keel::kevent_sys {

// Wake tokens of a 32-bit word, each of them an event.
class futex_event final : public registration {
 public:
  futex_event(shared_queue& home, const ukevent& asked) noexcept : registration(home, asked), wait_(*this) {}

  int open() noexcept override;
  verdict test(short) noexcept override;
  void start() noexcept override;
  void stop() noexcept override;
  bool busy() const noexcept override { return wait_.in_flight(); }

 private:
  struct waiting : operation {
    explicit waiting(futex_event& of) noexcept;
    futex_event& owner;
  };

  std::uint32_t* word() const noexcept;
  void arm(std::uint32_t expected) noexcept;
  static void answered(operation& self, answer a) noexcept;
  void on_answer(int value) noexcept;

  waiting wait_;
  bool ended_ = false;
  bool armed_once_ = false;
};

}  // namespace keel::kevent_sys
