// result<T>: a value, or the error that took its place.
#pragma once

#include <keel/base/assert.hpp>
#include <keel/base/error.hpp>

#include <new>
#include <type_traits>
#include <utility>

namespace keel {

// Why something failed: the code, and what was being tried ("recv"; a string literal, or null).
struct failure {
  failure(std::error_code error_code) noexcept : code(error_code) { KEEL_ASSERT(code); }
  failure(std::error_code error_code, const char* what) noexcept : code(error_code), doing(what) {
    KEEL_ASSERT(code);
  }
  failure(errc error) noexcept : code(error) {}
  failure(errc error, const char* what) noexcept : code(error), doing(what) {}

  std::error_code code;
  const char* doing = nullptr;
};

// A value type. One object: never destructured in the expression that awaits it.
//
// INVARIANT: holds a value exactly when has_value(); error() is then no error.
// Thread safety: as an int.
template <class T>
class [[nodiscard]] result {
 public:
  using value_type = T;

  result(const T& value) : has_value_(true) { ::new (&value_) T(value); }
  result(T&& value) noexcept(std::is_nothrow_move_constructible_v<T>) : has_value_(true) {
    ::new (&value_) T(std::move(value));
  }
  // From whatever makes a T: `return "text";` in a function that returns result<std::string>.
  template <class U>
    requires(std::is_convertible_v<U &&, T> && !std::is_convertible_v<U &&, failure> &&
             !std::is_same_v<std::remove_cvref_t<U>, T> && !std::is_same_v<std::remove_cvref_t<U>, result>)
  result(U&& value) : has_value_(true) {
    ::new (&value_) T(std::forward<U>(value));
  }
  result(failure why) noexcept : failure_(why) {}
  result(std::error_code code) noexcept : failure_(code) {}
  result(errc code) noexcept : failure_(code) {}

  result(const result& other) : has_value_(other.has_value_) {
    if (has_value_) {
      ::new (&value_) T(other.value_);
    } else {
      ::new (&failure_) failure(other.failure_);
    }
  }
  result(result&& other) noexcept(std::is_nothrow_move_constructible_v<T>) : has_value_(other.has_value_) {
    if (has_value_) {
      ::new (&value_) T(std::move(other.value_));
    } else {
      ::new (&failure_) failure(other.failure_);
    }
  }
  result& operator=(result other) noexcept {
    static_assert(std::is_nothrow_move_constructible_v<T>, "a move that throws would leave neither value");
    this->~result();
    ::new (this) result(std::move(other));
    return *this;
  }
  ~result() {
    if (has_value_) value_.~T();
  }

  bool has_value() const noexcept { return has_value_; }
  explicit operator bool() const noexcept { return has_value_; }

  // REQUIRES: has_value()
  T& operator*() & noexcept { return checked(); }
  const T& operator*() const& noexcept { return const_cast<result*>(this)->checked(); }
  T&& operator*() && noexcept { return std::move(checked()); }
  T* operator->() noexcept { return &checked(); }
  const T* operator->() const noexcept { return &const_cast<result*>(this)->checked(); }

  // The value, or throws std::system_error with the code and what was being tried.
  T& value() & {
    throw_unless_value();
    return value_;
  }
  const T& value() const& {
    throw_unless_value();
    return value_;
  }
  T value() && {
    throw_unless_value();
    return std::move(value_);
  }
  template <class U>
  T value_or(U&& otherwise) && {
    return has_value_ ? std::move(value_) : static_cast<T>(std::forward<U>(otherwise));
  }

  // No error (false) when there is a value.
  std::error_code error() const noexcept { return has_value_ ? std::error_code() : failure_.code; }
  // REQUIRES: !has_value()
  const failure& why() const noexcept {
    KEEL_ASSERT(!has_value_, "a result with a value has no failure");
    return failure_;
  }

 private:
  T& checked() noexcept {
    KEEL_ASSERT(has_value_, "look at the result before you use its value");
    return value_;
  }
  void throw_unless_value() const {
    if (!has_value_) throw_error(failure_.code, failure_.doing);
  }

  union {
    T value_;
    failure failure_;
  };
  bool has_value_ = false;
};

template <>
class [[nodiscard]] result<void> {
 public:
  using value_type = void;

  result() noexcept = default;
  result(failure why) noexcept : code_(why.code), doing_(why.doing) {}
  result(std::error_code code) noexcept : result(failure(code)) {}
  result(errc code) noexcept : result(failure(code)) {}

  bool has_value() const noexcept { return !code_; }
  explicit operator bool() const noexcept { return !code_; }
  void operator*() const noexcept { KEEL_ASSERT(!code_, "look at the result before you use its value"); }
  void value() const {
    if (code_) throw_error(code_, doing_);
  }
  std::error_code error() const noexcept { return code_; }
  // REQUIRES: !has_value()
  failure why() const noexcept { return failure(code_, doing_); }

 private:
  std::error_code code_;
  const char* doing_ = nullptr;
};

template <class T>
inline constexpr bool is_result = false;
template <class T>
inline constexpr bool is_result<result<T>> = true;

}  // namespace keel
