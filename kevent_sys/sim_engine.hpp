// An engine without a kernel: virtual time, and answers that a test has written down.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/kevent_sys/engine.hpp>
#include <keel/kevent_sys/queue.hpp>

#include <atomic>
#include <cstdint>
#include <string_view>

namespace keel::kevent_sys {

// What a cancel does to an operation that waits for an outcome.
enum class sim_cancel : std::uint8_t {
  ends_it,  // answers -ECANCELED; bytes and connections stay in the kernel, for the next operation
  loses,    // the operation was faster: the outcome comes now
  ignored,  // the outcome comes when it would have come anyway
};

// A whole send, write or slice of a file: as much as was asked for.
inline constexpr std::int32_t sim_everything = INT32_MAX;

// What an operation comes to. A value; `data` is copied by whoever takes it.
struct sim_outcome {
  std::int32_t value = 0;      // the answer: a negative errno, or a number, cut to what was asked for
  std::uint64_t delay_ns = 0;  // after the submission, or the answer before it; never = when told to
  bool more = false;           // of a multishot operation: it goes on
  sim_cancel on_cancel = sim_cancel::ends_it;
  std::string_view data = {};  // of recv, receive and read: what arrives; the answer is its size
};

struct sim_options {
  std::uint64_t now_ns = 1'000'000'000;
  std::uint32_t buffers = 16;
  std::uint32_t buffers_limit = 16;
  std::uint32_t buffer_bytes = 4096;
  bool outside_threads = false;  // other threads call wake(): wait for them where nothing else can happen
};

class sim_world;

// Time stands still while code runs; poll() moves it to the next outcome or to its deadline, whichever is
// first. Outcomes come in the order of their times, equal times in the order in which they were set going.
//
// An operation takes the oldest outcome that was written down for its opcode and descriptor, then the oldest
// for its opcode and any_fd, then its opcode's default. With none of them it stays in flight until expect()
// or complete() brings one. A poll() for which nothing can ever happen prints what is in flight and aborts: a
// deadlock is found at once. What arrives for a recv or receive is a stream: what did not fit waits for the
// next one. A receive for which all buffers are away waits until one is given back.
//
// Thread safety: one thread, but wake().
class sim_engine final : public engine, private list_hook {
 public:
  static constexpr int any_fd = -2;

  // Throws std::bad_alloc.
  explicit sim_engine(event_sink& sink, const sim_options& options = {});
  ~sim_engine() override;

  // Writes down what the next operation of this kind without an outcome comes to; one in flight takes it at
  // once.
  // REQUIRES: o.data is for recv, receive and read; a read has room for all of it
  void expect(opcode code, int fd, const sim_outcome& o);
  // What operations of this kind come to when nothing is written down. At first: a nop answers 0.
  void set_default(opcode code, const sim_outcome& o);
  // Answers the oldest such operation in flight at the next poll(), whatever it waits for. False when there
  // is none.
  bool complete(opcode code, int fd, const sim_outcome& o);

  // The time passes without a poll(), as if code had run that long.
  void pass(std::uint64_t ns) noexcept;

  // How many were submitted so far, and how many of them are in flight.
  std::uint64_t submitted(opcode code, int fd) const noexcept;
  std::uint64_t waiting(opcode code, int fd) const noexcept;
  // The newest of them; null when there was none.
  const request* last(opcode code, int fd) const noexcept;
  // All bytes for which a send or write on `fd` got its answer, in order.
  std::string_view sent(int fd) const noexcept;
  // Outcomes that were written down and that nobody has taken.
  std::uint64_t unused() const noexcept;

 private:
  friend class sim_world;
  template <class T>
  friend class keel::intrusive_list;
  struct state;
  struct flight;

  void do_submit(operation& op) noexcept override;
  void do_cancel(operation& op) noexcept override;
  void do_poll(std::uint64_t deadline_ns) noexcept override;
  void do_wake() noexcept override;
  std::uint64_t do_now_ns() noexcept override;
  int do_fd() const noexcept override { return -1; }

  bool decide(flight& f);
  void hand_on(opcode code, int fd);
  void deliver_due();
  void deliver(flight& f);
  bool buffer_at_home() noexcept;
  void take_wake() noexcept;
  void sleep() noexcept;
  [[noreturn]] void report_deadlock() const noexcept;

  const sim_options options_;
  state* state_;
  bool attached_ = false;
  std::atomic<std::uint32_t> woken_{0};  // 1: wake() was called, and no event of it was published yet
};

// The simulated engines of a queue or of a runtime, for the test that writes their outcomes. A resource; not
// movable. It outlives the queues (asserted), which delete their engines.
//
//     sim_world world;
//     queue q({.factory = world.factory()});
//     world.engine().expect(opcode::recv, 7, {.data = "hello"});
class sim_world {
 public:
  explicit sim_world(const sim_options& options = {}) noexcept : options_(options) {}
  sim_world(const sim_world&) = delete;
  sim_world& operator=(const sim_world&) = delete;

  engine_factory factory() noexcept { return {.make = &make, .context = this}; }
  // The engine that was made as number `index`, of those that are alive. REQUIRES: there are so many
  sim_engine& engine(unsigned index = 0) noexcept;

 private:
  static kevent_sys::engine* make(event_sink& sink, void* self);

  const sim_options options_;
  intrusive_list<sim_engine> engines_;
};

}  // namespace keel::kevent_sys
