// Private to kevent_sys: the operations of an engine that a thread of the blocking pool does.
#pragma once

#include <keel/base/intrusive_list.hpp>
#include <keel/kevent_sys/blocking_pool.hpp>
#include <keel/kevent_sys/operation.hpp>

#include <atomic>
#include <cstdint>

namespace keel::kevent_sys {

// The calls of one engine, as its pool sees them. All but `news` and what never changes is guarded by the
// lock of the pool.
struct blocking_queue : list_hook {
  // The steps of an operation.
  static constexpr std::uint8_t step_waiting = 0;
  static constexpr std::uint8_t step_begun = 1;  // or ended, refused, taken back

  // What a thread of the pool does with an operation; returns its answer.
  using function = std::int32_t (*)(operation& op) noexcept;

  function perform = nullptr;
  void (*wake)(void* context) noexcept = nullptr;
  void* context = nullptr;
  intrusive_list<operation> waiting;
  intrusive_list<operation> finished;
  std::uint32_t running = 0;      // calls, until the engine has been woken for them
  std::atomic<bool> news{false};  // something is in `finished`
};

// What an engine keeps of the calls it has handed to a pool: its own, made with the first call, or the one
// that its options name.
//
// A pool thread that has finished a call wakes the engine when it is the first since the last collect();
// whoever comes later finds the engine woken. So whatever collect() does not see yet comes with a wake-up.
//
// INVARIANT: each submitted operation comes out of collect() exactly once, unless take_back() gave it back.
// Thread safety: the engine's thread.
class engine_calls {
 public:
  // `wake` is called with `context` by threads of the pool, until *this is gone: it makes poll() return. So
  // *this is a member that goes before whatever `wake` uses.
  // `perform` does an operation; by default, what opcode::call asks for.
  engine_calls(blocking_pool* shared, void (*wake)(void* context) noexcept, void* context,
               blocking_queue::function perform = &call) noexcept;
  engine_calls(const engine_calls&) = delete;
  engine_calls& operator=(const engine_calls&) = delete;
  // REQUIRES: out() == 0
  ~engine_calls();

  // Hands `op` to a thread. An operation that the pool refuses is answered by the next collect().
  void submit(operation& op) noexcept;

  // The next collect() answers `op` with `error` instead.
  void refuse(operation& op, int error) noexcept;

  // True: no thread has begun with `op`, and none will. False: its answer will come; wait for it.
  bool take_back(operation& op) noexcept;

  // Tells `publish(operation&, int)` the answers that have come, oldest first.
  template <class Publish>
  void collect(Publish publish) noexcept {
    if (refused_.empty() && !queue_.news.load(std::memory_order_acquire)) return;
    intrusive_list<operation> ready;
    take_finished(ready);
    while (!ready.empty()) {
      operation& op = ready.pop_front();
      --out_;
      publish(op, answer_of(op));
    }
  }

  // Operations that have not come out of collect() yet.
  std::uint64_t out() const noexcept { return out_; }

  // Does what opcode::call asks for.
  static std::int32_t call(operation& op) noexcept;

 private:
  bool have_pool() noexcept;
  void take_finished(intrusive_list<operation>& ready) noexcept;
  static int answer_of(const operation& op) noexcept { return op.late_answer_; }

  blocking_queue queue_;
  blocking_pool* pool_;
  bool pool_is_ours_ = false;
  bool joined_ = false;
  intrusive_list<operation> refused_;
  std::uint64_t out_ = 0;
};

}  // namespace keel::kevent_sys
