// Private to kevent_sys: the engine on io_uring.
#pragma once

#include <keel/kevent_sys/engine.hpp>

#include "adaptive_spin.hpp"
#include "uring_buffers.hpp"
#include "uring_ring.hpp"

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
  // user_data: the operation's address, and above it the low bits of its generation; 0 marks what nobody
  // waits for.
  static std::uint64_t user_data_of(const operation& op) noexcept {
    return reinterpret_cast<std::uintptr_t>(&op) | std::uint64_t{op.generation()} << 48;
  }
  static operation& operation_of(std::uint64_t user_data) noexcept {
    return *reinterpret_cast<operation*>(user_data & ((std::uint64_t{1} << 48) - 1));
  }
  void finish(operation& op, int value) noexcept { publish(op, answer{value, 0}); }

  void complete_receive(operation& op, const io_uring_cqe& cqe) noexcept;
  void receive_by_call(operation& op, int ready) noexcept;
  void park(operation& op) noexcept;
  void unpark() noexcept;
  static void buffer_arrived(void* self, std::uint16_t id) noexcept;

  void run_transfers() noexcept;
  void transfer(operation& op) noexcept;
  void complete_transfer(operation& op, int value) noexcept;
  bool warm_up(operation& op) noexcept;

  engine_options options_;
  uring_ring ring_;
  uring_buffers buffers_;
  int wake_fd_ = -1;                          // the pool owns it: leases may outlive the engine
  intrusive_list<operation> backlog_;         // to be handed over; the submission queue was full
  intrusive_list<operation> cancel_backlog_;  // to be cancelled; the submission queue was full
  intrusive_list<operation> parked_;          // receives that wait for a buffer
  intrusive_list<operation> transfers_;       // sendfiles whose next step is a system call
  std::byte* scratch_ = nullptr;              // what warm-up reads write into; nobody looks at it
  adaptive_spin spin_;
};

result<engine*> make_uring_engine(event_sink& sink, const engine_options& options, const char* reason);

}  // namespace keel::kevent_sys
