// Where the result of a task arrives: in whoever awaits it, not in its frame.
#pragma once

#include <keel/base/assert.hpp>

#include <exception>
#include <new>
#include <type_traits>
#include <utility>
#include <variant>

namespace keel {

// void, as a value.
template <class T>
using value_or_monostate = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

// Nothing yet, a value, or an exception. Movable while empty.
template <class T>
class result_slot {
 public:
  using value_type = value_or_monostate<T>;

  result_slot() noexcept {}
  result_slot(result_slot&& other) noexcept {
    KEEL_ASSERT(other.empty(), "a task that has started was moved");
  }
  result_slot& operator=(result_slot&&) = delete;
  ~result_slot() { clear(); }

  bool empty() const noexcept { return state_ == state::empty; }
  bool failed() const noexcept { return state_ == state::failed; }
  bool has_value() const noexcept { return state_ == state::value; }
  const value_type& value() const noexcept { return value_; }
  const std::exception_ptr& error() const noexcept { return error_; }

  template <class... Args>
  void emplace(Args&&... args) {
    KEEL_ASSERT(empty());
    ::new (static_cast<void*>(&value_)) value_type(std::forward<Args>(args)...);
    state_ = state::value;
  }
  void fail(std::exception_ptr error) noexcept {
    KEEL_ASSERT(empty());
    ::new (static_cast<void*>(&error_)) std::exception_ptr(std::move(error));
    state_ = state::failed;
  }
  // Takes the exception: the slot is empty again. REQUIRES: failed()
  std::exception_ptr take_error() noexcept {
    std::exception_ptr error = std::move(error_);
    clear();
    return error;
  }

  // The value, moved out, or throws the exception. REQUIRES: !empty()
  T take() {
    KEEL_ASSERT(!empty(), "a result was taken before there is one");
    if (failed()) std::rethrow_exception(take_error());
    if constexpr (!std::is_void_v<T>) return std::move(value_);
  }

 private:
  enum class state : unsigned char { empty, value, failed };

  void clear() noexcept {
    // One or the other: of two conditions in a row g++ suspects that both are true.
    if (state_ == state::value) {
      value_.~value_type();
    } else if (state_ == state::failed) {
      error_.~exception_ptr();
    }
    state_ = state::empty;
  }

  union {
    value_type value_;
    std::exception_ptr error_;
  };
  state state_ = state::empty;
};

}  // namespace keel
