#include <keel/runtime/fiber.hpp>

#include <keel/runtime/fiber_local.hpp>

#include <exception>

#include "fiber_overflow.hpp"
#include "fiber_switch.hpp"

namespace keel {
namespace detail {
namespace {

// Inside of a fiber; its address says which thread this is.
thread_local constinit fiber_base* running_on_this_thread = nullptr;

}  // namespace

// What a fiber needs while it runs. Lives in the frame of its driver.
struct fiber_state {
  fiber_switch sides;
  fiber_base* const* thread = &running_on_this_thread;
};

inline void fiber_base::enter() noexcept {
  KEEL_ASSERT(state_->thread == &running_on_this_thread,
              "a fiber stays on its thread: what it awaits must not move it to another one");
  progress_ = progress::running;
  fiber_base* outer = std::exchange(running_on_this_thread, this);
  state_->sides.enter();
  running_on_this_thread = outer;
}

// The fiber as coroutines see it: something that is resumed, runs for a while and hands control on. A
// coroutine costs a frame, and buys that the fiber always runs from the scheduler's loop: not inside the last
// step of what it awaited, which it may then destroy.
struct fiber_driver {
  struct promise_type : recycled {
    fiber_base& fiber;

    explicit promise_type(fiber_base& f) noexcept : fiber(f) {}
    fiber_driver get_return_object() noexcept {
      return {std::coroutine_handle<promise_type>::from_promise(*this)};
    }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    auto final_suspend() const noexcept {
      struct awaiter {
        bool await_ready() const noexcept { return false; }
        KEEL_TRANSFERS transfer_result await_suspend(std::coroutine_handle<promise_type> me) const noexcept {
          waiter* up = me.promise().fiber.outer_;
          return transfer(up->next(up));
        }
        void await_resume() const noexcept {}
      };
      return awaiter();
    }
    void return_void() const noexcept {}
    void unhandled_exception() const noexcept { std::terminate(); }
  };

  // Suspends the driver, and runs what the fiber has begun.
  struct hand_over {
    explicit hand_over(fiber_base& f) noexcept : fiber(f) {}
    bool await_ready() const noexcept { return false; }
    KEEL_TRANSFERS transfer_result await_suspend(std::coroutine_handle<>) const noexcept {
      return transfer(fiber.then_);
    }
    void await_resume() const noexcept {}
    fiber_base& fiber;
  };

  static fiber_driver drive(fiber_base& fiber) {
    fiber_state state;
    fiber.state_ = &state;
    state.sides.prepare(*fiber.stack_, &fiber_base::run_on_stack, &fiber);
    for (;;) {
      fiber.enter();
      if (fiber.progress_ == fiber_base::progress::ended) break;
      co_await hand_over(fiber);
    }
    fiber.let_go();
  }

  std::coroutine_handle<> handle;
};

fiber_base* running_fiber() noexcept {
  return running_on_this_thread;
}

fiber_base& current_fiber() noexcept {
  fiber_base* running = running_on_this_thread;
  KEEL_ASSERT(running != nullptr,
              "this is for code in a fiber: a task says co_await, or co_await fiber(...)");
  KEEL_ASSERT(&running->context().home() == scheduler::current(),
              "a runtime inside of a fiber: what runs there is no part of the fiber");
  return *running;
}

fiber_base::fiber_base(const fiber_base& other) noexcept : fiber_base(other.options_) {
  KEEL_ASSERT(other.progress_ == progress::idle, "a fiber was moved after it had started");
}

fiber_base::~fiber_base() {
  KEEL_ASSERT(progress_ == progress::idle || progress_ == progress::ended,
              "a fiber was destroyed before it had ended: stop it, and await its end");
  if (driver_) driver_.destroy();
}

std::coroutine_handle<> fiber_base::begin(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(progress_ == progress::idle, "a fiber is awaited once");
  try {
    stack_ = &fiber_stack::take(options_.stack_bytes);
    driver_ = fiber_driver::drive(*this).handle;
  } catch (...) {
    if (stack_ != nullptr) stack_->give_back();
    progress_ = progress::ended;
    fail(std::current_exception());
    return up.next(&up);
  }
  guard_this_thread();
  outer_ = &up;
  context_ = &context;
  progress_ = progress::running;
  caller = context.node().innermost;
  context.node().innermost = this;
  return driver_;
}

void fiber_base::run_on_stack(void* self) noexcept {
  auto& me = *static_cast<fiber_base*>(self);
  me.run();
  destroy_fiber_locals(me);
  me.progress_ = progress::ended;
  me.state_->sides.finish();
}

void fiber_base::let_go() noexcept {
  context_->node().innermost = caller;
  stack_->give_back();
}

waiter& fiber_base::begin_wait(const std::source_location& where) noexcept {
  KEEL_ASSERT(progress_ == progress::running, "a fiber waits for one thing at a time");
  awaits = where;
  progress_ = progress::starting;
  return up_;
}

void fiber_base::end_wait(std::coroutine_handle<> then) noexcept {
  // It has ended already: no need to leave.
  if (progress_ == progress::running) return;
  progress_ = progress::waiting;
  then_ = then;
  state_->sides.leave();
}

std::coroutine_handle<> fiber_base::wait_ended(waiter* self) noexcept {
  fiber_base& me = static_cast<ended_waiter*>(self)->fiber;
  // Still in start(), on the fiber's stack.
  if (me.progress_ == progress::starting) {
    me.progress_ = progress::running;
    return std::noop_coroutine();
  }
  KEEL_ASSERT(me.progress_ == progress::waiting, "what a fiber awaits has ended twice");
  return me.driver_;
}

}  // namespace detail

namespace this_fiber {

bool stopping() noexcept {
  return detail::current_fiber().context().stopped(stop_level::graceful);
}

const char* name() noexcept {
  return detail::current_fiber().context().node().name;
}

fiber_stack_use stack_use() noexcept {
  const detail::fiber_stack& stack = detail::current_fiber().stack();
  const auto* here = static_cast<const char*>(__builtin_frame_address(0));
  return {stack.size_bytes(), static_cast<std::size_t>(here - stack.low()), stack.used_bytes()};
}

}  // namespace this_fiber
}  // namespace keel
