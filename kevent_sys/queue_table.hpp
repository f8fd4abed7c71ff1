// Private to kevent_sys: which descriptors are queues, and who is inside them.
#pragma once

#include "shared_queue.hpp"

namespace keel::kevent_sys::queue_table {

// Enters a queue for the time of one call. A resource.
class visit {
 public:
  explicit visit(int fd) noexcept;
  visit(const visit&) = delete;
  visit& operator=(const visit&) = delete;
  ~visit();

  // 0, or why there is no queue: -EBADF, -EINVAL, -EOWNERDEAD.
  int error() const noexcept { return error_; }
  shared_queue* operator->() const noexcept { return queue_; }
  shared_queue& operator*() const noexcept { return *queue_; }

 private:
  shared_queue* queue_ = nullptr;
  int fd_;
  int error_ = 0;
};

// Makes `made` known by its descriptor: 0, or -ENOMEM, -EMFILE.
int add(shared_queue& made) noexcept;
// Takes the queue out, waits until nobody is inside, destroys it and closes `fd`. The answer of kevent_close.
int close(int fd) noexcept;

bool is_queue(int fd) noexcept;

// A number that a child of fork() does not have in common with its parent.
std::uint64_t process_generation() noexcept;

}  // namespace keel::kevent_sys::queue_table
