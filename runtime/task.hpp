// task<T>: a coroutine that gives one T.
#pragma once

#include <keel/base/or_return.hpp>
#include <keel/base/result.hpp>
#include <keel/runtime/awaitable.hpp>
#include <keel/runtime/frame_allocator.hpp>
#include <keel/runtime/result_slot.hpp>
#include <keel/runtime/task_node.hpp>

#include <coroutine>
#include <exception>
#include <utility>

namespace keel {

template <class T = void>
class task;

namespace detail {

template <class Awaitable, class Promise>
class or_return_awaiter;

// What a promise needs whatever its task gives.
class promise_base : public recycled, private task_frame {
 public:
  using recycled::operator new;
  using recycled::operator delete;

  // Lazy; and where a miscompiled coroutine is found out, at its first call. g++ 12 puts the hidden variable
  // of a condition with co_await in front of the frame's head when the coroutine declares no variable of its
  // own, as in task<> f(op& o) { if (!co_await o.next()) co_return; ... }. Its handle then points behind the
  // frame's beginning, and resuming it would run in the wrong memory.
  struct initial_awaiter {
    const promise_base& promise;
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    void await_suspend(std::coroutine_handle<Promise> coroutine) const noexcept {
      KEEL_ASSERT(
          &coroutine.promise() == &promise,
          "g++ 12 breaks a coroutine that awaits in the condition of if, while or switch and declares no "
          "variable: write `const auto got = co_await ...; if (got)`, or declare any variable");
    }
    void await_resume() const noexcept {}
  };
  initial_awaiter initial_suspend() const noexcept { return {*this}; }

  // The frame stays until its task goes: an awaiter in it may be on the stack right now.
  struct final_awaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    KEEL_TRANSFERS transfer_result await_suspend(std::coroutine_handle<Promise> coroutine) const noexcept {
      coroutine.promise().end_frame();
      waiter* up = coroutine.promise().up_;
      return transfer(up->next(up));
    }
    void await_resume() const noexcept {}
  };
  final_awaiter final_suspend() const noexcept { return {}; }

  stop_context& context() const noexcept { return *context_; }

  // Any awaitable, idle, as it stands in the expression.
  template <class A>
  requires(awaitable<std::remove_cvref_t<A>> && !std::is_lvalue_reference_v<A>) awaiting<A> await_transform(
      A&& operand, std::source_location here = std::source_location::current())
  noexcept {
    awaits = here;
    return awaiting<A>(operand);
  }
  // A named task or operation is awaited as co_await std::move(name): it can be awaited once.
  template <class A>
  requires awaitable<std::remove_cvref_t<A>>
  void await_transform(A& operand) const = delete;
  // What only answers a question about this task (this_task::...).
  template <class Question>
  requires requires(const Question& q, stop_context& c) { q.answer(c); }
  Question await_transform(Question question) const noexcept {
    question.context = context_;
    return question;
  }

  // It is the innermost of its node until it ends.
  void begin_frame() noexcept {
    caller = context_->node().innermost;
    context_->node().innermost = this;
  }
  void end_frame() noexcept { context_->node().innermost = caller; }
  void note_await(const std::source_location& here) noexcept { awaits = here; }
  void note_failure() noexcept { context_->node().note_failure(*this); }

 protected:
  friend class task_starter;

  waiter* up_ = nullptr;
  stop_context* context_ = nullptr;
  std::coroutine_handle<>* owner_ = nullptr;  // the task's handle: cleared when the frame goes early
};

template <class T>
class promise_of : public promise_base {
 public:
  void unhandled_exception() noexcept {
    this->note_failure();
    slot_->fail(std::current_exception());
  }
  void set_slot(result_slot<T>* slot) noexcept { slot_ = slot; }

 protected:
  result_slot<T>* slot_ = nullptr;
};

template <class T>
class task_promise final : public promise_of<T> {
 public:
  task<T> get_return_object() noexcept;
  template <class U>
  requires std::convertible_to<U&&, T>
  void return_value(U&& value) { this->slot_->emplace(std::forward<U>(value)); }
  void return_value(T value) requires(!std::is_reference_v<T>) { this->slot_->emplace(std::move(value)); }

  using promise_base::await_transform;
  template <class A>
  requires is_result<T> or_return_awaiter<A, task_promise> await_transform(
      or_return_request<A>&& request, std::source_location here = std::source_location::current())
  noexcept {
    this->note_await(here);
    return or_return_awaiter<A, task_promise>(std::move(request.awaitable), *this);
  }

  // Ends the suspended coroutine as `co_return why` would: its locals go. Returns who waits for it.
  waiter* end_early(failure why) noexcept {
    waiter* up = this->up_;
    this->note_failure();
    this->end_frame();
    this->slot_->emplace(why);
    *this->owner_ = nullptr;
    std::coroutine_handle<task_promise>::from_promise(*this).destroy();
    return up;
  }
};

template <>
class task_promise<void> final : public promise_of<void> {
 public:
  task<void> get_return_object() noexcept;
  void return_void() { slot_->emplace(); }
};

// Gives a promise its surroundings.
class task_starter {
 public:
  template <class Promise, class T>
  static void prepare(Promise& promise, waiter& up, stop_context& context, std::coroutine_handle<>& owner,
                      result_slot<T>& slot) noexcept {
    promise.up_ = &up;
    promise.context_ = &context;
    promise.owner_ = &owner;
    promise.set_slot(&slot);
    promise.begin_frame();
  }
};

}  // namespace detail

// A lazy coroutine: it runs when it is awaited, or given to spawn() or run(). A resource; movable until it
// starts.
//
// Life cycle: made by calling a coroutine -> awaited once (asserted) -> destroyed after it has ended, or
// unstarted. An exception that leaves the coroutine leaves the co_await.
// Lifetime: reference parameters of the coroutine must live until it has ended.
// Threads:  the scheduler that runs it.
template <class T>
class [[nodiscard]] task {
 public:
  using promise_type = detail::task_promise<T>;
  using value_type = T;

  task(task&& other) noexcept
      : coroutine_(std::exchange(other.coroutine_, nullptr)),
        promise_(other.promise_),
        slot_(std::move(other.slot_)) {}
  task& operator=(task&&) = delete;
  ~task() { destroy_frame(); }

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    KEEL_ASSERT(coroutine_ && slot_.empty() && !started_, "a task was moved from, or awaited a second time");
    started_ = true;
    detail::task_starter::prepare(*promise_, up, context, coroutine_, slot_);
    return coroutine_;
  }
  T take() { return slot_.take(); }

  // For those who run tasks: the result before it is taken, and the frame. REQUIRES: it has ended, or not
  // started
  result_slot<T>& slot() noexcept { return slot_; }
  void destroy_frame() noexcept {
    if (coroutine_) std::exchange(coroutine_, nullptr).destroy();
  }

 private:
  friend promise_type;
  explicit task(promise_type& promise) noexcept
      : coroutine_(std::coroutine_handle<promise_type>::from_promise(promise)), promise_(&promise) {}

  std::coroutine_handle<> coroutine_;
  promise_type* promise_;
  result_slot<T> slot_;
  bool started_ = false;
};

template <class T>
inline constexpr bool is_task = false;
template <class T>
inline constexpr bool is_task<task<T>> = true;

namespace detail {

template <class T>
task<T> task_promise<T>::get_return_object() noexcept {
  return task<T>(*this);
}

inline task<void> task_promise<void>::get_return_object() noexcept {
  return task<void>(*this);
}

}  // namespace detail
}  // namespace keel

#include <keel/runtime/or_return_awaiter.hpp>
