// Private to kevent_sys: a ring that is made, tried and thrown away.
#pragma once

#include <keel/kevent_sys/probe.hpp>

namespace keel::kevent_sys {

// Fills `report`: the three calls, and, as far as they pass, what goes through them.
void try_uring(uring_report& report) noexcept;

}  // namespace keel::kevent_sys
