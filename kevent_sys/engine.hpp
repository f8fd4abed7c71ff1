// The engine of a queue: what turns requests into events. io_uring; epoll where that is forbidden or too old;
// a simulation in tests.
#pragma once

#include <keel/base/result.hpp>
#include <keel/kevent_sys/buffer_pool.hpp>
#include <keel/kevent_sys/event_sink.hpp>
#include <keel/kevent_sys/operation.hpp>

#include <cstdint>

namespace keel::kevent_sys {

// Times are nanoseconds of CLOCK_MONOTONIC (of the simulation's clock under sim).
inline constexpr std::uint64_t never = ~std::uint64_t{0};

class blocking_pool;

enum class engine_choice : std::uint8_t {
  automatic,  // KEEL_ENGINE if it is set, else the best that works here
  uring,      // io_uring or an error
  epoll,      // epoll, and threads for what it cannot wait for
};

struct engine_options {
  engine_choice choice = engine_choice::automatic;
  std::uint32_t entries = 256;  // requests that can be handed over in one call; halved where memory is short
  std::uint32_t completions = 0;       // slots of the kernel's completion queue; 0 = four for each entry
  std::uint32_t buffers = 64;          // receive buffers at the start
  std::uint32_t buffers_limit = 1024;  // and at most, when readers hold many
  std::uint32_t buffer_bytes = 16384;
  bool provided_buffers = true;  // let the kernel choose them, where it can; else receives poll first
  std::uint32_t spin_ns = 0;  // look for an event so long before sleeping, where that pays; 0 = sleep at once
  // For a queue of several threads, which call everything under one lock, and block() without it.
  bool shared = false;
  // Where opcode::call runs; outlives the engine. Null: a pool of the engine's own, made with the first call.
  blocking_pool* pool = nullptr;
};

// Which engine was chosen and why. Texts are literals or live as long as the engine.
struct engine_info {
  const char* name = "";
  const char* reason =
      "";  // "asked for by KEEL_ENGINE", "the best that works here", what was refused and what
           // that costs
  const char* refused_call = nullptr;  // of io_uring, for an engine that is not the best
  int refused_errno = 0;               // what that call answered
  std::uint32_t entries = 0;           // after the ladder
  std::uint32_t setup_flags = 0;
  bool provided_buffers = false;
  // Of several poll_exclusive polls on one object, one hears each activity, also while nobody sleeps.
  bool exclusive_polls = false;
};

struct engine_counters {
  std::uint64_t submitted = 0;  // operations handed to the engine
  std::uint64_t enters = 0;     // system calls that handed over or collected
  std::uint64_t waits = 0;      // of these, the ones that could sleep
  std::uint64_t overflows = 0;  // times the kernel's own queue was full
  std::uint64_t stale = 0;      // answers that belonged to no operation
  std::uint64_t starved = 0;    // receives that found no buffer
  std::uint64_t spins = 0;      // waits that were answered while spinning
  std::uint64_t spun_ns = 0;    // spent spinning, answered or not
};

// An engine serves one queue and one thread: the one that calls poll() first. A `shared` one serves several
// threads, one at a time: their queue locks around every call but block(), wake() and now_ns().
//
// INVARIANT: each submitted operation gets exactly one last event (without `more`), inside poll(), never
//            inside submit(), whatever cancel() does.
// Thread safety: the owner's thread, but wake(), which any thread may call.
class engine {
 public:
  explicit engine(event_sink& sink) noexcept : sink_(sink) {}
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  // REQUIRES: in_flight() == 0
  virtual ~engine();

  // Hands `op` over, at the latest during the next poll(). REQUIRES: !op.in_flight()
  void submit(operation& op) noexcept {
    KEEL_ASSERT(op.state_ == operation::state::idle, "an operation was submitted twice");
    KEEL_ASSERT(op.asked.code != opcode::timer, "timers belong to the queue");
    op.state_ = operation::state::in_flight;
    op.step_ = 0;
    ++op.generation_;
    ++counters_.submitted;
    ++in_flight_;
    do_submit(op);
    if (resting_) do_ring();
  }

  // Asks for an early end of `op`. Its own last event says what became of it; asking twice is asking once.
  void cancel(operation& op) noexcept {
    if (op.state_ != operation::state::in_flight || op.canceling_) return;
    op.canceling_ = true;
    do_cancel(op);
    if (resting_) do_ring();
  }

  // Hands over what was submitted and publishes what is answered; sleeps until there is an event or
  // `deadline_ns` (0: does not sleep).
  void poll(std::uint64_t deadline_ns) noexcept {
    resting_ = false;
    do_poll(deadline_ns);
  }

  // Makes a poll() that sleeps, or the next one, return with an event of the operation `wake`. Any thread.
  void wake() noexcept { do_wake(); }

