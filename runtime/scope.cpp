#include <keel/runtime/scope.hpp>

#include <utility>

namespace keel {

scope::scope(scope&& other) noexcept
    : waiter(&body_ended), runnable(&resumed), body_(std::exchange(other.body_, nullptr)) {
  KEEL_ASSERT(other.up_ == nullptr, "a scope was moved while it runs");
}

scope::~scope() {
  KEEL_ASSERT(!grace_.in_flight());
  running_body_.reset();
  delete body_;
}

std::coroutine_handle<> scope::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(up_ == nullptr && body_ != nullptr, "a scope is awaited once");
  up_ = &up;
  context_.attach(context);
  try {
    running_body_.emplace(body_->call(*this));
  } catch (...) {
    fail(std::current_exception());
    return body_ended(this);
  }
  return running_body_->start(*this, context_);
}

std::coroutine_handle<> scope::body_ended(waiter* self) noexcept {
  auto& me = *static_cast<scope*>(self);
  me.body_done_ = true;
  if (me.running_body_ && me.running_body_->slot().failed()) me.fail(me.running_body_->slot().error());
  if (me.empty()) return me.finish();
  me.context_.home().note_wait(me.context_.node(), "the children of a scope");
  return std::noop_coroutine();
}

void scope::became_empty() noexcept {
  if (body_done_) context_.home().wake(*this, context_.node());
}

void scope::resumed(runnable& self) noexcept {
  auto& me = static_cast<scope&>(self);
  // A child that was spawned since then keeps the scope open; its end brings us here again.
  if (!me.empty()) return;
  scheduler& home = me.context_.home();
  home.begin_run(me.context_.node());
  detail::resume(me.finish());
  home.end_run();
}

std::coroutine_handle<> scope::finish() noexcept {
  if (grace_.in_flight()) context_.home().queue().disarm(grace_);
  context_.detach();
  if (outcome_.empty()) outcome_.emplace();
  return up_->next(up_);
}

void scope::take() {
  outcome_.take();
}

void scope::fail(std::exception_ptr error) noexcept {
  if (outcome_.empty()) outcome_.fail(std::move(error));
  context_.request_stop(stop_level::hard);
}

void scope::child_failed(spawned_base&, std::exception_ptr error) noexcept {
  fail(std::move(error));
}

void scope::request_stop(stop_options options) noexcept {
  KEEL_ASSERT(up_ != nullptr, "a scope that does not run was asked to stop");
  if (options.grace <= duration::zero()) {
    context_.request_stop(stop_level::hard);
    return;
  }
  context_.request_stop(stop_level::graceful);
  if (!grace_.in_flight() && !context_.stopped())
    context_.home().queue().arm_after(grace_, delay_ns(options.grace));
}

void scope::grace_over(kevent_sys::operation& self, kevent_sys::answer) noexcept {
  static_cast<grace_timer&>(self).self.context_.request_stop(stop_level::hard);
}

}  // namespace keel
