// Storage that each fiber has for itself.
#pragma once

#include <keel/runtime/frame_allocator.hpp>

#include <concepts>
#include <cstdint>
#include <utility>

namespace keel {
namespace detail {

class fiber_base;

struct fiber_local_value : recycled {
  explicit fiber_local_value(std::uint64_t k) noexcept : key(k) {}
  virtual ~fiber_local_value() = default;

  std::uint64_t key;
  fiber_local_value* next = nullptr;
};

std::uint64_t new_fiber_local_key() noexcept;
// Of the fiber that runs: its value, or null.
fiber_local_value* find_fiber_local(std::uint64_t key) noexcept;
void add_fiber_local(fiber_local_value& value) noexcept;
// The newest first; those that are made meanwhile, too.
void destroy_fiber_locals(fiber_base& fiber) noexcept;

}  // namespace detail

// A T for each fiber: made at its first use there, as a copy of the value given here; destroyed on the
// fiber's stack when its function has returned, the newest first. For what was thread_local in code that is
// being ported. Make it static.
//
// Threads:   any; each fiber sees its own.
// REQUIRES:  of the access: it happens in a fiber.
template <class T>
class fiber_local {
 public:
  fiber_local() : initial_() {}
  explicit fiber_local(T initial) requires std::copy_constructible<T> : initial_(std::move(initial)) {}
  fiber_local(const fiber_local&) = delete;
  fiber_local& operator=(const fiber_local&) = delete;

  // Throws what copying the T throws, std::bad_alloc.
  T& get() const {
    if (detail::fiber_local_value* found = detail::find_fiber_local(key_))
      return static_cast<value*>(found)->held;
    value* made = make();
    detail::add_fiber_local(*made);
    return made->held;
  }
  T& operator*() const { return get(); }
  T* operator->() const { return &get(); }

 private:
  struct value final : detail::fiber_local_value {
    template <class... From>
    explicit value(std::uint64_t k, const From&... from) : fiber_local_value(k), held(from...) {}
    T held;
  };

  value* make() const {
    if constexpr (std::copy_constructible<T>) {
      return new value(key_, initial_);
    } else {
      return new value(key_);
    }
  }

  const std::uint64_t key_ = detail::new_fiber_local_key();
  const T initial_;
};

}  // namespace keel
