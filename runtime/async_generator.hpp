// A coroutine that gives one value after the other, and waits in between for whatever it needs.
#pragma once

#include <keel/runtime/task.hpp>
#include <keel/runtime/wait_point.hpp>

#include <optional>

namespace keel {

template <class T>
class async_generator;

namespace detail {

template <class T>
class generator_next_op;

// What its promise needs whatever the generator gives. It has one waiter after the other.
class async_generator_promise_base : public promise_base {
 public:
  // Hands a value over: whoever asked for it runs on.
  struct yield_awaiter {
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    KEEL_TRANSFERS transfer_result await_suspend(std::coroutine_handle<Promise> coroutine) const noexcept {
      return transfer(coroutine.promise().pause());
    }
    void await_resume() const noexcept {}
  };
  struct end_awaiter : yield_awaiter {
    template <class Promise>
    KEEL_TRANSFERS transfer_result await_suspend(std::coroutine_handle<Promise> coroutine) const noexcept {
      coroutine.promise().done_ = true;
      return transfer(coroutine.promise().pause());
    }
  };
  end_awaiter final_suspend() const noexcept { return {}; }

  // From one value to the next it is a part of whoever asks: his node, his context.
  void go(waiter& up, stop_context& context) noexcept {
    KEEL_ASSERT(!running_, "one value at a time: a next() of this generator is still awaited");
    running_ = true;
    this->up_ = &up;
    this->context_ = &context;
    this->begin_frame();
  }
  bool running() const noexcept { return running_; }
  bool done() const noexcept { return done_; }

 private:
  std::coroutine_handle<> pause() noexcept {
    this->end_frame();
    running_ = false;
    return up_->next(up_);
  }

  bool running_ = false;
  bool done_ = false;
};

template <class T>
class async_generator_promise final : public async_generator_promise_base {
 public:
  async_generator<T> get_return_object() noexcept;
  template <class U = T>
  requires std::convertible_to<U&&, T> yield_awaiter yield_value(U&& value) {
    slot_->emplace(std::in_place, std::forward<U>(value));
    return {};
  }
  void return_void() noexcept { slot_->emplace(); }
  void unhandled_exception() noexcept { slot_->fail(std::current_exception()); }

 private:
  friend class generator_next_op<T>;
  result_slot<std::optional<T>>* slot_ = nullptr;
};

// What next() returns.
template <class T>
class generator_next_op : private waiter {
 public:
  explicit generator_next_op(async_generator_promise<T>& of) noexcept : waiter(&resumed), of_(of) {}
  generator_next_op(generator_next_op&& other) noexcept
      : waiter(&resumed), of_(other.of_), turn_(other.turn_), slot_(std::move(other.slot_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    if (of_.done()) {
      slot_.emplace();
      return turn_.go_on(up, context);
    }
    of_.go(up, context);
    of_.slot_ = &slot_;
    // A generator that never waits does not keep the others from running.
    return turn_.go_on(*this, context);
  }
  std::optional<T> take() { return slot_.take(); }

 private:
  static std::coroutine_handle<> resumed(waiter* self) noexcept {
    return std::coroutine_handle<async_generator_promise<T>>::from_promise(
        static_cast<generator_next_op*>(self)->of_);
  }

  async_generator_promise<T>& of_;
  wait_point turn_;
  result_slot<std::optional<T>> slot_;
};

}  // namespace detail

// A lazy sequence whose values come when they can be had. A coroutine that uses co_yield, and may await
// whatever a task may:
//
//     async_generator<std::string> lines(net::tcp_stream& peer);
//     auto each = lines(peer);
//     while (auto line = co_await each.next()) use(*line);
//
// It runs only while somebody awaits next(), as a part of him: he is whose stop ends its waits. A resource;
// movable.
//
// Life cycle: made by calling a coroutine -> next() any number of times -> destroyed at any co_yield, before
// the first next(), or after the end; its locals go then. Not while a next() is awaited (asserted).
// Lifetime: reference parameters of the coroutine must live as long as the generator.
// Threads:  the scheduler that awaits it.
template <class T>
class [[nodiscard]] async_generator {
  static_assert(std::is_object_v<T>, "an async_generator gives values: for references, take pointers");

 public:
  using promise_type = detail::async_generator_promise<T>;
  using value_type = T;
  using next_op = detail::generator_next_op<T>;

  async_generator(async_generator&& other) noexcept : promise_(std::exchange(other.promise_, nullptr)) {}
  async_generator& operator=(async_generator&& other) noexcept {
    async_generator before(std::move(*this));
    promise_ = std::exchange(other.promise_, nullptr);
    return *this;
  }
  ~async_generator() {
    if (promise_ == nullptr) return;
    KEEL_ASSERT(!promise_->running(), "a generator was destroyed while its next value is awaited");
    std::coroutine_handle<promise_type>::from_promise(*promise_).destroy();
  }

  // The next value; nothing when the coroutine has ended. Throws what the coroutine throws, and is then at
  // its end.
  //
  // Errors:    none of its own: what may fail yields result<T>.
  // Cancelled: as what the coroutine awaits; what it yields or returns then is up to it.
  // Lifetime:  *this must live until the co_await returns.
  // REQUIRES:  no other next() is awaited.
  [[nodiscard]] next_op next() noexcept {
    KEEL_ASSERT(promise_ != nullptr, "a generator was moved from");
    return next_op(*promise_);
  }

 private:
  friend promise_type;
  explicit async_generator(promise_type& promise) noexcept : promise_(&promise) {}

  promise_type* promise_;
};

namespace detail {

template <class T>
async_generator<T> async_generator_promise<T>::get_return_object() noexcept {
  return async_generator<T>(*this);
}

}  // namespace detail
}  // namespace keel
