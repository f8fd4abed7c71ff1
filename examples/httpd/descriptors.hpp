// How many clients fit into the process's limit of open files.
#pragma once

namespace httpd {

// Raises the soft limit of open files to the hard one, and divides: the clients that each CPU may serve at a
// time, at least one. `wanted` is for all CPUs together; 0 is as many as the limit allows.
unsigned connection_places(unsigned wanted, unsigned cpus) noexcept;

// The arithmetic alone: for a limit of so many descriptors, all CPUs together.
unsigned connections_within(unsigned long descriptors, unsigned cpus) noexcept;

}  // namespace httpd
