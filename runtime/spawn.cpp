#include <keel/runtime/spawn.hpp>

#include <keel/runtime/runtime.hpp>

#include "relocation.hpp"

namespace keel {

void spawned_base::begin(task_group& group) noexcept {
  group_ = &group;
  home_ = &group.context().home();
  home_->note_spawned();
  context().attach(group.context());
  // In a scope, whoever awaits the scope; else whoever spawns.
  task_node& owner = group.context().node();
  home_->enroll(node_, &owner != &home_->root() ? owner : home_->running());
  id_at_home_ = node_.id;
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
  me.context().detach();
  // Whoever waits may end at once: nothing of ours refers to anything of his then.
  me.let_go();
  if (me.relocation_ != nullptr) {
    me.relocation_->ended();
    return std::noop_coroutine();
  }
  me.home_->leave(me.node_);
  waiter* joiner = me.finish_at_home();
  if (joiner == nullptr) return std::noop_coroutine();
  me.home_->switch_to(*me.joiner_node_);
  return joiner->next(joiner);
}

waiter* spawned_base::finish_at_home() noexcept {
  KEEL_ASSERT(!done_, "a task ended twice");
  done_ = true;
  if (!has_joiner() && (handle_gone_ || group_->fails_at_once())) report_failure();
  group_->remove(id_at_home_);
  // From here on the group may be gone: what is dropped later is the runtime's.
  group_ = &home_->tasks();
  home_->bury(*this);
  return joiner_;
}

spawned_base::~spawned_base() {
  delete relocation_;
}

void spawned_base::request_stop(stop_level level) noexcept {
  if (relocation_ != nullptr) {
    relocation_->request_stop(level);
  } else {
    context().request_stop(level);
  }
}

void spawned_base::move_to(scheduler& to, waiter& up) {
  if (relocation_ == nullptr) relocation_ = new relocation(*this, *home_);
  relocation_->depart(to, up);
}

void spawned_base::report_failure() noexcept {
  if (std::exchange(seen_, true)) return;
  if (std::exception_ptr error = exception()) {
    group_->child_failed(*this, std::move(error));
  } else if (const std::error_code code = error_result(); code) {
    home_->owner().unhandled_error(task_description(node_), code);
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
