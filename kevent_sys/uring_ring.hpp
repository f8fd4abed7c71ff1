// Private to kevent_sys: one io_uring, set up as far as this kernel allows, and its two rings of indices.
#pragma once

#include <keel/base/result.hpp>

#include <liburing.h>

#include <cstdint>

namespace keel::kevent_sys {

// Larger queues need contiguous pages that a busy machine lacks.
inline constexpr std::uint32_t uring_entries_ceiling = 16384;

// A resource; not movable. liburing sets it up; submission and completion are ours, so that a turn is exactly
// one system call.
//
// Life cycle: open() on any thread; enable() on the thread that will use it; destroyed on any.
class uring_ring {
 public:
  uring_ring() noexcept = default;
  uring_ring(const uring_ring&) = delete;
  uring_ring& operator=(const uring_ring&) = delete;
  ~uring_ring();

  // How it is to be used.
  struct options {
    std::uint32_t entries = 256;
    std::uint32_t completions = 0;  // 0: four for each entry
    bool shared = false;            // several threads hand over, one at a time
  };

  // Tries the flags and sizes that suit us best first, then fewer: flags on EINVAL, half the size on ENOMEM.
  // Errors: what the kernel said to the last try; not_supported below Linux 6.1.
  result<void> open(const options& how) noexcept;
  // Makes the calling thread the only one that may submit; a shared ring has no such thread. Errors: what the
  // kernel said.
  result<void> enable() noexcept;
  bool enabled() const noexcept { return enabled_; }

  // A cleared entry of the submission queue, or null when it is full.
  io_uring_sqe* next_sqe() noexcept;
  // Entries that are filled and not handed over.
  unsigned unsubmitted() const noexcept { return sqe_tail_ - *ring_.sq.khead; }

  // Hands everything over; waits for `wait_for` completions at most `timeout_ns` (never: no limit).
  // Returns 0 or a negative errno; counts as done what the kernel took.
  int enter(unsigned wait_for, std::uint64_t timeout_ns) noexcept;

  // Waits for a completion, at most `timeout_ns`, and hands nothing over. Changes nothing: any thread.
  int sleep(std::uint64_t timeout_ns) const noexcept;

  bool overflowed() const noexcept { return (flags() & IORING_SQ_CQ_OVERFLOW) != 0; }
  // Whether an enter would find completions that are not in the ring yet.
  bool work_pending() const noexcept { return (flags() & (IORING_SQ_CQ_OVERFLOW | IORING_SQ_TASKRUN)) != 0; }

  // The oldest completion, or null. It stays until seen().
  const io_uring_cqe* peek() noexcept;
  // The one `n` behind it, or null.
  const io_uring_cqe* peek_ahead(unsigned n) const noexcept {
    return ready() > n ? &ring_.cq.cqes[(*ring_.cq.khead + n) & *ring_.cq.kring_mask] : nullptr;
  }
  void seen() noexcept { io_uring_smp_store_release(ring_.cq.khead, *ring_.cq.khead + 1); }
  unsigned ready() const noexcept { return io_uring_cq_ready(&ring_); }

  io_uring* raw() noexcept { return &ring_; }
  int fd() const noexcept { return ring_.ring_fd; }
  std::uint32_t entries() const noexcept { return entries_; }
  std::uint32_t setup_flags() const noexcept { return ring_.flags; }

 private:
  unsigned flags() const noexcept { return IO_URING_READ_ONCE(*ring_.sq.kflags); }
  int setup(const options& how, std::uint32_t flags) noexcept;
  void publish_tail() noexcept;

  io_uring ring_{};
  std::uint32_t entries_ = 0;
  unsigned sqe_tail_ = 0;
  unsigned enter_flags_ = 0;
  bool open_ = false;
  bool enabled_ = false;
};

}  // namespace keel::kevent_sys
