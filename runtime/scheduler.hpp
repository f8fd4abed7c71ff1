// The scheduler of one CPU: runs what is ready, then waits on its queue.
#pragma once

#include <keel/kevent_sys/queue.hpp>
#include <keel/runtime/inbox.hpp>
#include <keel/runtime/resume.hpp>
#include <keel/runtime/run_monitor.hpp>
#include <keel/runtime/stop_context.hpp>
#include <keel/runtime/task_group.hpp>
#include <keel/runtime/task_node.hpp>
#include <keel/runtime/time.hpp>

#include <atomic>
#include <coroutine>
#include <cstdint>

namespace keel {

class runtime;

// Something sent to a scheduler by any thread. `deliver` runs on the scheduler's thread and owns the message.
struct message {
  using function = void (*)(message& self, scheduler& to) noexcept;
  explicit message(function f) noexcept : deliver(f) {}

  function deliver;
  message* next = nullptr;
};

// Somebody who wants to hear that this scheduler has closed a descriptor: there may be one to have again.
class descriptor_waiter : public list_hook {
 public:
  using function = void (*)(descriptor_waiter& self) noexcept;
  explicit descriptor_waiter(function f) noexcept : freed(f) {}

  function freed;
};

// The tasks of a scheduler that keep its runtime running.
class root_group final : public task_group {
 private:
  void became_busy() noexcept override;
  void became_empty() noexcept override;
};

struct scheduler_counters {
  std::uint64_t turns = 0;
  std::uint64_t events = 0;           // consumed from the ring
  std::uint64_t runs = 0;             // runnables run
  std::uint64_t messages = 0;         // delivered from other threads
  std::uint64_t tasks = 0;            // spawned
  std::uint64_t exhausted = 0;        // turns that ended with something still ready
  std::uint64_t live = 0;             // tasks and branches that have not ended
  std::uint64_t enters = 0;           // system calls of the engine that handed over or collected
  std::uint64_t submitted = 0;        // operations given to the engine
  std::uint64_t in_flight = 0;        // of these, not answered yet
  std::uint64_t timers = 0;           // armed
  std::uint64_t frames_fresh = 0;     // of this thread: taken from operator new
  std::uint64_t frames_recycled = 0;  // and from what was freed before
  std::uint64_t buffers = 0;          // that receives are written into
  std::uint64_t buffers_in_use = 0;   // with readers
};

// One per CPU; owns the queue and everything that waits on it. A resource; not movable.
//
// Life cycle: made by a runtime -> run on one thread -> stopped and drained -> destroyed.
// INVARIANT: coroutines run only from its loop, never inside a call of the user or of another coroutine.
// Thread safety: its own thread, but post(), which any thread may call until the runtime has ended.
class scheduler {
 public:
  // Throws std::system_error when no engine can be had, std::bad_alloc.
  scheduler(runtime& owner, unsigned index, const kevent_sys::queue_options& options,
            std::uint32_t turn_events);
  scheduler(const scheduler&) = delete;
  scheduler& operator=(const scheduler&) = delete;
  ~scheduler();

  // The scheduler whose loop runs on this thread now, or null.
  static scheduler* current() noexcept;

  runtime& owner() const noexcept { return owner_; }
  // Its number in the runtime, from 0.
  unsigned index() const noexcept { return index_; }
  time_point now() const noexcept { return time_point(queue_.now_ns()); }
  kevent_sys::queue& queue() noexcept { return queue_; }
  // Which engine it has, why, and what refused a better one.
  const kevent_sys::engine_info& engine_info() const noexcept { return queue_.info(); }
  // See counters_of() for other threads.
  scheduler_counters counters() noexcept;
  std::size_t live_tasks() const noexcept { return tasks_.size() + background_.size(); }

  // Runs `r` soon, after what is ready already.
  void make_ready(runnable& r, priority p = priority::normal) noexcept {
    if (resting_ && nothing_ready()) queue_.ring_bell();
    ready_[static_cast<unsigned>(p)].push(r);
  }

  // Any thread: delivers `m` on this scheduler's thread, in the order of the posts of one thread.
  void post(message& m) noexcept;

  // The tasks spawned with no other owner; and those that do not keep the runtime running.
  task_group& tasks() noexcept { return tasks_; }
  task_group& background() noexcept { return background_; }

  // The node of what nobody spawned: callbacks, and whoever waits under the scheduler's own contexts.
  task_node& root() noexcept { return root_; }
  // What runs now; root() when that is none of the nodes.
  task_node& running() const noexcept { return *running_; }
  // `node` begins, under `parent`; it has ended.
  void enroll(task_node& node, task_node& parent) noexcept;
  void leave(task_node& node) noexcept;
  // How many nodes there are, with those that are on their way here. Any thread.
  std::uint32_t load() const noexcept {
    return node_count_.load(std::memory_order_relaxed) + arriving_.load(std::memory_order_relaxed);
  }
  // A task is on its way here; it has arrived. Any thread.
  void note_arriving(int change) noexcept {
    arriving_.fetch_add(static_cast<std::uint32_t>(change), std::memory_order_relaxed);
  }
  // The id of the node that was enrolled last.
  std::uint64_t newest_id() const noexcept { return last_id_; }
  run_monitor& monitor() noexcept { return monitor_; }
  // The nodes that have begun and not ended, oldest first.
  intrusive_list<task_node>& nodes() noexcept { return nodes_; }

