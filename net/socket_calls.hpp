// Private to net: the small system calls on sockets.
#pragma once

#include <keel/base/result.hpp>
#include <keel/net/endpoint.hpp>

namespace keel::net {

// errno as a failure of `doing`.
failure last_error(const char* doing) noexcept;
result<endpoint> local_endpoint(int fd) noexcept;
result<endpoint> peer_endpoint(int fd) noexcept;
result<void> set_option(int fd, int level, int name, int value) noexcept;

// Whoever waits for a free descriptor on this scheduler may try again.
void note_descriptor_freed() noexcept;

}  // namespace keel::net
