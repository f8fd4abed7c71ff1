// Private to kevent_sys: the engine on io_uring.
#pragma once

#include <keel/base/unique_fd.hpp>
#include <keel/kevent_sys/engine.hpp>

#include "adaptive_spin.hpp"
#include "engine_calls.hpp"
#include "uring_buffers.hpp"
#include "uring_requests.hpp"
#include "uring_ring.hpp"

#include <atomic>

namespace keel::kevent_sys {

// INVARIANT: at most one submission of an operation is with the kernel; its user_data is the operation's
//            address and the low 16 bits of its generation.
// INVARIANT: a completion is taken from the kernel only when the sink has room for its event.
class uring_engine final : public engine {
 public:
  uring_engine(event_sink& sink, const engine_options& options) noexcept;
  ~uring_engine() override;

  // Errors: what the kernel said to the first of the calls that are needed.
  result<void> open() noexcept;

 private:
  void do_submit(operation& op) noexcept override;
  void do_cancel(operation& op) noexcept override;
  void do_poll(std::uint64_t deadline_ns) noexcept override;
  void do_wake() noexcept override;
  result<int> do_pollable() noexcept override;
  void do_rest(std::uint64_t deadline_ns) noexcept override;
  void do_block(std::uint64_t deadline_ns) noexcept override;
  void do_ring() noexcept override;
  void do_set_alarm(std::uint64_t deadline_ns) noexcept override;
  std::uint64_t do_now_ns() noexcept override;
  int do_fd() const noexcept override { return ring_.fd(); }

  result<void> probe() noexcept;
  void bind_to_this_thread() noexcept;
  io_uring_sqe* next_sqe() noexcept;
  bool fill(operation& op) noexcept;
  bool fill_cancel(operation& op) noexcept;
  void flush_backlog() noexcept;
  void enter(unsigned wait_for, std::uint64_t timeout_ns) noexcept;
  void wait(std::uint64_t deadline_ns) noexcept;
  bool spin(std::uint64_t deadline_ns) noexcept;
  void reap() noexcept;
  void complete(const io_uring_cqe& cqe) noexcept;
  // user_data: the operation's address, and above it the low bits of its generation.
  static std::uint64_t user_data_of(const operation& op) noexcept {
    return reinterpret_cast<std::uintptr_t>(&op) | std::uint64_t{op.generation()} << 48;
  }
  // What else completes: no operation has such an address.
  static constexpr std::uint64_t mark_nobody = 0;
  static constexpr std::uint64_t mark_ring = 1;
  static constexpr std::uint64_t mark_alarm = 2;
  static constexpr std::uint64_t mark_calls = 3;
  static constexpr std::uint64_t marks_end = alignof(operation);
  static operation& operation_of(std::uint64_t user_data) noexcept {
    return *reinterpret_cast<operation*>(user_data & ((std::uint64_t{1} << 48) - 1));
  }
  void finish(operation& op, int value) noexcept { publish(op, answer{value, 0}); }

  void complete_receive(operation& op, const io_uring_cqe& cqe) noexcept;
  void receive_by_call(operation& op, int ready) noexcept;
  void park(operation& op) noexcept;
  void unpark() noexcept;
  static void buffer_arrived(void* self, std::uint16_t id) noexcept;

  // The step of a request that the kernel would not wait for, or of a connect that was begun for a thread
  // that has exited: a poll. Not used by sendfile, which has steps of its own.
  static constexpr std::uint8_t step_polling = 1;
  // And a pause, after a poll for room that told of nothing but a peer that sends no more. The kernel adds
  // POLLRDHUP to every poll, so the next one would tell the same at once.
  static constexpr std::uint8_t step_pausing = 4;
  bool pauses(operation& op, int polled) noexcept;
  bool waits_by_poll(operation& op, const io_uring_cqe& cqe) noexcept;
  void complete_mark(const io_uring_cqe& cqe) noexcept;
  bool goes_on_elsewhere(operation& op, const io_uring_cqe& cqe) noexcept;
  void complete_connect(operation& op, int value) noexcept;
  bool fill_alarm() noexcept;
  void submit_again(operation& op) noexcept {
    if (!fill(op)) backlog_.push_back(op);
  }

  void ring_bell() const noexcept;
  void submit_futex(operation& op) noexcept;
  void submit_call(operation& op) noexcept;
  void cancel_call(operation& op) noexcept;
  void collect_calls() noexcept;
  bool watch_calls() noexcept;
  static void call_finished(void* self) noexcept;

  void run_transfers() noexcept;
  void transfer(operation& op) noexcept;
  void complete_transfer(operation& op, int value) noexcept;
  bool warm_up(operation& op) noexcept;

  engine_options options_;
  uring_ring ring_;
  uring_buffers buffers_;
  uring_abilities here_;               // its wake_fd belongs to the pool: leases may outlive the engine
  intrusive_list<operation> backlog_;  // to be handed over; the submission queue was full
  intrusive_list<operation> cancel_backlog_;  // to be cancelled; the submission queue was full
  intrusive_list<operation> parked_;          // receives that wait for a buffer
  intrusive_list<operation> transfers_;       // sendfiles whose next step is a system call
  intrusive_list<operation> unknown_;         // the kernel does not know them
  std::byte* scratch_ = nullptr;              // what warm-up reads write into; nobody looks at it
  adaptive_spin spin_;
  __kernel_timespec alarm_time_{};
  std::uint64_t alarm_ns_ = never;  // of the alarm that the kernel has, or gets with the next enter
  bool alarm_wanted_ = false;       // the submission queue was full
  bool ringing_ = false;            // a completion is on its way or in the queue, so that fd() is readable
  unique_fd bell_;                  // an eventfd, written to by the kernel and ring(); since pollable()
  std::atomic<int> bell_fd_{-1};    // the same, for other threads
  unique_fd calls_fd_;              // an eventfd, written to when calls have finished; since the first call
  bool futexes_prepared_ = false;   // the process has what it needs to wait for futexes
  bool calls_watched_ = false;      // the kernel has a poll of it, or gets it with the next enter
  engine_calls calls_;
};

// Errors: what the kernel said, and to which call.
result<engine*> make_uring_engine(event_sink& sink, const engine_options& options, const char* reason);

}  // namespace keel::kevent_sys
