#include <keel/runtime/scope.hpp>

#include <utility>

namespace keel {

scope::scope(scope&& other) noexcept
    : waiter(&body_ended),
      runnable(&resumed),
      options_(other.options_),
      body_(std::exchange(other.body_, nullptr)) {
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

void scope::child_ended(std::uint64_t id) noexcept {
  for (detail::scope_waiter* each = &waits_.front(); each != nullptr;) {
    auto& now = static_cast<detail::scope_wait&>(*each);
    each = waits_.next(now);
    if (now.kind_ != detail::scope_wait::kind::join_all || id > now.newest_id_ || --now.left_ != 0) continue;
    now.leave();
    now.wake();
  }
  if (detail::scope_wait* first = first_for_room()) first->look_soon();
}

detail::scope_wait* scope::first_for_room() noexcept {
  if (waits_.empty()) return nullptr;
  for (detail::scope_waiter* each = &waits_.front(); each != nullptr; each = waits_.next(*each)) {
    auto& wait = static_cast<detail::scope_wait&>(*each);
    if (wait.kind_ == detail::scope_wait::kind::room) return &wait;
  }
  return nullptr;
}

scope::room_op scope::room() noexcept {
  return room_op(*this);
}

scope::join_all_op scope::join_all() noexcept {
  return join_all_op(*this);
}

namespace detail {

scope_wait::scope_wait(scope& of, kind what) noexcept
    : stop_callback(&stopped), runnable(&looked), of_(of), kind_(what) {
  if (what == kind::room) threshold = stop_level::graceful;
}

std::coroutine_handle<> scope_wait::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(!begun(), "a wait for the children of a scope is awaited once");
  KEEL_ASSERT(of_.up_ != nullptr, "only while a scope runs one waits for its children");
  if (context.stopped(threshold)) {
    canceled_ = true;
    return give_up(up, context);
  }
  if (kind_ == kind::room) {
    KEEL_ASSERT(of_.options_.children_max > 0, "a scope with room for no children never has room");
    if (of_.has_room() && of_.first_for_room() == nullptr) return go_on(up, context);
  } else {
    KEEL_ASSERT(&context.node() == &of_.context_.node(),
                "the body of a scope waits for its children: a child would wait for itself");
    if (of_.empty()) return go_on(up, context);
    left_ = of_.size();
    newest_id_ = context.home().newest_id();
  }
  begin(up, context, kind_ == kind::room ? "room in a scope" : "the children of a scope");
  context.add(*this);
  of_.waits_.push_back(*this);
  of_.watch();
  return std::noop_coroutine();
}

// One looks after the other, so that each sees what those before him have spawned.
void scope_wait::look_soon() noexcept {
  if (!std::exchange(looks_soon_, true)) home().wake(*this, context().node());
}

void scope_wait::looked(runnable& self) noexcept {
  auto& me = static_cast<scope_wait&>(self);
  me.looks_soon_ = false;
  if (!me.canceled_) {
    if (!me.of_.has_room()) return;
    me.leave();
    if (scope_wait* next = me.of_.first_for_room()) next->look_soon();
  }
  me.resume();
}

void scope_wait::leave() noexcept {
  static_cast<scope_waiter&>(*this).unlink();
  static_cast<stop_callback&>(*this).unlink();
  of_.watch();
}

void scope_wait::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<scope_wait&>(self);
  me.leave();
  me.canceled_ = true;
  if (!me.looks_soon_) {
    me.wake();
  } else if (scope_wait* next = me.of_.first_for_room()) {
    // The room that he was about to see is for the next one.
    next->look_soon();
  }
}

result<void> scope_wait::take(const char* doing) noexcept {
  if (canceled_) return failure(errc::operation_canceled, doing);
  return {};
}

}  // namespace detail
}  // namespace keel
