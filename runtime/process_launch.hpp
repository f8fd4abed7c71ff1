// Private to runtime: the start of a child process.
#pragma once

#include <keel/base/result.hpp>
#include <keel/base/unique_fd.hpp>
#include <keel/runtime/command.hpp>
#include <keel/runtime/process.hpp>

namespace keel {

struct launch_request {
  static constexpr int inherited = -1;
  static constexpr int as_output = -2;

  const command& what;
  int descriptors[3];  // of the child's 0, 1 and 2; or the constants
  process_group group;
  bool close_others;
};

struct launched {
  int pid;
  unique_fd pidfd;
};

// Returns when the program runs, or has failed to. Throws std::bad_alloc.
result<launched> launch(const launch_request& asked);

// Why `what` cannot be started, as a text that lives for ever.
failure cannot_spawn(const command& what, std::error_code why, const char* hint) noexcept;

}  // namespace keel
