// Private to kevent_sys: the translation of requests to io_uring, in one place per opcode.
#pragma once

#include <keel/kevent_sys/operation.hpp>

#include <liburing.h>

#include <cstddef>
#include <cstdint>

namespace keel::kevent_sys {

// What a request's translation depends on, besides the request.
struct uring_abilities {
  int wake_fd = -1;
  bool provided_buffers = false;
  bool multishot_read = false;  // Linux 6.7
  bool futex = false;           // Linux 6.7
};

// Fills the cleared `sqe`; the caller sets user_data.
void fill_request(io_uring_sqe& sqe, const request& asked, const uring_abilities& here) noexcept;

// Waits until the descriptor is ready for what is asked.
void fill_readiness(io_uring_sqe& sqe, const request& asked) noexcept;

// Ends after some 20 ms: a wait for what the kernel cannot tell.
void fill_pause(io_uring_sqe& sqe) noexcept;

// Reads a range of a file to bring it into the page cache.
void fill_warm_up(io_uring_sqe& sqe, int file_fd, std::uint64_t offset, std::byte* scratch,
                  std::uint32_t bytes) noexcept;

}  // namespace keel::kevent_sys
