#include <keel/runtime/branch.hpp>

namespace keel::detail {

void branch_base::begin(runnable& self) noexcept {
  auto& me = static_cast<branch_base&>(self);
  scheduler& home = me.node_.context.home();
  home.begin_run(me.node_);
  resume(me.launch(me, me.node_.context));
  home.end_run();
}

std::coroutine_handle<> branch_base::ended(waiter* self) noexcept {
  auto& me = *static_cast<branch_base*>(self);
  me.node_.context.detach();
  me.node_.context.home().leave(me.node_);
  me.collect();
  return me.join->branch_ended(me);
}

std::coroutine_handle<> join_point::start(branch_base* const* branches, std::size_t count, waiter& up,
                                          stop_context& outer) noexcept {
  KEEL_ASSERT(up_ == nullptr, "a combinator is awaited once");
  up_ = &up;
  context_.attach(outer);
  branches_ = branches;
  running_ = count_ = decisive_ = count;
  for (std::size_t i = 0; i < count; ++i) {
    branch_base& branch = *branches[i];
    branch.join = this;
    branch.node_.context.attach(context_);
    branch.node_.urgency = outer.node().urgency;
    branch.node_.name = "branch";
    branch.node_.statistics = outer.node().statistics;
    outer.home().enroll(branch.node_, outer.node());
    outer.home().wake(branch, branch.node_);
  }
  outer.home().note_wait(outer.node(), policy_ == policy::stop_on_success ? "when_any" : "when_all");
  return std::noop_coroutine();
}

std::coroutine_handle<> join_point::branch_ended(branch_base& branch) noexcept {
  const bool decides =
      policy_ == policy::stop_on_success || (policy_ == policy::stop_on_failure && !branch.succeeded());
  if (decides && decisive_ == count_) {
    decisive_ = 0;
    while (branches_[decisive_] != &branch) ++decisive_;
    context_.request_stop(stop_level::hard);
  }
  if (--running_ != 0) return std::noop_coroutine();
  context_.detach();
  context_.home().switch_to(context_.node());
  return up_->next(up_);
}

}  // namespace keel::detail
