#include <keel/runtime/spawn.hpp>

#include <keel/runtime/runtime.hpp>

namespace keel {

void spawned_base::begin(task_group& group) noexcept {
  group_ = &group;
  home_ = &group.context().home();
  home_->note_spawned();
  context().attach(group.context());
  // In a scope, whoever awaits the scope; else whoever spawns.
  task_node& owner = group.context().node();
  home_->enroll(node_, &owner != &home_->root() ? owner : home_->running());
  group.add();
  home_->wake(*this, node_);
}

void spawned_base::launched(runnable& self) noexcept {
  auto& me = static_cast<spawned_base&>(self);
  me.home_->begin_run(me.node_);
  detail::resume(me.launch(me));
  me.home_->end_run();
}

std::coroutine_handle<> spawned_base::ended(waiter* self) noexcept {
  auto& me = *static_cast<spawned_base*>(self);
  KEEL_ASSERT(!me.done_, "a task ended twice");
  me.done_ = true;
  me.context().detach();
  if (!me.has_joiner() && (me.handle_gone_ || me.group_->fails_at_once())) me.report_failure();
  // Whoever waits may end at once: nothing of ours refers to anything of his then.
  me.let_go();
  me.home_->leave(me.node_);
  me.group_->remove();
  // From here on the group may be gone: what is dropped later is the runtime's.
  me.group_ = &me.home_->tasks();
  me.home_->bury(me);
  if (!me.has_joiner()) return std::noop_coroutine();
  me.home_->switch_to(*me.joiner_node_);
  return me.joiner_->next(me.joiner_);
}

void spawned_base::report_failure() noexcept {
  if (std::exchange(seen_, true)) return;
  if (std::exception_ptr error = exception()) {
    group_->child_failed(*this, std::move(error));
  } else if (const std::error_code code = error_result(); code) {
    home_->owner().unhandled_error(name(), code);
  }
}

void spawned_base::abandon() noexcept {
  handle_gone_ = true;
  if (done_) report_failure();
  drop_share();
}

void spawned_base::burial() noexcept {
  drop_share();
}

void spawned_base::drop_share() noexcept {
  if (--shares_ != 0) return;
  home_->note_released();
  delete this;
}

namespace detail {

scheduler& current_scheduler() noexcept {
  scheduler* current = scheduler::current();
  KEEL_ASSERT(current != nullptr, "this needs a scheduler: call it from a task, or use runtime::spawn");
  return *current;
}

}  // namespace detail
}  // namespace keel
