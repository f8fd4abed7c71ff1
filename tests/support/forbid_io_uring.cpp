// forbid_io_uring ERROR CALL PROGRAM [ARGUMENT...]
//
// Runs PROGRAM where CALL (setup, enter, register or all) of io_uring answers ERROR (EPERM, ENOSYS) or kills
// (KILL).

#include "support/forbid_io_uring.hpp"

#include <cerrno>
#include <cstdio>
#include <string_view>
#include <unistd.h>

int main(int argc, char** argv) {
  const std::string_view error = argc > 3 ? argv[1] : "";
  const std::string_view call = argc > 3 ? argv[2] : "";
  const bool known_error = error == "EPERM" || error == "ENOSYS" || error == "KILL";
  const bool known_call = call == "setup" || call == "enter" || call == "register" || call == "all";
  if (!known_error || !known_call) {
    std::fputs("usage: forbid_io_uring EPERM|ENOSYS|KILL setup|enter|register|all PROGRAM [ARGUMENT...]\n",
               stderr);
    return 2;
  }
  const bool all = call == "all";
  const keel::test::forbidden_calls calls{all || call == "setup", all || call == "enter",
                                          all || call == "register"};
  const int error_number = error == "KILL" ? 0 : error == "EPERM" ? EPERM : ENOSYS;
  if (!keel::test::forbid_io_uring(calls, error_number)) {
    std::perror("forbid_io_uring: this process may not have a seccomp filter");
    return 77;
  }
  ::execvp(argv[3], argv + 3);
  std::perror(argv[3]);
  return 127;
}
