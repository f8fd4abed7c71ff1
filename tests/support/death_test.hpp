// CHECK_DEATH(expression, "text"): evaluating the expression aborts, and says the text on stderr.
#pragma once

#include <doctest/doctest.h>

#include <csignal>
#include <cstddef>
#include <cstdio>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace keel::test {

struct death {
  bool aborted = false;
  std::string said;
};

// Runs `action` in a child process. It is to be used while the test has one thread.
template <class Action>
death death_of(Action&& action) {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe(ends) == 0);
  // What is buffered would be written by the child, too.
  std::fflush(stdout);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    const struct rlimit no_core = {};
    ::setrlimit(RLIMIT_CORE, &no_core);
    // Doctest's own handler would report the abort that we hope for.
    ::signal(SIGABRT, SIG_DFL);
    // An exception must not lead back into the test program: there would be two of it.
    [&]() noexcept { action(); }();
    ::_exit(0);
  }

  ::close(ends[1]);
  death seen;
  char buffer[512];
  ssize_t n = 0;
  while ((n = ::read(ends[0], buffer, sizeof buffer)) > 0) seen.said.append(buffer, std::size_t(n));
  ::close(ends[0]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  seen.aborted = WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
  return seen;
}

}  // namespace keel::test

#define CHECK_DEATH(expression, text)                                                                       \
  do {                                                                                                      \
    const ::keel::test::death seen_death = ::keel::test::death_of([&] { static_cast<void>(expression); }); \
    CHECK_MESSAGE(seen_death.aborted, "did not abort: " #expression);                                       \
    CHECK_MESSAGE(seen_death.said.find(text) != std::string::npos, "it said: ", seen_death.said);           \
  } while (false)
