// co_await or_return(...) in a task. Included by task.hpp.
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/awaitable.hpp>
#include <keel/runtime/result_slot.hpp>

#include <coroutine>
#include <exception>
#include <utility>

namespace keel::detail {

// Awaits `Awaitable`; with an error, the coroutine never wakes up again.
template <class Awaitable, class Promise>
class or_return_awaiter : private waiter {
  using answer = await_result<Awaitable>;
  static_assert(is_result<answer>, "or_return takes what gives a result<T>");

 public:
  or_return_awaiter(Awaitable&& operand, Promise& promise) noexcept
      : waiter(&ended), operand_(std::move(operand)), promise_(promise) {}
  or_return_awaiter(or_return_awaiter&&) = delete;

  bool await_ready() const noexcept { return false; }
  KEEL_TRANSFERS transfer_result await_suspend(std::coroutine_handle<Promise>) noexcept {
    return transfer(operand_.start(*this, promise_.context()));
  }
  typename answer::value_type await_resume() {
    auto got = slot_.take();
    return *std::move(got);
  }

 private:
  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto* me = static_cast<or_return_awaiter*>(self);
    me->collect();
    if (me->slot_.has_value() && !me->slot_.value()) return end_early({&finish, me});
    return std::coroutine_handle<Promise>::from_promise(me->promise_);
  }
  static waiter* finish(void* self) noexcept {
    auto* me = static_cast<or_return_awaiter*>(self);
    return me->promise_.end_early(me->slot_.value().why());
  }
  void collect() noexcept {
    try {
      slot_.emplace(operand_.take());
    } catch (...) {
      slot_.fail(std::current_exception());
    }
  }

  Awaitable operand_;
  Promise& promise_;
  result_slot<answer> slot_;
};

}  // namespace keel::detail
