#include <keel/runtime/spawn.hpp>

#include <keel/runtime/runtime.hpp>

namespace keel {

void spawned_base::begin(task_group& group) noexcept {
  group_ = &group;
  home_ = &group.context().home();
  home_->note_spawned();
  context_.attach(group.context());
  group.add(*this);
  home_->make_ready(*this);
}

void spawned_base::launched(runnable& self) noexcept {
  auto& me = static_cast<spawned_base&>(self);
  detail::resume(me.launch(me));
}

std::coroutine_handle<> spawned_base::ended(waiter* self) noexcept {
  auto& me = *static_cast<spawned_base*>(self);
  KEEL_ASSERT(!me.done_, "a task ended twice");
  me.done_ = true;
  me.context_.detach();
  if (me.joiner_ == nullptr && (me.handle_gone_ || me.group_->fails_at_once())) me.report_failure();
  // Whoever waits may end at once: nothing of ours refers to anything of his then.
  me.let_go();
  me.group_->remove(me);
  // From here on the group may be gone: what is dropped later is the runtime's.
  me.group_ = &me.home_->tasks();
  me.home_->bury(me);
  waiter* joiner = me.joiner_;
  return joiner != nullptr ? joiner->next(joiner) : std::noop_coroutine();
}

void spawned_base::report_failure() noexcept {
  if (std::exchange(seen_, true)) return;
  if (std::exception_ptr error = exception()) {
    group_->child_failed(*this, std::move(error));
  } else if (const std::error_code code = error_result(); code) {
    home_->owner().unhandled_error(name_, code);
  }
}

void spawned_base::abandon() noexcept {
  handle_gone_ = true;
  if (done_) report_failure();
  drop_share();
}

void spawned_base::burial() noexcept { drop_share(); }

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