  // For an engine of one thread whose poll() is called from a loop that sleeps elsewhere: the descriptor for
  // that loop to watch, for POLLIN, level-triggered or edge-triggered. Not to be read. The owner's thread.
  // Errors: out of descriptors or memory. REQUIRES: not `shared`; a kernel's clock: no simulation
  result<int> pollable() noexcept { return do_pollable(); }
  // From here on, until the next poll(), that descriptor becomes readable when there is something to do: an
  // answer, a wake(), something submitted or cancelled, ring(), or `deadline_ns`.
  // REQUIRES: pollable(); a poll(0) that found nothing to do came before
  void rest(std::uint64_t deadline_ns) noexcept {
    do_rest(deadline_ns);
    resting_ = true;
  }

  // The three below are for `shared` engines, ring() also after pollable().

  // Waits until poll(0) has something to do, at most until `deadline_ns`. Changes nothing, so it needs no
  // lock; may return early. What is submitted and not yet handed over by a poll(0) is not waited for.
  void block(std::uint64_t deadline_ns) noexcept { do_block(deadline_ns); }
  // Makes fd() readable until the next poll(0), and every block() return.
  void ring() noexcept { do_ring(); }
  // The same, by itself, at `deadline_ns` (never: not at all). The newest call counts.
  void set_alarm(std::uint64_t deadline_ns) noexcept { do_set_alarm(deadline_ns); }

  std::uint64_t now_ns() noexcept { return do_now_ns(); }
  // Readable for poll(2) and epoll while poll() has something to do; -1 where there is none. The ring of one
  // thread does not end a poll(2) or epoll_wait that sleeps on it already (Linux 6.18): `shared` ones do.
  int fd() const noexcept { return do_fd(); }
  // The descriptor that it needs besides, or -1.
  int hidden_fd() const noexcept { return hidden_fd_; }

  // Operations that have not got their last event yet.
  std::uint64_t in_flight() const noexcept { return in_flight_; }
  buffer_pool& buffers() noexcept { return *pool_; }
  const engine_info& info() const noexcept { return info_; }
  static constexpr std::size_t reason_size = 192;
  // Copies the text; what does not fit is cut.
  void set_reason(const char* reason) noexcept;
  // `call` is a literal.
  void set_refused(const char* call, int error_number) noexcept;
  const engine_counters& counters() const noexcept { return counters_; }

 protected:
  // For derived engines: `op` is answered; its owner is told during the next walk over the ring.
  void publish(operation& op, answer a) noexcept {
    if (!a.more()) --in_flight_;
    sink_.publish(op, a);
  }
  static std::uint8_t& step(operation& op) noexcept { return op.step_; }
  // Of an operation in flight: how far it has come.
  static std::int32_t& progress(operation& op) noexcept { return op.late_answer_; }
  static bool on_thread(const operation& op) noexcept { return op.on_thread_; }
  static void set_on_thread(operation& op, bool is) noexcept { op.on_thread_ = is; }

  event_sink& sink_;
  buffer_pool* pool_ = nullptr;  // made and detached by the derived engine
  engine_info info_;
  engine_counters counters_;
  int hidden_fd_ = -1;

 private:
  std::uint64_t in_flight_ = 0;
  bool resting_ = false;
  char reason_[reason_size] = "";

  virtual void do_submit(operation& op) noexcept = 0;
  virtual void do_cancel(operation& op) noexcept = 0;
  virtual void do_poll(std::uint64_t deadline_ns) noexcept = 0;
  virtual void do_wake() noexcept = 0;
  virtual result<int> do_pollable() noexcept;
  virtual void do_rest(std::uint64_t deadline_ns) noexcept;
  virtual void do_block(std::uint64_t deadline_ns) noexcept;
  virtual void do_ring() noexcept;
  virtual void do_set_alarm(std::uint64_t deadline_ns) noexcept;
  virtual std::uint64_t do_now_ns() noexcept = 0;
  virtual int do_fd() const noexcept = 0;
};

// Makes the engine for `sink` that the options, the environment and the kernel agree on. The caller deletes
// it. Each call decides anew: engines of both kinds live side by side.
//
// The program's choice comes first, then KEEL_ENGINE = auto | uring | epoll, then what works: io_uring when
// its three calls pass a trial, epoll otherwise. The environment is read before the first call that a sandbox
// might answer by killing the process. A program that runs with more rights than its user does not read it,
// and gets epoll unless it chooses by itself.
//
// The first fallback of a process is told in one message on stderr.
// Errors: engine_unavailable, not_supported (an unknown KEEL_ENGINE): stderr says more; EMFILE, ENFILE.
// Throws: std::bad_alloc.
result<engine*> make_engine(event_sink& sink, const engine_options& options);

}  // namespace keel::kevent_sys
