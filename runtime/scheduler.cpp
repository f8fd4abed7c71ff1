#include <keel/runtime/scheduler.hpp>

#include <keel/runtime/frame_allocator.hpp>
#include <keel/runtime/runtime.hpp>
#include <keel/runtime/spawn.hpp>

#include <utility>

namespace keel {
namespace {

// How many runnables a turn runs before it looks at the queue again.
constexpr unsigned run_budget = 256;
// And with priorities: what arrives meanwhile for an urgent task waits for a turn that is short.
constexpr unsigned prioritized_run_budget = 64;
// How many of each priority run before the next one gets its share.
constexpr unsigned shares[priority_count] = {16, 4, 1};

// So many waits may a node begin in vain, being stopped, before others run in between.
constexpr std::uint32_t canceled_waits_free = 32;
// And after so many it is told of, once.
constexpr std::uint32_t canceled_waits_reported = 1000;

thread_local constinit scheduler* current_on_this_thread = nullptr;

// Makes a scheduler the current one for as long as its loop is on the stack.
class current_scope {
 public:
  explicit current_scope(scheduler* now) noexcept : before_(std::exchange(current_on_this_thread, now)) {}
  current_scope(const current_scope&) = delete;
  current_scope& operator=(const current_scope&) = delete;
  ~current_scope() { current_on_this_thread = before_; }

