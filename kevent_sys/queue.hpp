// The event queue of one CPU: registrations go in, events come out of one shared ring.
#pragma once

#include <keel/kevent_sys/engine.hpp>
#include <keel/kevent_sys/timing_wheel.hpp>

#include <cstdint>

namespace keel::kevent_sys {

// A timer on a queue: a registration like any other, whose event comes through the ring.
class timer : public operation, private timer_node {
 public:
  explicit timer(completion done) noexcept : operation({.code = opcode::timer}, done) {}
  timer(timer&& other) noexcept : operation(static_cast<operation&&>(other)), timer_node() {}

  using operation::in_flight;

 private:
  friend class queue;

  std::uint64_t delay_ns_ = 0;  // while it waits for the end of the turn
};

// Makes an engine other than make_engine() would: a simulation, for example. The queue deletes it.
struct engine_factory {
  engine* (*make)(event_sink& sink, void* context) = nullptr;
  void* context = nullptr;
};

struct queue_options {
  engine_options engine = {};
  std::uint32_t ring_events = 1024;  // slots of the shared ring; rounded up to a power of two
  engine_factory factory = {};       // instead of `engine`, when it can make
};

// The private flavour: one owner thread, no locks. What a scheduler runs on.
//
// Life cycle: create -> submit, arm, wait, consume, ... -> cancel and consume until idle() -> destroy.
// INVARIANT: the ring is the only way by which an event reaches its operation.
// Thread safety: the owner's thread, but wake(), which any thread may call.
class queue {
 public:
  // Throws std::system_error when no engine can be had, std::bad_alloc.
  explicit queue(const queue_options& options);
  queue(const queue&) = delete;
  queue& operator=(const queue&) = delete;
  // REQUIRES: idle()
  ~queue();

  void submit(operation& op) noexcept { engine_->submit(op); }
  void cancel(operation& op) noexcept { engine_->cancel(op); }

  // `t` fires at `deadline_ns` (kevent_sys::never: not before it is disarmed), or `delay_ns` after the end of
  // this turn: never early, and no look at the clock per timer. REQUIRES: !t.in_flight()
  void arm_at(timer& t, std::uint64_t deadline_ns) noexcept;
  void arm_after(timer& t, std::uint64_t delay_ns) noexcept;
  // Takes `t` back, with its event if that has not been consumed. True when it had been armed or fired.
  bool disarm(timer& t) noexcept;

  // Hands over what was submitted and fills the ring; sleeps for an event, a timer or wake() at most until
  // `deadline_ns` (0: does not sleep). Returns the number of events in the ring.
  std::uint32_t wait(std::uint64_t deadline_ns) noexcept;

  // Walks over the events that are in the ring now, oldest first, and tells their operations. Events that
  // arrive meanwhile wait for the next walk, as do those beyond `limit`. Not re-entrant. Returns how many it
  // consumed.
  std::uint32_t consume(std::uint32_t limit = ~std::uint32_t{0}) noexcept;

  // The time of the last wait(). No system call.
  std::uint64_t now_ns() const noexcept { return now_ns_; }
  // Reads the clock.
  std::uint64_t fresh_now_ns() noexcept { return engine_->now_ns(); }
  // When the next timer wants wait() to be called; never when none is armed.
  std::uint64_t next_deadline_ns() noexcept;

  // Any thread: the next wait() returns at once, with an event of `op` (opcode::wake) if one is in flight.
  void wake() noexcept { engine_->wake(); }

  // No operation in flight, no event waiting, no timer armed.
  bool idle() const noexcept;
  // Operations in flight, timers not counted.
  std::uint64_t in_flight() const noexcept { return engine_->in_flight(); }
  std::size_t timers() const noexcept { return wheel_.size(); }

  int fd() const noexcept { return engine_->fd(); }
  // For a loop that is not ours and sleeps elsewhere: see engine. rest() when a wait(0) had nothing to do;
  // the timers' time ends it, too.
  result<int> pollable() noexcept { return engine_->pollable(); }
  void rest() noexcept { engine_->rest(next_deadline_ns()); }
  void ring_bell() noexcept { engine_->ring(); }
  buffer_pool& buffers() noexcept { return engine_->buffers(); }
  const engine_info& info() const noexcept { return engine_->info(); }
  const engine_counters& counters() const noexcept { return engine_->counters(); }
  const kevent_ring& ring() const noexcept { return sink_.shared(); }
  std::uint64_t events() const noexcept { return sink_.published(); }
  engine& used_engine() noexcept { return *engine_; }

 private:
  void begin(timer& t) noexcept;
  void enter_wheel() noexcept;
  void fire_timers() noexcept;

  event_sink sink_;
  engine* engine_ = nullptr;
  timing_wheel wheel_;
  intrusive_list<operation> fresh_timers_;  // armed during this turn
  std::uint64_t now_ns_ = 0;
  bool consuming_ = false;
};

}  // namespace keel::kevent_sys
