#include "relocation.hpp"

#include <keel/runtime/resume_on.hpp>
#include <keel/runtime/runtime.hpp>

namespace keel {

relocation::relocation(spawned_base& task, scheduler& home) noexcept
    : stop_callback(&parent_stopped), task_(task), home_(home), where_(&home) {
  listen();
}

// At home, where the task leaves its parent's context: a stop that comes there is sent after it.
void relocation::listen() noexcept {
  stop_context& parent = task_.group_->context();
  const stop_level level = parent.level();
  wanted_.store(level, std::memory_order_relaxed);
  if (level == stop_level::hard) return;
  threshold = level == stop_level::none ? stop_level::graceful : stop_level::hard;
  parent.add(*this);
}

void relocation::depart(scheduler& to, waiter& up) noexcept {
  scheduler& here = *where_.load(std::memory_order_relaxed);
  up_ = &up;
  here.leave(task_.node_);
  task_.context().detach();
  if (&here != &home_) here.tasks().remove(task_.node_.id);
  in_transit_.store(true, std::memory_order_seq_cst);
  where_.store(&to, std::memory_order_seq_cst);
  to.post(go_);
}

void relocation::deliver_go(message& self, scheduler& to) noexcept {
  relocation& me = static_cast<leg&>(self).relocated;
  stop_context& context = me.task_.context();
  if (&to == &me.home_) {
    context.attach(me.task_.group_->context());
  } else {
    to.tasks().add();
    context.attach(to.tasks().context());
  }
  // It counts where it runs.
  me.task_.node_.statistics = nullptr;
  to.enroll(me.task_.node_, to.root());
  me.in_transit_.store(false, std::memory_order_seq_cst);
  // A stop that came here before us, or found us on the way, has left its wish.
  context.request_stop(me.wanted_.load(std::memory_order_seq_cst));
  to.resume(*me.up_, me.task_.node_);
}

void relocation::request_stop(stop_level level) noexcept {
  if (level > wanted_.load(std::memory_order_relaxed)) wanted_.store(level, std::memory_order_seq_cst);
  if (stop_is_out_ || wanted_.load(std::memory_order_relaxed) <= sent_) return;
  stop_is_out_ = true;
  sent_ = wanted_.load(std::memory_order_relaxed);
  stop_.deliver = &deliver_stop;
  task_.share();
  where_.load(std::memory_order_seq_cst)->post(stop_);
}

void relocation::deliver_stop(message& self, scheduler& to) noexcept {
  relocation& me = static_cast<leg&>(self).relocated;
  scheduler* where = me.where_.load(std::memory_order_seq_cst);
  if (where != &to) {
    where->post(me.stop_);
    return;
  }
  // What is on its way here, or has ended, hears of nothing: the former looks at wanted_ when it arrives.
  if (!me.in_transit_.load(std::memory_order_seq_cst))
    me.task_.context().request_stop(me.wanted_.load(std::memory_order_seq_cst));
  me.stop_.deliver = &deliver_stop_returned;
  me.home_.post(me.stop_);
}

void relocation::deliver_stop_returned(message& self, scheduler&) noexcept {
  relocation& me = static_cast<leg&>(self).relocated;
  me.stop_is_out_ = false;
  if (!me.task_.done()) me.request_stop(me.wanted_.load(std::memory_order_relaxed));
  me.task_.drop_share();
}

void relocation::ended() noexcept {
  scheduler& here = *where_.load(std::memory_order_relaxed);
  here.leave(task_.node_);
  if (&here != &home_) here.tasks().remove(task_.node_.id);
  in_transit_.store(true, std::memory_order_seq_cst);
  home_.post(end_);
}

void relocation::deliver_end(message& self, scheduler& to) noexcept {
  relocation& me = static_cast<leg&>(self).relocated;
  static_cast<stop_callback&>(me).unlink();
  spawned_base& task = me.task_;
  waiter* joiner = task.finish_at_home();
  if (joiner != nullptr) to.resume(*joiner, *task.joiner_node_);
  to.end_run();
}

void relocation::parent_stopped(stop_callback& self, stop_level level) noexcept {
  auto& me = static_cast<relocation&>(self);
  if (level == stop_level::graceful) {
    me.threshold = stop_level::hard;
    me.task_.group_->context().add(me);
  }
  me.request_stop(level);
}

std::coroutine_handle<> resume_on_op::start(waiter& up, stop_context& context) noexcept {
  if (&context.home() == &to_) return up.next(&up);
  KEEL_ASSERT(&context.home().owner() == &to_.owner(),
              "resume_on() moves a task within its runtime; spawn_on() runs one in another");
  spawned_base* task = context.node().task;
  KEEL_ASSERT(
      task != nullptr && &context == &context.node().context,
      "resume_on() moves a whole task: it is not for with_timeout, graceful, a scope's body, when_all "
      "or when_any; spawn_on() runs a part of it elsewhere");
  context.home().note_wait(context.node(), "another scheduler");
  try {
    task->move_to(to_, up);
  } catch (const std::bad_alloc&) {
    out_of_memory_ = true;
    return up.next(&up);
  }
  return std::noop_coroutine();
}

}  // namespace keel
