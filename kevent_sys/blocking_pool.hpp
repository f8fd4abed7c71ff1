// Threads for functions that block: what opcode::call runs on.
#pragma once

#include <keel/base/intrusive_list.hpp>

#include <cstdint>

namespace keel::kevent_sys {

class operation;
struct blocking_queue;

struct blocking_pool_options {
  // Enough to keep a disk or a resolver busy, and few enough that they are no burden while they all wait.
  std::uint32_t threads_max = 16;
  // Calls that wait for a thread; one more is refused. A pool so far behind answers nobody in time.
  std::uint32_t queue_max = 4096;
  std::uint64_t idle_ns = 10'000'000'000;  // a thread with nothing to do ends after so long
};

struct blocking_pool_counters {
  std::uint32_t threads = 0;
  std::uint32_t threads_peak = 0;
  std::uint32_t idle = 0;     // threads with nothing to do
  std::uint32_t queued = 0;   // calls that wait for a thread
  std::uint32_t running = 0;  // calls
  std::uint64_t started = 0;  // threads, since the start
  std::uint64_t completed = 0;
  std::uint64_t refused = 0;  // calls that found the queue full, or no thread to be had
};

// A pool may serve several engines. It starts with no thread; a call that finds none idle starts one, up to
// the limit; idle threads end, down to none. Engines take turns: one that asks for much delays its own calls,
// not those of the others.
//
// The threads block all signals but those of their own faults, are called "keel-call", and may run on the
// CPUs that the maker of the pool may run on. A call is refused with -EAGAIN when the queue is full, or when
// there is no thread and none can be started.
//
// A child of fork() has none of the threads: there the pool refuses every call, and destroying it leaves its
// memory alone.
//
// A resource; not movable.
// Thread safety: any thread may ask for counters().
class blocking_pool {
 public:
  // Throws std::bad_alloc.
  explicit blocking_pool(const blocking_pool_options& options = blocking_pool_options());
  blocking_pool(const blocking_pool&) = delete;
  blocking_pool& operator=(const blocking_pool&) = delete;
  // Joins the threads. REQUIRES: the engines that use it are gone
  ~blocking_pool();

  blocking_pool_counters counters() const noexcept;

 private:
  friend class engine_calls;
  struct state;

  // For engine_calls: see there. submit() gives 0 or a negative errno.
  void join(blocking_queue& from) noexcept;
  void leave(blocking_queue& from) noexcept;
  int submit(blocking_queue& from, operation& op) noexcept;
  bool take_back(blocking_queue& from, operation& op) noexcept;
  void collect(blocking_queue& from, intrusive_list<operation>& finished) noexcept;

  state* state_;
};

}  // namespace keel::kevent_sys
