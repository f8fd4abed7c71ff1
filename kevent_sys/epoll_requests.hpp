// Private to kevent_sys: the translation of requests to system calls, in one place per opcode.
//
// Each function answers as io_uring would: a value, or a negative errno.
#pragma once

#include <keel/kevent_sys/operation.hpp>

#include <cstddef>
#include <cstdint>

namespace keel::kevent_sys {

// What a request waits for when its call says that it must, as EPOLLIN, ... .
std::uint32_t readiness_of(const request& asked) noexcept;

// Calls that do not wait. -EAGAIN: they would have to.

int accept_now(const request& asked) noexcept;
// `begun`: an earlier attempt was answered with -EAGAIN, and the descriptor has become ready. -EBUSY: the
// peer has no room for a further connection, and nothing will tell us when it has (AF_UNIX).
int connect_now(const request& asked, bool begun) noexcept;
// Behind the first `done` bytes.
int recv_now(const request& asked, std::uint32_t done) noexcept;
int send_now(const request& asked, std::uint32_t done) noexcept;
// MSG_WAITALL, on a socket where a further call may bring more of the same.
bool wants_all(const request& asked) noexcept;
// recv(2) and read(2) into memory of ours.
int recv_into(int fd, std::byte* target, std::size_t size_bytes) noexcept;
int drain_into(int fd, std::byte* target, std::size_t size_bytes) noexcept;
// For pipes, terminals and whatever else may be waited for.
int read_stream_now(const request& asked) noexcept;
int write_stream_now(const request& asked) noexcept;
// For files: what the page cache has of it. -EAGAIN: less than is asked for.
int read_cached(const request& asked) noexcept;
// What of `mask` is ready, as poll(2) says.
int poll_now(int fd, std::uint32_t mask) noexcept;

// A file of a disk: never waited for, but reading it may take its time.
bool is_file(int fd) noexcept;

// Calls that may wait for a disk.

int open_file(const request& asked) noexcept;
int read_file(const request& asked) noexcept;
int write_file(const request& asked) noexcept;
int close_file(const request& asked) noexcept;
// Brings what opcode::sendfile asks for into the page cache, at most `bytes_max`.
int warm_up(const request& asked, std::uint32_t bytes_max) noexcept;

}  // namespace keel::kevent_sys
