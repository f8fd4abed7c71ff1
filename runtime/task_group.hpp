// Tasks that belong together: who owns them, who is told when they end.
#pragma once

#include <keel/runtime/resume.hpp>
#include <keel/runtime/stop_context.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>

namespace keel {

class spawned_base;

// A set of running tasks under one stop context. Not movable.
//
// Life cycle: destroyed when empty.
// Thread safety: its scheduler's thread.
class task_group {
 public:
  task_group() noexcept = default;
  task_group(const task_group&) = delete;
  task_group& operator=(const task_group&) = delete;
  virtual ~task_group() { KEEL_ASSERT(empty(), "a group of tasks was destroyed before they ended"); }

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  stop_context& context() noexcept { return context_; }

  // For spawned_base: one begins, one has ended.
  void add() noexcept;
  void remove(std::uint64_t child_id) noexcept;
  // An exception of `child` that no handle will collect. The default hands it to the runtime.
  virtual void child_failed(spawned_base& child, std::exception_ptr error) noexcept;
  // Whether child_failed() is wanted as soon as a child fails, though a handle may still collect it.
  virtual bool fails_at_once() const noexcept { return false; }

 protected:
  stop_context context_;
  bool watched_ = false;

 private:
  // Before the first child begins, and after the last one has ended. They resume nobody; they make ready.
  virtual void became_busy() noexcept {}
  virtual void became_empty() noexcept {}
  // One has ended; told when watched_.
  virtual void child_ended(std::uint64_t) noexcept {}

  std::size_t size_ = 0;
};

}  // namespace keel
