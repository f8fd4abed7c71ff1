// What lies between two simulated descriptors.
#pragma once

#include <cstdint>

namespace keel::kevent_sys {

// A value.
struct sim_link {
  std::uint32_t capacity_bytes = 65536;  // bytes under way and not read, in each direction
  std::uint32_t capacity_datagrams = 64;
  std::uint64_t latency_ns = 0;  // from the sender to the receiver
  std::uint64_t jitter_ns = 0;   // datagrams: up to so much more, so that they overtake each other
  std::uint16_t loss = 0;        // datagrams: of 1,000
};

}  // namespace keel::kevent_sys
