#include <keel/runtime/task_group.hpp>

#include <keel/runtime/runtime.hpp>
#include <keel/runtime/spawn.hpp>

namespace keel {

void task_group::add() noexcept {
  if (size_++ == 0) became_busy();
}

void task_group::remove(std::uint64_t child_id) noexcept {
  --size_;
  if (watched_) child_ended(child_id);
  if (size_ == 0) became_empty();
}

void task_group::child_failed(spawned_base& child, std::exception_ptr error) noexcept {
  child.home().owner().unhandled_exception(task_description(child.node()), std::move(error));
}

}  // namespace keel
