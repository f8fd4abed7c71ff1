// Private to kevent_sys: in sanitizer builds, user buffers are watched while the kernel works on them. The
// kernel's own writes into freed memory are invisible to every sanitizer.
#pragma once

#include <keel/base/address_sanitizer.hpp>
#include <keel/kevent_sys/operation.hpp>

namespace keel::kevent_sys {

#if KEEL_ADDRESS_SANITIZER

// At submission: the buffer must be alive. What the kernel will write into is forbidden to everybody else.
void guard_buffer(const request& asked) noexcept;

// At the end: the buffer must still be alive, and is the user's again.
void release_buffer(const request& asked) noexcept;
#else
inline void guard_buffer(const request&) noexcept {}
inline void release_buffer(const request&) noexcept {}
#endif

}  // namespace keel::kevent_sys
