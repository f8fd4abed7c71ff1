// The part that everything has on which a task waits: whom to wake, and where he waits.
#pragma once

#include <keel/runtime/awaitable.hpp>
#include <keel/runtime/scheduler.hpp>

namespace keel {

// Who waits, under which context. Part of an awaitable; copies have not begun.
//
// INVARIANT: after begin(), exactly one wake() or resume() follows.
class wait_point {
 public:
  wait_point() noexcept = default;
  wait_point(const wait_point& other) noexcept : wait_point() {
    KEEL_ASSERT(!other.begun(), "what is awaited was moved after it had started");
  }
  wait_point& operator=(const wait_point&) = delete;

  bool begun() const noexcept { return state_.up != nullptr; }
  stop_context& context() const noexcept { return *state_.context; }
  scheduler& home() const noexcept { return state_.context->home(); }

  // The wait begins. `what` is a literal that says for what: "recv", "a mutex".
  void begin(waiter& up, stop_context& context, const char* what) noexcept {
    KEEL_ASSERT(!begun(), "what is awaited has started already: it is awaited once");
    state_.up = &up;
    state_.context = &context;
    context.home().note_wait(context.node(), what);
  }
  // May begin another time, after its end.
  void reuse() noexcept { state_.up = nullptr; }
  // It is over: from any call. The waiter runs in its turn.
  void wake() noexcept { home().wake(state_, context().node()); }
  // It is over: from an event or a runnable. The waiter runs now, unless priorities say otherwise.
  void resume() noexcept {
    if (home().has_priorities()) {
      wake();
    } else {
      state_.resume();
    }
  }

  // After go_on() and give_up() nothing may touch what is awaited: or_return ends a coroutine, with all that
  // is in its frame, inside the call.
  //
  // What start() returns when there is nothing to wait for. Somebody for whom there never is does not keep
  // the scheduler from the others.
  std::coroutine_handle<> go_on(waiter& up, stop_context& context) noexcept {
    if (context.home().may_go_on()) return up.next(&up);
    return yield(up, context);
  }
  // What start() returns when the context has been stopped: operation_canceled is the answer.
  std::coroutine_handle<> give_up(waiter& up, stop_context& context) noexcept {
    if (context.home().may_give_up(context.node())) return up.next(&up);
    return yield(up, context);
  }

 private:
  struct waiting : runnable {
    waiting() noexcept : runnable([](runnable& self) noexcept { static_cast<waiting&>(self).resume(); }) {}
    void resume() noexcept { context->home().resume(*up, context->node()); }
    waiter* up = nullptr;
    stop_context* context = nullptr;
  };

  std::coroutine_handle<> yield(waiter& up, stop_context& context) noexcept {
    begin(up, context, "its turn");
    wake();
    return std::noop_coroutine();
  }

  waiting state_;
};

}  // namespace keel
