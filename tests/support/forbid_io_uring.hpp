// Makes io_uring's system calls fail, or kill, for the rest of this process and its children: as a container
// does.
#pragma once

#include <cstddef>
#include <cstdint>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <vector>

namespace keel::test {

struct forbidden_calls {
  bool setup = false;
  bool enter = false;
  bool registering = false;
};
inline constexpr forbidden_calls all_of_io_uring{true, true, true};

// `error_number`: what a forbidden call answers; 0 kills the process. False when the filter is refused.
inline bool forbid_io_uring(const forbidden_calls& what, int error_number) {
  const std::uint32_t action = error_number == 0
                                   ? SECCOMP_RET_KILL_PROCESS
                                   : SECCOMP_RET_ERRNO | static_cast<std::uint32_t>(error_number);
  std::vector<sock_filter> program{
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
  };
  const auto forbid = [&](bool wanted, long number) {
    if (!wanted) return;
    program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, static_cast<std::uint32_t>(number)});
    program.push_back({BPF_RET | BPF_K, 0, 0, action});
  };
  forbid(what.setup, SYS_io_uring_setup);
  forbid(what.enter, SYS_io_uring_enter);
  forbid(what.registering, SYS_io_uring_register);
  program.push_back({BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW});
  const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace keel::test
