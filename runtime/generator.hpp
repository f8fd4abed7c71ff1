// A coroutine that gives one value after the other, without waiting: a lazy range.
#pragma once

#include <keel/base/assert.hpp>
#include <keel/runtime/frame_allocator.hpp>

#include <coroutine>
#include <exception>
#include <iterator>
#include <type_traits>
#include <utility>

namespace keel {

template <class T>
class generator;

// co_yield elements_of(other): everything that `other` gives, as if this generator gave it.
template <class T>
struct elements_of {
  explicit elements_of(generator<T>&& other) noexcept : inner(std::move(other)) {}
  generator<T> inner;
};

namespace detail {

template <class T>
inline constexpr bool generator_may_await = false;

// INVARIANT: innermost_ of the outermost generator is the one that runs, value_ what it gave last.
template <class T>
class generator_promise final : public recycled {
 public:
  using recycled::operator new;
  using recycled::operator delete;
  using reference = std::conditional_t<std::is_reference_v<T>, T, T&>;
  using pointer = std::remove_reference_t<T>*;

  // A copy of what cannot be changed where it stands.
  struct copied {
    explicit copied(const std::remove_cvref_t<T>& original) : value(original) {}
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<generator_promise> coroutine) noexcept {
      coroutine.promise().outermost_->value_ = &value;
    }
    void await_resume() const noexcept {}
    std::remove_cvref_t<T> value;
  };
  struct nested {
    explicit nested(generator<T>&& other) noexcept : inner(std::move(other)) {}
    bool await_ready() const noexcept { return inner.promise_ == nullptr; }
    void await_suspend(std::coroutine_handle<generator_promise> coroutine) noexcept {
      coroutine.promise().descend(*inner.promise_);
    }
    void await_resume() const {
      if (inner.promise_ != nullptr && inner.promise_->error_) std::rethrow_exception(inner.promise_->error_);
    }
    generator<T> inner;
  };

  generator<T> get_return_object() noexcept;
  std::suspend_always initial_suspend() const noexcept { return {}; }
  std::suspend_always final_suspend() const noexcept { return {}; }
  void return_void() const noexcept {}
  void unhandled_exception() noexcept { error_ = std::current_exception(); }

  std::suspend_always yield_value(std::remove_reference_t<T>& value) noexcept {
    outermost_->value_ = &value;
    return {};
  }
  std::suspend_always yield_value(std::remove_reference_t<T>&& value) noexcept
      requires(!std::is_lvalue_reference_v<T> || std::is_const_v<std::remove_reference_t<T>>) {
    outermost_->value_ = &value;
    return {};
  }
  copied yield_value(const std::remove_reference_t<T>& value) requires(!std::is_reference_v<T> &&
                                                                       !std::is_const_v<T>) {
    return copied(value);
  }
  nested yield_value(elements_of<T> all) noexcept { return nested(std::move(all.inner)); }

  template <class A>
  void await_transform(A&&) const {
    static_assert(generator_may_await<A>, "a generator cannot wait: async_generator can");
  }

  // Runs until there is a value; false when there is none any more. REQUIRES: it is the outermost
  bool advance() {
    value_ = nullptr;
    for (;;) {
      generator_promise& now = *innermost_;
      const auto coroutine = std::coroutine_handle<generator_promise>::from_promise(now);
      coroutine.resume();
      if (value_ != nullptr) return true;
      if (innermost_ != &now || !coroutine.done()) continue;
      if (&now == this) break;
      innermost_ = now.outer_;
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
    return false;
  }
  pointer value() const noexcept { return value_; }

 private:
  void descend(generator_promise& inner) noexcept {
    KEEL_ASSERT(inner.innermost_ == &inner && !inner.begun_,
                "elements_of takes a generator that has not begun");
    inner.begun_ = true;
    inner.outer_ = this;
    inner.outermost_ = outermost_;
    outermost_->innermost_ = &inner;
  }

  friend generator<T>;
  generator_promise* outermost_ = this;
  generator_promise* innermost_ = this;
  generator_promise* outer_ = nullptr;
  pointer value_ = nullptr;
  std::exception_ptr error_;
  bool begun_ = false;
};

}  // namespace detail

// A lazy range: a coroutine that uses co_yield, and runs from one value to the next as its reader asks.
//
//     generator<int> up_to(int n) { for (int i = 0; i < n; ++i) co_yield i; }
//     for (int i : up_to(10)) ...
//
// A value lives until the next one is asked for; its reader may change it, or move from it. What the
// coroutine throws leaves begin() or ++. A resource; movable while nobody reads.
//
// Life cycle: made by calling a coroutine -> read once, as a range, to its end or not -> destroyed, with its
// locals.
// Lifetime:   reference parameters of the coroutine must live as long as the generator.
// Thread safety: one thread at a time.
template <class T>
class [[nodiscard]] generator {
 public:
  using promise_type = detail::generator_promise<T>;
  using value_type = std::remove_cvref_t<T>;
  using reference = typename promise_type::reference;

  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using difference_type = std::ptrdiff_t;
    using value_type = std::remove_cvref_t<T>;

    explicit iterator(promise_type& of) noexcept : of_(&of) {}
    iterator(iterator&& other) noexcept : of_(other.of_) {}
    iterator& operator=(iterator&& other) noexcept {
      of_ = other.of_;
      return *this;
    }

    reference operator*() const noexcept { return static_cast<reference>(*of_->value()); }
    iterator& operator++() {
      of_->advance();
      return *this;
    }
    void operator++(int) { ++*this; }
    friend bool operator==(const iterator& at, std::default_sentinel_t) noexcept {
      return at.of_->value() == nullptr;
    }

   private:
    promise_type* of_;
  };

  generator(generator&& other) noexcept : promise_(std::exchange(other.promise_, nullptr)) {}
  generator& operator=(generator&& other) noexcept {
    generator before(std::move(*this));
    promise_ = std::exchange(other.promise_, nullptr);
    return *this;
  }
  ~generator() {
    if (promise_ != nullptr) std::coroutine_handle<promise_type>::from_promise(*promise_).destroy();
  }

  // Runs to the first value. REQUIRES: called once
  iterator begin() {
    KEEL_ASSERT(promise_ != nullptr && !promise_->begun_, "a generator is read once");
    promise_->begun_ = true;
    promise_->advance();
    return iterator(*promise_);
  }
  std::default_sentinel_t end() const noexcept { return {}; }

 private:
  friend promise_type;
  explicit generator(promise_type& promise) noexcept : promise_(&promise) {}

  promise_type* promise_;
};

namespace detail {

template <class T>
generator<T> generator_promise<T>::get_return_object() noexcept {
  return generator<T>(*this);
}

}  // namespace detail
}  // namespace keel
