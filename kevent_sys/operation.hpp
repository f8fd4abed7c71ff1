// One request in flight on a queue.
#pragma once

#include <keel/base/intrusive_list.hpp>

#include <cstdint>

namespace keel::kevent_sys {

// What is asked. Every engine translates each of them in one place.
enum class opcode : std::uint8_t {
  nop,
  wake,      // multishot: an event for each engine::wake()
  timer,     // the queue's wheel; never reaches an engine
  poll,      // flags = POLLIN, ..., poll_exclusive; answers the ready mask. multishot: an answer per edge
  accept,    // fd = listener, flags = accept_blocking; answers the new descriptor, CLOEXEC and NONBLOCK
  connect,   // data, size_bytes = socket address
  recv,      // data, size_bytes, flags = MSG_*
  receive,   // into a buffer of the engine's pool; the answer carries the buffer
  drain,     // the same from a pipe, FIFO or terminal: what read(2) is to recv(2)
  send,      // data, size_bytes, flags = MSG_*
  sendfile,  // fd = socket, file_fd, offset, count; answers the bytes sent by this step: at most a slice
  open,      // data = path (NUL-terminated), flags = O_*, size_bytes = mode
  read,      // data, size_bytes, offset
  write,     // data, size_bytes, offset, flags = write_quietly
  close,     // fd
  call,      // data = a blocking_call, run on a thread of the blocking pool; answers what it returned
  futex,     // data = a 32-bit word, offset = what it must hold, flags = futex_shared; answers 0 when woken,
             // or -EAGAIN
};

// "recv"
const char* to_text(opcode code) noexcept;

// With opcode::poll: of all that poll the same object with this flag, one gets each event (EPOLLEXCLUSIVE).
inline constexpr std::uint32_t poll_exclusive = 1u << 28;
// With opcode::accept: the new descriptor is not made O_NONBLOCK.
inline constexpr std::uint32_t accept_blocking = 1;

// With opcode::futex: other processes know the word, too.
inline constexpr std::uint32_t futex_shared = 1;
// With opcode::write: a pipe without readers raises no SIGPIPE, at the price of a thread of the kernel.
inline constexpr std::uint32_t write_quietly = 1;

// What opcode::call runs: a function that may block, and its argument. It does not throw, and lives until the
// operation has its event. A cancel takes a call back that has not begun; one that runs is waited for.
struct blocking_call {
  std::int32_t (*function)(void* context) noexcept = nullptr;
  void* context = nullptr;
};

// A request as plain data. A value.
struct request {
  opcode code = opcode::nop;
  bool multishot = false;  // wake, poll, accept, receive, drain: answers until an answer without `more`
  int fd = -1;
  int file_fd = -1;
  std::uint32_t size_bytes = 0;
  std::uint32_t flags = 0;
  const void* data = nullptr;
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
};

// What came back: the kernel's integer (a negative errno on failure) and what goes with it. A value.
struct answer {
  static constexpr std::uint32_t more_flag = 1;    // the operation goes on: further answers follow
  static constexpr std::uint32_t buffer_flag = 2;  // the upper 16 bits of flags name a pool buffer

  std::int32_t value = 0;
  std::uint32_t flags = 0;

  bool more() const noexcept { return (flags & more_flag) != 0; }
  bool has_buffer() const noexcept { return (flags & buffer_flag) != 0; }
  std::uint16_t buffer() const noexcept { return static_cast<std::uint16_t>(flags >> 16); }
};

// A request in flight, or ready to be submitted. Lives in the frame or object that awaits it; nothing is
// allocated.
//
// Life cycle: idle -> submit -> in flight -> its last event is consumed -> idle. A multishot operation
// delivers many events before the last one. While in flight it does not move and is not destroyed (asserted):
// the kernel writes into its buffers, and no sanitizer would see it.
// Thread safety: the thread that owns the queue.
class operation : public list_hook {
 public:
  // Told of each event, inside the consumer's walk over the ring; the operation is idle again when !a.more().
  // It may submit the operation anew, or destroy it when idle.
  using completion = void (*)(operation& self, answer a) noexcept;

  operation(const request& what, completion done) noexcept : asked(what), done_(done) {}
  // Moving an idle operation is like making it anew. REQUIRES: !other.in_flight()
  operation(operation&& other) noexcept : asked(other.asked), done_(other.done_) {
    KEEL_ASSERT(!other.in_flight(), "an operation in flight was moved");
  }
  operation& operator=(operation&&) = delete;
  ~operation() { KEEL_ASSERT(!in_flight(), "an operation was destroyed while the kernel still works on it"); }

  bool in_flight() const noexcept { return state_ != state::idle; }
  bool canceling() const noexcept { return canceling_; }
  std::uint32_t generation() const noexcept { return generation_; }

  request asked;  // not to be changed while in flight

 private:
  friend class blocking_pool;
  friend class engine_calls;
  friend class event_sink;
  friend class engine;
  friend class queue;

  enum class state : std::uint8_t {
    idle,
    in_flight,  // the engine (or the wheel) has it
    finished,   // its last event waits to be consumed
  };

  completion done_;
  std::uint32_t generation_ = 0;  // of the submission: an answer to an older one is not ours
  std::int32_t late_answer_ = 0;  // of one that finished while the ring was full; before that, the engine's
  std::uint32_t slot_ = 0;        // the ring's slot of the last event, for withdraw()
  state state_ = state::idle;
  std::uint8_t step_ = 0;  // engines: where an operation of several steps stands
  bool canceling_ : 1 = false;
  bool in_ring_ : 1 = false;    // `slot_` holds an event that is not consumed yet
  bool on_thread_ : 1 = false;  // a blocking pool has it: neither its links nor its step are the engine's
};

}  // namespace keel::kevent_sys
