// An engine without a kernel: virtual time, answers that a test has written down, and objects in memory whose
// kernel makes seeded faults.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/kevent_sys/engine.hpp>
#include <keel/kevent_sys/queue.hpp>
#include <keel/kevent_sys/sim_checker.hpp>
#include <keel/kevent_sys/sim_faults.hpp>
#include <keel/kevent_sys/sim_link.hpp>

#include <atomic>
#include <cstdint>
#include <string>
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

// A bug of the engine, planted so that a test sees the checker find it. It happens once.
enum class sim_bug : std::uint8_t { none, answers_twice, loses_an_answer, changes_a_byte, forgets_a_waiter };

struct sim_options {
  std::uint64_t now_ns = 1'000'000'000;
  std::uint32_t buffers = 16;
  std::uint32_t buffers_limit = 16;
  std::uint32_t buffer_bytes = 4096;
  bool outside_threads = false;  // other threads call wake(): wait for them where nothing else can happen
  std::uint64_t seed = 0;        // of everything that is random
  sim_faults faults = {};        // of operations on the world's objects
  std::uint32_t descriptors_max = 65536;        // open at a time: beyond, EMFILE
  std::uint64_t disk_bytes = 64 * 1024 * 1024;  // all files together: beyond, ENOSPC
  // The world's descriptors are ones of the process (of socket pairs), for code that calls close(2) and
  // shutdown(2) itself: the world looks at each poll() what became of them. A connect with any socket goes to
  // the world's listeners, and makes that descriptor one of the world's.
  bool real_descriptors = false;
  sim_bug bug = sim_bug::none;
};

class sim_world;
class sim_kernel;

// Time stands still while code runs; poll() moves it to the next outcome or to its deadline, whichever is
// first. Outcomes come in the order of their times, equal times in the order in which they were set going.
//
// An operation takes the oldest outcome that was written down for its opcode and descriptor, then the oldest
// for its opcode and any_fd, then its opcode's default. With none of them the object that stands behind its
// descriptor (see sim_world) says what it comes to. Without that it stays in flight until expect() or
// complete() brings an outcome. A call is run when its time has come; a futex compares its word, and waits
// for wake_futex().
//
// A poll() for which nothing can ever happen prints what is in flight and aborts: a deadlock is found at
// once. What arrives for a recv or receive is a stream: what did not fit waits for the next one. A receive
// for which all buffers are away waits until one is given back.
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

  // Answers at most `count` futex operations that wait for `word`, oldest first. Returns how many.
  std::uint32_t wake_futex(const std::uint32_t& word, std::uint32_t count);

  // From now on nothing goes wrong; what hangs goes on.
  void stop_faults() noexcept;
  // Of the time, the opcode, the descriptor and the answer of all events so far.
  std::uint64_t trace_hash() const noexcept;
  sim_checker& checker() noexcept;
  const sim_checker& checker() const noexcept;
  // Complains of each operation that could have been answered more than `limit_ns` ago.
  void expect_liveness(std::uint64_t limit_ns);

 private:
  friend class sim_world;
  template <class T>
  friend class keel::intrusive_list;
  struct state;
  struct flight;

  sim_engine(event_sink& sink, const sim_options& options, sim_world* world, std::uint64_t seed);

  void do_submit(operation& op) noexcept override;
  void do_cancel(operation& op) noexcept override;
  void do_poll(std::uint64_t deadline_ns) noexcept override;
  void do_wake() noexcept override;
  void do_block(std::uint64_t deadline_ns) noexcept override;
  void do_ring() noexcept override;
  void do_set_alarm(std::uint64_t deadline_ns) noexcept override;
  std::uint64_t do_now_ns() noexcept override;
  int do_fd() const noexcept override { return -1; }

  sim_kernel* kernel() const noexcept;
  bool takes_object(flight& f);
  void begin(flight& f);
  void roll(flight& f);
  void admit();
  void attempt(flight& f);
  void attempt_poll(flight& f);
  void attempt_futex(flight& f);
  void attempt_work(flight& f, int buffer);
  void fail(flight& f);
  void park(flight& f, std::uint64_t retry_ns);
  void conclude(flight& f, answer a);
  void hold(flight& f, answer a, std::uint64_t delay_ns);
  void deliver_held(flight& f);
  void cancel_object(flight& f);
  sim_bug plant_bug(flight& f);
  void say(operation& op, answer a);
  std::size_t limit_of(const flight& f);
  bool take_buffer(flight& f, int& buffer);
  bool can_finish(const flight& f);

  bool decide(flight& f);
  void hand_on(opcode code, int fd);
  void deliver_due();
  void deliver(flight& f);
  bool buffer_at_home() noexcept;
  void take_wake() noexcept;
  void look_around();
  std::uint64_t next_ns() const noexcept;
  void wait_for_wake() noexcept;
  [[noreturn]] void report_deadlock() const noexcept;

  const sim_options options_;
  sim_world* world_;
  state* state_;
  bool attached_ = false;
  bool rung_ = false;
  std::uint64_t alarm_ns_ = never;
  std::atomic<std::uint32_t> woken_{0};  // 1: wake() was called, and no event of it was published yet
};

