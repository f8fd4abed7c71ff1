// Received bytes in a buffer that belongs to the scheduler.
#pragma once

#include <keel/kevent_sys/buffer_pool.hpp>

namespace keel::net {

using kevent_sys::buffer_lease;

}  // namespace keel::net