  // For wait_point and what runs nodes: `node` waits for `what`; it is made ready; it runs; and control goes
  // from the node that runs to another one.
  void note_wait(task_node& node, const char* what) const noexcept {
    node.waits_for = what;
    node.since_ns = queue_.now_ns();
  }
  void wake(runnable& r, task_node& node) noexcept {
    node.ready = true;
    make_ready(r, node.urgency);
  }
  void begin_run(task_node& node) noexcept {
    node.ready = false;
    running_ = &node;
    allowance_ = run_allowance;
    monitor_.begin(node);
  }
  void end_run() noexcept {
    monitor_.end();
    running_ = &root_;
    if (dead_ != nullptr) bury_dead();
  }
  void switch_to(task_node& node) noexcept {
    monitor_.change(node);
    running_ = &node;
  }
  void resume(waiter& up, task_node& node) noexcept {
    begin_run(node);
    detail::resume(up.next(&up));
    end_run();
  }
  // Whether some node is not of normal priority: then nobody overtakes the ready queues.
  bool has_priorities() const noexcept { return prioritized_ != 0; }
  // Whether what runs may take an answer that is there without waiting; and without having waited though it
  // was stopped. Everybody may, but not for ever.
  bool may_go_on() noexcept { return allowance_ != 0 && --allowance_ != 0; }
  bool may_give_up(task_node& node) noexcept;

  // A spawned task was made; its object has gone, with the last handle on it.
  void note_spawned() noexcept {
    ++counters_.tasks;
    ++held_;
  }
  void note_released() noexcept { --held_; }

  // A spawned task has ended: its object goes after the current coroutine has let go of it.
  void bury(spawned_base& ended) noexcept;

  // For those who close something while an operation still works on it: drained before the scheduler ends.
  void note_detached(std::int64_t change) noexcept { detached_ += change; }
  std::int64_t detached() const noexcept { return detached_; }
  // Its last task has ended: whatever comes from outside now comes too late.
  bool ending() const noexcept { return ending_; }

  // `who` is told once, at the next note_descriptor_freed(), unless it unlinks itself before.
  void wait_for_descriptor(descriptor_waiter& who) noexcept { descriptor_waiters_.push_back(who); }
  void note_descriptor_freed() noexcept {
    if (!descriptor_waiters_.empty()) tell_descriptor_waiters();
  }

  // One turn: runs what is ready, then collects events, sleeping at most until `deadline`.
  void turn(time_point deadline);
  // For a loop that is not ours: the descriptor to watch, and what to do when it is readable. See runtime.
  int fd();
  void turn_for_host(time_point deadline);
  // Turns until no task is left or `stop` says so.
  void run_until(bool (*stop)(void* context), void* context);
  // Ends what there is: stop, cancel, reap, destroy. Messages may bring more afterwards.
  void reap();
  // Reaps, and ends the wake-up operation, too: nothing reaches it any more.
  void drain();
  // Tells the messages that came after that. True when there was something.
  bool deliver_rest() noexcept;

 private:
  // How many answers that are there already a node may take in one run.
  static constexpr std::uint32_t run_allowance = 128;

  bool has_work() const noexcept {
    return !tasks_.empty() || !background_.empty() || !nothing_ready() || detached_ != 0;
  }
  bool nothing_ready() const noexcept { return ready_[0].empty() && ready_[1].empty() && ready_[2].empty(); }
  void run_one(ready_queue& from) noexcept;
  void run_by_priority(unsigned left) noexcept;
  void run_ready() noexcept;
  bool take_messages() noexcept;
  void bury_dead() noexcept;
  void tell_descriptor_waiters() noexcept;
  void arm_wake() noexcept;
  static void woken(kevent_sys::operation& op, kevent_sys::answer a) noexcept;

  runtime& owner_;
  const unsigned index_;
  const std::uint32_t turn_events_;
  kevent_sys::queue queue_;
  kevent_sys::operation wake_;
  ready_queue ready_[priority_count];
  task_node root_;
  task_node* running_ = &root_;
  run_monitor monitor_;
  std::uint32_t allowance_ = run_allowance;
  std::uint32_t prioritized_ = 0;
  std::uint64_t last_id_ = 0;
  intrusive_list<task_node> nodes_;
  std::atomic<std::uint32_t> node_count_{0};  // written here only
  std::atomic<std::uint32_t> arriving_{0};
  root_group tasks_;
  task_group background_;
  spawned_base* dead_ = nullptr;
  intrusive_list<descriptor_waiter> descriptor_waiters_;
  std::int64_t detached_ = 0;
  std::size_t held_ = 0;  // objects of spawned tasks
  scheduler_counters counters_;
  bool wake_wanted_ = true;
  bool draining_ = false;
  bool ending_ = false;
  bool watched_ = false;  // fd() was asked for
  bool resting_ = false;  // the loop of the host is on, and is told by fd() what happens

  alignas(64) inbox<message> inbox_;
};

}  // namespace keel
