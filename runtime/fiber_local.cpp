#include <keel/runtime/fiber_local.hpp>

#include <keel/runtime/fiber.hpp>

#include <atomic>

namespace keel::detail {

std::uint64_t new_fiber_local_key() noexcept {
  // Never used again: a value of a fiber_local that has gone is nobody's.
  static std::atomic<std::uint64_t> last{0};
  return last.fetch_add(1, std::memory_order_relaxed) + 1;
}

fiber_local_value* find_fiber_local(std::uint64_t key) noexcept {
  // There are few; what is used often was not made last.
  fiber_local_value* value = current_fiber().locals;
  while (value != nullptr && value->key != key) value = value->next;
  return value;
}

void add_fiber_local(fiber_local_value& value) noexcept {
  fiber_base& fiber = current_fiber();
  value.next = fiber.locals;
  fiber.locals = &value;
}

void destroy_fiber_locals(fiber_base& fiber) noexcept {
  while (fiber_local_value* newest = fiber.locals) {
    fiber.locals = newest->next;
    delete newest;
  }
}

}  // namespace keel::detail