struct sim_descriptors {
  int first;
  int second;
};

// The simulated engines of a queue or of a runtime, for the test that writes their outcomes; and the objects
// on which their operations work. A resource; not movable. It outlives the queues (asserted), which delete
// their engines.
//
//     sim_world world({.seed = 7, .faults = sim_faults::chaos()});
//     queue q({.factory = world.factory()});
//     world.engine().expect(opcode::recv, 7, {.data = "hello"});
//     auto [ours, theirs] = world.stream_pair();
//
// Operations on the world's descriptors behave as the kernel's. What the world's functions do happens at the
// time of the last poll(). A descriptor is closed by opcode::close or close().
//
// Thread safety: as long as it has no objects, engine() and factory() as the queues are made; with objects,
// one thread runs all queues.
class sim_world {
 public:
  explicit sim_world(const sim_options& options = {}) noexcept : options_(options) {}
  sim_world(const sim_world&) = delete;
  sim_world& operator=(const sim_world&) = delete;
  ~sim_world();

  engine_factory factory() noexcept { return {.make = &make, .context = this}; }
  // The engine that was made as number `index`, of those that are alive. REQUIRES: there are so many
  sim_engine& engine(unsigned index = 0) noexcept;

  // Both ends of a connection; of a pipe, to read (first) and to write; two connected datagram sockets.
  // Where no descriptor is left (descriptors_max) these are negative: -EMFILE.
  sim_descriptors stream_pair(const sim_link& link = {});
  sim_descriptors pipe(const sim_link& link = {});
  sim_descriptors datagram_pair(const sim_link& link = {});
  // A socket for opcode::connect, and what it connects to: the address is compared byte by byte. Who finds
  // `backlog` others before it tries again every second.
  int socket();
  int listener(std::string_view address, std::uint32_t backlog = 128, const sim_link& link = {});
  // The same behind a socket of the process: close(2) ends it. REQUIRES: real_descriptors
  void adopt_listener(int fd, std::string_view address, std::uint32_t backlog = 128,
                      const sim_link& link = {});

  // 0 or -EBADF; -ENOTCONN, -ENOTSOCK.
  int shutdown_send(int fd);
  int reset(int fd);  // cuts a connection: both ends hear of it
  int close(int fd);
  std::uint32_t open_descriptors();

  // Once there is a file, opcode::open looks for its path here. REQUIRES: there is room on the disk
  void put_file(std::string_view path, std::string_view bytes);
  // "" where there is none. Lifetime: until the file changes.
  std::string_view file(std::string_view path);
  bool has_file(std::string_view path);
  void remove_file(std::string_view path);
  // Cuts it, or grows it with zeros. False: no such file, or no room.
  bool truncate_file(std::string_view path, std::uint64_t bytes);

  void stop_faults() noexcept;
  // Of all engines: the same for the same seed and the same program.
  std::uint64_t trace_hash() const noexcept;

  // Complains of each operation that could have been answered more than `limit_ns` ago.
  void expect_liveness(std::uint64_t limit_ns);
  // Complains of operations without a last answer, receive buffers that did not come home, and bytes that
  // went into an object and neither came out nor are inside. A wake operation may wait.
  void expect_end();
  bool ok() const { return report_of_all().empty(); }
  // All complaints, and how to see them again; empty when there are none.
  std::string report() const;

 private:
  friend class sim_engine;
  static kevent_sys::engine* make(event_sink& sink, void* self);
  sim_kernel& objects();
  void engine_ends(sim_engine& ended) noexcept;
  std::string report_of_all() const;

  const sim_options options_;
  intrusive_list<sim_engine> engines_;
  sim_kernel* kernel_ = nullptr;  // from the first object on
  std::uint64_t made_ = 0;
  std::uint64_t gone_hash_ = 0;
  std::string gone_report_;
};

}  // namespace keel::kevent_sys
