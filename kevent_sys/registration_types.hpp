// Private to kevent_sys: the types that kevent_ctl knows.
#pragma once

#include "registration.hpp"

namespace keel::kevent_sys {

// Whether ADD takes the type; the others are made by calls of their own.
bool may_be_added(std::uint32_t type) noexcept;

// The bits of `event` that mean something to the type.
std::uint32_t known_events(std::uint32_t type) noexcept;

// Null when memory is short. REQUIRES: may_be_added(asked.type)
registration* make_registration(shared_queue& home, const ukevent& asked) noexcept;

}  // namespace keel::kevent_sys
