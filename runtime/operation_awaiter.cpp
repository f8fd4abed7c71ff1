#include <keel/runtime/operation_awaiter.hpp>

#include <cerrno>

namespace keel {

void io_direction::cancel() noexcept {
  if (busy == nullptr) return;
  busy->last_step_ = true;
  busy->home().queue().cancel(*busy);
}

void io_direction::tell_when_free(runnable& then) noexcept {
  KEEL_ASSERT(busy != nullptr && busy->when_free_ == nullptr);
  busy->when_free_ = &then;
}

operation_awaiter::operation_awaiter(const kevent_sys::request& what) noexcept
    : operation(what, &completed), stop_callback(&stopped) {}

operation_awaiter::operation_awaiter(operation_awaiter&& other) noexcept
    : operation(std::move(other)),
      stop_callback(other),
      wait_point(other),
      answer_(other.answer_),
      immediate_(other.immediate_),
      stoppable_(other.stoppable_),
      direction_(other.direction_),
      next_step_(other.next_step_) {}

void operation_awaiter::answer_now(std::int32_t value) noexcept {
  answer_ = {value, 0};
  immediate_ = true;
}

std::coroutine_handle<> operation_awaiter::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(!begun(), "an operation is awaited once");
  if (immediate_) return go_on(up, context);
  if (stoppable_ && context.stopped(threshold)) {
    answer_now(-ECANCELED);
    return give_up(up, context);
  }
  if (direction_ != nullptr) {
    KEEL_ASSERT(direction_->busy == nullptr, "one reader and one writer at a time: this direction is in use");
    direction_->busy = this;
  }
  begin(up, context, kevent_sys::to_text(asked().code));
  if (stoppable_) context.add(*this);
  context.home().queue().submit(*this);
  return std::noop_coroutine();
}

void operation_awaiter::completed(kevent_sys::operation& self, kevent_sys::answer a) noexcept {
  auto& me = static_cast<operation_awaiter&>(self);
  KEEL_ASSERT(!a.more());
  scheduler& home = me.home();
  me.answer_ = a;
  if (me.next_step_ != nullptr && me.next_step_(me)) {
    if (!me.last_step_ && (!me.stoppable_ || !me.context().stopped(me.threshold))) {
      home.queue().submit(me);
      return;
    }
    me.answer_.value = -ECANCELED;
  }
  static_cast<stop_callback&>(me).unlink();
  if (me.direction_ != nullptr) me.direction_->busy = nullptr;
  if (me.when_free_ != nullptr) home.make_ready(*me.when_free_);
  me.resume();
}

void operation_awaiter::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<operation_awaiter&>(self);
  me.home().queue().cancel(me);
}

result<std::size_t> operation_awaiter::size_or_error(const char* doing) const noexcept {
  if (answer_.value < 0) return failure(kernel_error(answer_.value), doing);
  return static_cast<std::size_t>(answer_.value);
}

result<void> operation_awaiter::void_or_error(const char* doing) const noexcept {
  if (answer_.value < 0) return failure(kernel_error(answer_.value), doing);
  return {};
}

}  // namespace keel
