// Takes away from this process, for the rest of its life, what kernels after 6.1 know about processes.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>

namespace keel::test {

// Signals to groups by pidfd (6.9), and what a pidfd tells of a process that was reaped (6.15). False when
// the filter is refused.
inline bool behave_like_linux_6_1() {
  constexpr std::uint32_t to_group = 1u << 2;
  constexpr std::uint32_t get_information = 0xc040ff0b;
  // The low half of an argument: little-endian machines only.
  constexpr std::uint32_t second = offsetof(seccomp_data, args[1]);
  constexpr std::uint32_t fourth = offsetof(seccomp_data, args[3]);
  sock_filter program[] = {
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, offsetof(seccomp_data, nr)},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, SYS_pidfd_send_signal},
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, fourth},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 5, to_group},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | EINVAL},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 3, SYS_ioctl},
      {BPF_LD | BPF_W | BPF_ABS, 0, 0, second},
      {BPF_JMP | BPF_JEQ | BPF_K, 0, 1, get_information},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | ENOTTY},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
  };
  const sock_fprog filter{sizeof program / sizeof program[0], program};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

}  // namespace keel::test
