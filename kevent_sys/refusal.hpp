// Private to kevent_sys: what is said where the kernel, or a sandbox in front of it, refuses io_uring.
#pragma once

#include <keel/base/result.hpp>

#include <cstdint>

namespace keel::kevent_sys {

// The errno behind an error code; ENOTSUP for keel's own errors.
int errno_of(std::error_code code) noexcept;

// What usually lies behind a refusal with this errno, and where to look.
const char* likely_cause(int error_number) noexcept;

// What epoll costs against io_uring.
inline constexpr const char* cost_of_epoll = "costs some 5 % more CPU time on sockets, and threads for files";

// "io_uring_setup: Operation not permitted (1)". Texts that do not fit into `size` are cut.
void print_refusal(char* text, std::size_t size, const failure& why) noexcept;

// The lines on stderr. Those that tell of a fallback are told once per process, whatever they tell.
void say_uring_unavailable(const failure& why, std::uint32_t entries, const char* insisting) noexcept;
void say_epoll_unavailable(const failure& why) noexcept;
void say_falls_back(const failure& why, std::uint32_t entries) noexcept;
void say_small_ring(std::uint32_t asked, std::uint32_t got) noexcept;
void say_left_alone() noexcept;

// KEEL_ENGINE names none.
void say_unknown_engine() noexcept;

}  // namespace keel::kevent_sys
