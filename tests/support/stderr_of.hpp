// stderr_of(action): what an action writes to the standard error stream of this process.
#pragma once

#include <doctest/doctest.h>

#include <cstdio>
#include <string>
#include <unistd.h>

namespace keel::test {

// Use it while nothing else writes there.
template <class Action>
std::string stderr_of(Action&& action) {
  std::FILE* file = std::tmpfile();
  REQUIRE(file != nullptr);
  std::fflush(stderr);
  const int before = ::dup(STDERR_FILENO);
  ::dup2(::fileno(file), STDERR_FILENO);
  action();
  std::fflush(stderr);
  ::dup2(before, STDERR_FILENO);
  ::close(before);

  std::string said;
  char buffer[512];
  std::rewind(file);
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, file)) > 0;) said.append(buffer, n);
  std::fclose(file);
  return said;
}

}  // namespace keel::test
