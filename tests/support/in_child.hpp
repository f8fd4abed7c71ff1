// in_child(action): what `action` returns as an exit code, and what it says on stderr, from a forked process.
#pragma once

#include <doctest/doctest.h>

#include <csignal>
#include <cstddef>
#include <string>
#include <sys/wait.h>
#include <unistd.h>

namespace keel::test {

struct child_end {
  int exit_code = -1;  // -1: it was killed
  int signal = 0;
  std::string said;
};

// It is to be used while the test has one thread.
template <class Action>
child_end in_child(Action&& action) {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    for (const int signal : {SIGABRT, SIGSEGV, SIGTERM}) ::signal(signal, SIG_DFL);
    // An exception must not lead back into the test program: there would be two of it.
    ::_exit([&]() noexcept { return action(); }());
  }

  ::close(ends[1]);
  child_end seen;
  char buffer[512];
  ssize_t n = 0;
  while ((n = ::read(ends[0], buffer, sizeof buffer)) > 0) seen.said.append(buffer, std::size_t(n));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  if (WIFEXITED(status)) seen.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) seen.signal = WTERMSIG(status);
  return seen;
}

}  // namespace keel::test
