// Private to kevent_sys: one step of a sendfile, and whether it would wait for a disk.
#pragma once

#include <cstdint>

namespace keel::kevent_sys {

// What one step moves at most: long enough to pay for itself, short enough for the neighbours.
inline constexpr std::uint32_t transfer_slice = 256 * 1024;

// Whether `bytes` from `offset` of the file are in the page cache, as far as this kernel can tell.
bool in_page_cache(int file_fd, std::uint64_t offset, std::uint64_t bytes) noexcept;

// One sendfile(2). The socket is O_NONBLOCK. Answers the bytes moved, 0 at the end of the file, or -errno.
int send_slice(int socket_fd, int file_fd, std::uint64_t offset, std::uint32_t bytes) noexcept;

}  // namespace keel::kevent_sys
