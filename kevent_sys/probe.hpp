// What this machine offers to keel, found out by trying it.
#pragma once

#include <keel/kevent_sys/engine.hpp>

#include <cstdint>

namespace keel::kevent_sys {

// What a system call, or a whole request, answered when it was tried.
struct trial {
  bool made = false;
  int error_number = 0;

  bool passed() const noexcept { return made && error_number == 0; }
};

// A kind of request that keel makes of io_uring.
struct probed_request {
  const char* name = "";
  bool known = false;        // to this kernel
  const char* without = "";  // what its absence costs
};

struct uring_report {
  trial setup;
  trial registering;
  trial enter;  // a request that does nothing went there and back
  std::uint32_t entries = 0;
  std::uint32_t completions = 0;
  char setup_flags[160] = "";  // what was obtained: "SINGLE_ISSUER DEFER_TASKRUN"
  char features[256] = "";
  trial provided_buffers;
  trial multishot_accept;
  trial multishot_receive;
  trial multishot_read;

  static constexpr std::uint32_t requests_max = 24;
  probed_request requests[requests_max] = {};
  std::uint32_t request_count = 0;

  // The first of the three calls that was refused, or null: its name, and the likely cause.
  const char* refused_call() const noexcept;
  int refused_errno() const noexcept;
  const char* likely_cause() const noexcept;
};

// A value. Numbers that cannot be read are -1; limits that do not exist are `unlimited`.
struct machine_report {
  static constexpr std::int64_t unlimited = INT64_MAX;

  char kernel[80] = "";
  int uring_disabled = -1;            // sysctl kernel.io_uring_disabled
  int seccomp_mode = -1;              // of this process: 2 = a filter
  bool more_rights = false;           // than the user has who started this program
  std::int64_t memlock_bytes = -1;    // soft limit
  std::int64_t descriptors = -1;      // soft limit
  std::int64_t descriptors_max = -1;  // hard limit
  trial epoll_wait_ns;                // epoll_pwait2: time limits of less than a millisecond
  trial pidfd;
  trial futex_waitv;
  uring_report uring;  // without trials where epoll was asked for

  bool works = false;  // there is an engine
  char engine[16] = "";
  char reason[engine::reason_size] = "";
};

// Makes an engine as a queue would, then tries one by one what that uses. Where epoll is asked for, by the
// program, by KEEL_ENGINE or by the rights of the program, no call of io_uring is made: a sandbox may kill
// for it. Leaves nothing behind. Says on stderr what make_engine() says there. Throws std::bad_alloc.
machine_report probe_machine(engine_choice choice = engine_choice::automatic);

}  // namespace keel::kevent_sys
