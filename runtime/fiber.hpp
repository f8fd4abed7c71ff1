// Code with a stack of its own: it waits by a function call, wherever it stands.
#pragma once

#include <keel/runtime/closures.hpp>
#include <keel/runtime/fiber_stack.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/wait_point.hpp>

#include <coroutine>
#include <source_location>
#include <tuple>
#include <type_traits>
#include <utility>

namespace keel {
namespace detail {

struct fiber_local_value;
struct fiber_state;

// A fiber, whatever it gives. Runs as a part of the task that awaits it: under its stop context, in its node.
//
// Life cycle: made -> started once -> ended. Movable until started.
// INVARIANT: coroutines never run on its stack. It begins what it awaits there, and then leaves.
class fiber_base : private task_frame {
 public:
  stop_context& context() const noexcept { return *context_; }
  const fiber_stack& stack() const noexcept { return *stack_; }
  fiber_local_value* locals = nullptr;

  // Suspends the fiber until `operand` has ended. Inlined, as await() is: each return after a switch of
  // stacks is mispredicted. REQUIRES: it is the one that runs.
  template <class A>
  [[gnu::always_inline]] void wait(A& operand, const std::source_location& where) noexcept {
    waiter& up = begin_wait(where);
    end_wait(operand.start(up, *context_));
  }

 protected:
  explicit fiber_base(const fiber_options& options) noexcept : options_(options), up_(*this) {}
  fiber_base(const fiber_base& other) noexcept;
  fiber_base& operator=(const fiber_base&) = delete;
  ~fiber_base();

  std::coroutine_handle<> begin(waiter& up, stop_context& context) noexcept;
  // On its own stack.
  virtual void run() noexcept = 0;
  virtual void fail(std::exception_ptr why) noexcept = 0;

 private:
  friend struct fiber_driver;
  struct ended_waiter : waiter {
    explicit ended_waiter(fiber_base& f) noexcept : waiter(&wait_ended), fiber(f) {}
    fiber_base& fiber;
  };
  enum class progress : unsigned char { idle, running, starting, waiting, ended };

  waiter& begin_wait(const std::source_location& where) noexcept;
  void end_wait(std::coroutine_handle<> then) noexcept;
  [[gnu::always_inline]] void enter() noexcept;
  void let_go() noexcept;
  static void run_on_stack(void* self) noexcept;
  static std::coroutine_handle<> wait_ended(waiter* self) noexcept;

  fiber_options options_;
  progress progress_ = progress::idle;
  ended_waiter up_;
  stop_context* context_ = nullptr;
  waiter* outer_ = nullptr;
  fiber_stack* stack_ = nullptr;
  fiber_state* state_ = nullptr;    // of the coroutine that stands for it among coroutines
  std::coroutine_handle<> driver_;  // that coroutine
  std::coroutine_handle<> then_;    // what runs when it has left
};

// The fiber on whose stack we are, or null; the same, asserted.
fiber_base* running_fiber() noexcept;
fiber_base& current_fiber() noexcept;

// Lets the others run.
class fiber_turn : private wait_point {
 public:
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    begin(up, context, "its turn");
    wake();
    return std::noop_coroutine();
  }
  void take() const noexcept {}
};

}  // namespace detail

// What fiber() returns.
template <class Fn>
class fiber_op final : private detail::fiber_base {
 public:
  using value_type = std::invoke_result_t<Fn&>;
  static_assert(!std::is_reference_v<value_type>, "a fiber gives a value, not a reference");

