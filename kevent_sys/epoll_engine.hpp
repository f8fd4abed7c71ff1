// Private to kevent_sys: the engine on epoll, for where io_uring is forbidden or too old.
#pragma once

#include <keel/kevent_sys/engine.hpp>

#include "adaptive_spin.hpp"
#include "engine_calls.hpp"
#include "epoll_descriptors.hpp"
#include "futex_waits.hpp"

#include <pthread.h>
#include <atomic>
#include <optional>
#include <span>

namespace keel::kevent_sys {

// Calls are tried in poll(); what would have to wait is parked at its descriptor, and tried again when that
// becomes ready. Works from Linux 5.6 on; before 5.11 it sleeps whole milliseconds.
//
// One hidden descriptor besides the epoll's, the bell by which other threads end a sleep: an eventfd, or for
// a queue that several threads share a timerfd, which is the alarm, too.
//
// What may wait for a disk, or for whom it likes, is done by a thread of the blocking pool.
//
// INVARIANT: an operation in flight is in exactly one list, or on a thread.
// INVARIANT: what repeats, or carries a buffer, is published only when the sink has room for it.
class epoll_engine final : public engine {
 public:
  epoll_engine(event_sink& sink, const engine_options& options) noexcept;
  ~epoll_engine() override;

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
  int do_fd() const noexcept override;

  // The turn.
  void bind_to_this_thread() noexcept;
  void end_cancelled() noexcept;
  static bool has_part(operation& op) noexcept;
  void run_ready() noexcept;
  bool may_sleep() noexcept;
  int look(std::span<epoll_event> events, std::uint64_t timeout_ns) noexcept;
  int spin(std::span<epoll_event> events, std::uint64_t timeout_ns) noexcept;
  void collect(std::uint64_t deadline_ns) noexcept;
  std::uint64_t time_left(std::uint64_t deadline_ns) noexcept;
  void leave() noexcept;
  void finish(operation& op, int value) noexcept { publish(op, answer{value, 0}); }

  // Descriptors.
  void park(operation& op) noexcept;
  void cannot_park(operation& op, int error) noexcept;
  void serve(watched_descriptor& d, std::uint32_t events) noexcept;
  bool answer_poll(operation& op, std::uint32_t ready) noexcept;
  void forget_unwanted(watched_descriptor& d) noexcept;
  void end_exclusive(operation& op) noexcept;

  // One attempt. True when `op` has to wait for its descriptor; else it has its last event, or is in a list.
  bool attempt(operation& op) noexcept;
  bool attempt_accept(operation& op) noexcept;
  bool attempt_connect(operation& op) noexcept;
  bool attempt_recv(operation& op) noexcept;
  bool attempt_send(operation& op) noexcept;
  bool waits_for_rest(operation& op, int value) noexcept;
  bool attempt_receive(operation& op) noexcept;
  bool attempt_sendfile(operation& op) noexcept;
  bool attempt_read(operation& op) noexcept;
  bool attempt_write(operation& op) noexcept;
  bool ended_unless_blocked(operation& op, int value) noexcept;
  void hand_to_pool(operation& op) noexcept;
  void came_from_pool(operation& op, int value) noexcept;
  static std::int32_t perform(operation& op) noexcept;
  void close_descriptor(operation& op) noexcept;
  void wait_for_word(operation& op) noexcept;
  void collect_answers() noexcept;

  // Buffers.
  void starve(operation& op) noexcept;
  void unpark() noexcept;

  // Wakes and alarms.
  static void ring_bell(void* self) noexcept;
  void heard_bell() noexcept;
  void tell_woken() noexcept;
  void hush() noexcept;
  void set_timer(std::uint64_t at_ns) noexcept;
  void arm_timer() noexcept;
  void retry_connects() noexcept;

  engine_options options_;
  epoll_set set_;
  int hidden_fd_ = -1;  // an eventfd of the pool's (leases may outlive the engine), or timer_
  unique_fd timer_;
  intrusive_list<operation> ready_;     // submitted, or interrupted: to be tried in the next poll()
  intrusive_list<operation> ended_;     // cancelled: to be told in the next poll()
  intrusive_list<operation> starved_;   // receives that wait for a buffer
  intrusive_list<operation> wakes_;     // opcode::wake
  intrusive_list<operation> orphans_;   // closed under them: only a cancel ends these
  intrusive_list<operation> retrying_;  // connects to a peer whose backlog is full
  std::uint64_t retry_ns_ = never;      // when `retrying_` is tried again
  std::uint64_t alarm_ns_ = never;
  bool ringing_ = false;          // fd() is readable until the next poll()
  bool woken_ = false;            // a wake that no operation was there for
  mutable bool watched_ = false;  // somebody asked for fd()
  bool bound_ = false;            // to `owner_`
  pthread_t owner_{};
  adaptive_spin spin_;
  std::atomic<bool> wake_wanted_{false};  // a wake() that no poll() has seen yet
  std::atomic<bool> bell_rung_{false};    // shared: another thread has set the timer to ring at once
  std::optional<futex_waits> futexes_;    // since the first opcode::futex
  std::optional<engine_calls> calls_;     // until the end is near
};

// Errors: what the kernel said, out of descriptors or memory.
result<engine*> make_epoll_engine(event_sink& sink, const engine_options& options, const char* reason);

}  // namespace keel::kevent_sys
