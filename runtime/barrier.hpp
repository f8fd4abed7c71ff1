// Tasks that go on together, phase after phase.
#pragma once

#include <keel/runtime/wait_list.hpp>

#include <concepts>
#include <cstddef>
#include <cstdint>

namespace keel {

// A phase ends when as many have arrived as take part; then all who arrived go on, and the next phase begins.
// A resource; not movable.
//
// A wait that is cancelled takes its arrival back: the phase needs it still, so after a timeout one may
// arrive again. Who does not come back calls arrive_and_drop(), or the others wait for ever; that is no wait,
// so a task that was stopped can do it.
//
// Life cycle: made for a number of participants -> destroyed when nobody waits (asserted).
// Thread safety: tasks of one scheduler.
class barrier {
 public:
  class wait_op;

  // `name` is a literal: what a task is said to wait for.
  explicit barrier(std::size_t participants, const char* name = "a barrier") noexcept
      : line_(name), participants_(participants), missing_(participants) {}
  // `on_phase()` is called at the end of each phase, by the last who arrives, before anybody goes on.
  //
  // Lifetime: `on_phase` must live as long as the barrier; it does not throw, and does not use the barrier.
  template <std::invocable Fn>
  barrier(std::size_t participants, Fn& on_phase, const char* name = "a barrier") noexcept
      : barrier(participants, name) {
    on_phase_ = [](void* fn) noexcept { (*static_cast<Fn*>(fn))(); };
    on_phase_context_ = &on_phase;
  }

  std::size_t participants() const noexcept { return participants_; }
  // How many have yet to arrive in this phase.
  std::size_t missing() const noexcept { return missing_; }
  // Counts the phases that have ended.
  std::uint64_t phase() const noexcept { return phase_; }

  // Arrives, and waits for the end of the phase.
  //
  // Errors:    operation_canceled.
  // Cancelled: as if it had not arrived. The last who arrives ends the phase, in a stopped task, too.
  // Lifetime:  *this must live until the phase has ended, or the co_await returns.
  // REQUIRES:  no more arrive in a phase than take part.
  [[nodiscard]] wait_op arrive_and_wait() noexcept;
  // Takes part no longer: neither in this phase nor in those that follow.
  void arrive_and_drop() noexcept;

 private:
  bool arrive() noexcept;
  void end_phase() noexcept;

  wait_list line_;
  std::size_t participants_;
  std::size_t missing_;
  std::uint64_t phase_ = 0;
  void (*on_phase_)(void* context) noexcept = nullptr;
  void* on_phase_context_ = nullptr;
};

class barrier::wait_op : public queued_wait {
 public:
  explicit wait_op(barrier& wanted) noexcept : queued_wait(&stopped), barrier_(wanted) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() noexcept { return outcome("wait for a barrier"); }

 private:
  static void stopped(stop_callback& self, stop_level level) noexcept;

  barrier& barrier_;
};

inline auto barrier::arrive_and_wait() noexcept -> wait_op {
  return wait_op(*this);
}

}  // namespace keel