  template <class F>
  fiber_op(F&& fn, const fiber_options& options) : fiber_base(options), fn_(std::forward<F>(fn)) {}
  fiber_op(fiber_op&& other) noexcept : fiber_base(other), fn_(std::move(other.fn_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept { return begin(up, context); }
  value_type take() { return slot_.take(); }

 private:
  void run() noexcept override {
    try {
      if constexpr (std::is_void_v<value_type>) {
        fn_();
        slot_.emplace();
      } else {
        slot_.emplace(fn_());
      }
    } catch (...) {
      slot_.fail(std::current_exception());
    }
  }
  void fail(std::exception_ptr why) noexcept override { slot_.fail(std::move(why)); }

  Fn fn_;
  result_slot<value_type> slot_;
};

// Runs `fn()` on a stack of its own, as a part of the task that awaits it: auto page = co_await fiber(fn).
// Inside, await(what) is what co_await is in a task. Gives what `fn` gives, or throws what it throws.
//
// Errors:    throws no_fiber_stack when there is no memory for a stack.
// Cancelled: what `fn` awaits ends with operation_canceled; it is up to `fn` to return then.
// Lifetime:  `fn` is stored; what it refers to must live until the co_await returns.
// Threads:   the scheduler that awaits it, all the time.
template <class Fn>
requires std::is_invocable_v < std::decay_t<Fn>
& > [[nodiscard]] fiber_op<std::decay_t<Fn>> fiber(Fn&& fn, const fiber_options& options = fiber_options()) {
  KEEL_CHECK_CLOSURE(Fn);
  return fiber_op<std::decay_t<Fn>>(std::forward<Fn>(fn), options);
}

// Suspends this fiber until `operand`, anything that a task could co_await, has ended; gives what it gives.
//
// Errors:    those of the operand.
// Cancelled: as the operand.
// Threads:   a fiber's.
// REQUIRES:  it is called inside of fiber(), in code that is not a coroutine.
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>) [[gnu::always_inline]] inline decltype(auto)
    await(A&& operand, const std::source_location& where = std::source_location::current()) {
  detail::current_fiber().wait(operand, where);
  return operand.take();
}
// A named task or operation is awaited as await(std::move(name)): it can be awaited once.
template <awaitable A>
void await(A& operand) = delete;

// A function that returns a task which runs `fn(args...)` in a fiber: for spawn and scope::spawn, which store
// it and the arguments. The task refers to both.
template <class Fn>
class fiber_function {
 public:
  fiber_function(Fn fn, const fiber_options& options) : fn_(std::move(fn)), options_(options) {}

  template <class... Args>
  task<std::invoke_result_t<Fn&, Args...>> operator()(Args&&... args) {
    auto call = [&] { return std::apply(fn_, std::forward_as_tuple(std::forward<Args>(args)...)); };
    co_return co_await fiber(call, options_);
  }

 private:
  Fn fn_;
  fiber_options options_;
};

// scope.spawn(on_fiber(serve), std::move(peer)) runs serve(peer) in a fiber. named(...) goes inside.
template <class Fn>
fiber_function<std::decay_t<Fn>> on_fiber(Fn&& fn, const fiber_options& options = fiber_options()) {
  return {std::forward<Fn>(fn), options};
}
template <class Fn>
named_callable<fiber_function<Fn>> on_fiber(named_callable<Fn> fn,
                                            const fiber_options& options = fiber_options()) {
  named_callable<fiber_function<Fn>> made(fn.name, on_fiber(std::move(fn.fn), options));
  made.urgency = fn.urgency;
  made.inherits = fn.inherits;
  return made;
}

// Runs `fn(args...)` in a fiber, as a task of its own: see keel::spawn, which says all about it. The handle
// gives what `fn` gives.
//
// Threads:  a scheduler's.
// Throws:   std::bad_alloc; what copying the arguments throws.
template <class Fn, class... Args>
auto spawn_fiber(Fn&& fn, Args&&... args) {
  return spawn(on_fiber(std::forward<Fn>(fn)), std::forward<Args>(args)...);
}

// Whether this code runs in a fiber.
inline bool in_fiber() noexcept {
  return detail::running_fiber() != nullptr;
}

struct fiber_stack_use {
  std::size_t stack_bytes = 0;
  std::size_t free_bytes = 0;        // from here down
  std::size_t high_water_bytes = 0;  // the most used so far, by this fiber or one before it
};

// What a fiber asks about itself. REQUIRES of all: in_fiber().
namespace this_fiber {

// Whether it was asked to stop, gracefully at least.
[[nodiscard]] bool stopping() noexcept;
// Lets everything that is ready run first.
inline void yield(const std::source_location& where = std::source_location::current()) {
  await(detail::fiber_turn(), where);
}
// That of its task; null if it has none.
[[nodiscard]] const char* name() noexcept;
// Asks the kernel, in some microseconds.
[[nodiscard]] fiber_stack_use stack_use() noexcept;

}  // namespace this_fiber
}  // namespace keel