 private:
  scheduler* before_;
};

}  // namespace

scheduler::scheduler(runtime& owner, unsigned index, const kevent_sys::queue_options& options,
                     std::uint32_t turn_events)
    : owner_(owner),
      index_(index),
      turn_events_(turn_events),
      queue_(options),
      wake_({.code = kevent_sys::opcode::wake, .multishot = true}, &woken) {
  root_.context.attach(*this);
  root_.statistics = &monitor_.table().callbacks();
  tasks_.context().attach(*this);
  background_.context().attach(*this);
}

scheduler::~scheduler() {
  KEEL_ASSERT(nothing_ready() && dead_ == nullptr, "a scheduler was destroyed with something to run");
  KEEL_ASSERT(held_ == 0, "a join_handle outlives its runtime: let go of it before");
}

scheduler* scheduler::current() noexcept {
  return current_on_this_thread;
}

void root_group::became_busy() noexcept {
  context().home().owner().note_busy(1);
}
void root_group::became_empty() noexcept {
  context().home().owner().note_busy(-1);
}

void scheduler::post(message& m) noexcept {
  if (inbox_.push(m)) queue_.wake();
}

bool scheduler::take_messages() noexcept {
  message* next = inbox_.take_all();
  if (next == nullptr) return false;
  while (next != nullptr) {
    message& m = *next;
    next = m.next;
    ++counters_.messages;
    m.deliver(m, *this);
  }
  return true;
}

void scheduler::woken(kevent_sys::operation&, kevent_sys::answer) noexcept {
  // The messages are taken at the start of each turn; a multishot that ended is armed again there.
}

void scheduler::arm_wake() noexcept {
  if (wake_wanted_ && !wake_.in_flight()) queue_.submit(wake_);
}

scheduler_counters scheduler::counters() noexcept {
  scheduler_counters all = counters_;
  const kevent_sys::engine_counters& engine = queue_.counters();
  all.live = node_count_.load(std::memory_order_relaxed);
  all.enters = engine.enters;
  all.submitted = engine.submitted;
  all.in_flight = queue_.in_flight();
  all.timers = queue_.timers();
  all.frames_fresh = this_thread_frames().fresh;
  all.frames_recycled = this_thread_frames().recycled;
  all.buffers = queue_.buffers().size();
  all.buffers_in_use = queue_.buffers().away();
  return all;
}

void scheduler::enroll(task_node& node, task_node& parent) noexcept {
  node.id = ++last_id_;
  node.parent_id = parent.id;
  node.context.set_node(node);
  node.since_ns = queue_.now_ns();
  // What an unnamed task does counts with the nearest named one above it. So a hand-over between the two
  // needs no look at the clock, which is most of what a spawn and a join cost.
  if (node.statistics == nullptr && node.name == nullptr && &parent != &root_) {
    node.statistics = parent.statistics;
  } else {
    if (node.statistics == nullptr) node.statistics = &monitor_.table().of(node.name);
    ++node.statistics->tasks;
  }
  if (node.urgency != priority::normal) ++prioritized_;
  nodes_.push_back(node);
  node_count_.store(node_count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void scheduler::leave(task_node& node) noexcept {
  if (node.urgency != priority::normal) --prioritized_;
  static_cast<list_hook&>(node).unlink();
  node_count_.store(node_count_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
}

bool scheduler::may_give_up(task_node& node) noexcept {
  if (++node.canceled_waits <= canceled_waits_free) return true;
  if (node.canceled_waits == canceled_waits_reported) owner_.dog().ignores_its_stop(node);
  return false;
}

void scheduler::run_one(ready_queue& from) noexcept {
  runnable& r = from.pop();
  ++counters_.runs;
  r.run(r);
  if (dead_ != nullptr) bury_dead();
}

void scheduler::run_by_priority(unsigned left) noexcept {
  while (left > 0 && !nothing_ready()) {
    for (unsigned p = 0; p < priority_count; ++p) {
      for (unsigned share = shares[p]; share > 0 && left > 0 && !ready_[p].empty(); --share, --left)
        run_one(ready_[p]);
    }
  }
}

void scheduler::run_ready() noexcept {
  constexpr auto normal = static_cast<unsigned>(priority::normal);
  unsigned left = run_budget;
  if (ready_[0].empty() && ready_[2].empty()) {
    // Somebody urgent who begins meanwhile does not wait for all of them.
    for (; left > 0 && prioritized_ == 0 && !ready_[normal].empty(); --left) run_one(ready_[normal]);
  }
  if (!nothing_ready()) run_by_priority(left < prioritized_run_budget ? left : prioritized_run_budget);
  if (!nothing_ready()) ++counters_.exhausted;
}

void scheduler::bury(spawned_base& ended) noexcept {
  ended.next_dead_ = dead_;
  dead_ = &ended;
}

void scheduler::bury_dead() noexcept {
  while (dead_ != nullptr) std::exchange(dead_, dead_->next_dead_)->burial();
}

void scheduler::tell_descriptor_waiters() noexcept {
  // One descriptor, one attempt each: whoever fails again waits for the next.
  intrusive_list<descriptor_waiter> round;
  round.splice_back(descriptor_waiters_);
  while (!round.empty()) {
    descriptor_waiter& who = round.pop_front();
    who.freed(who);
  }
}

void scheduler::turn(time_point deadline) {
  KEEL_ASSERT(current_on_this_thread != this, "a scheduler's loop was called from one of its own tasks");
  current_scope here(this);
  resting_ = false;
  ++counters_.turns;
  monitor_.wakes();
  if (monitor_.looks_around()) owner_.dog().look_around(this);
  arm_wake();
  if (take_messages()) monitor_.note();
  run_ready();
  std::uint64_t until = nothing_ready() ? deadline.since_boot_ns() : 0;
  // What was left has just ended: no event will come.
  if (draining_ && !has_work()) until = 0;
  if (until != 0 && !inbox_.announce_sleep()) until = 0;
  if (until != 0) monitor_.sleeps();
  queue_.wait(until);
  monitor_.wakes();
  inbox_.awake();
  counters_.events += queue_.consume(turn_events_);
  monitor_.sleeps();
  if (dead_ != nullptr) bury_dead();
}

void scheduler::run_until(bool (*stop)(void* context), void* context) {
  while (!stop(context)) turn(time_point::never());
}

void scheduler::reap() {
  {
    current_scope here(this);
    tasks_.context().request_stop(stop_level::hard);
    background_.context().request_stop(stop_level::hard);
  }
  draining_ = true;
  while (has_work()) turn(time_point::never());
  draining_ = false;
}

void scheduler::drain() {
  reap();
  ending_ = true;
  // Only the wake operation is left.
  wake_wanted_ = false;
  if (wake_.in_flight()) queue_.cancel(wake_);
  const time_point limit = time_point(queue_.fresh_now_ns()) + std::chrono::seconds(1);
  while (!queue_.idle()) {
    KEEL_ASSERT(
        now() < limit,
        "a stream, a listener or another object with an operation in flight outlives its runtime: close "
        "it, or let go of it, before");
    turn(limit);
  }
  deliver_rest();
}

bool scheduler::deliver_rest() noexcept {
  current_scope here(this);
  ending_ = true;
  const bool delivered = take_messages();
  ending_ = false;
  if (dead_ != nullptr) bury_dead();
  return delivered;
}

}  // namespace keel
