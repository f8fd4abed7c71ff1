// in_runtime(body): the test case as a task, with a limit after which it fails instead of hanging.
#pragma once

#include <doctest/doctest.h>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <ostream>
#include <random>
#include <string>

namespace keel::test {

inline task<> limited(task<> body) {
  const auto ended = co_await with_timeout(std::chrono::seconds(100), std::move(body));
  CHECK_MESSAGE(ended, "the test case took too long and was stopped");
}

// `body` is a callable that returns task<>; what it captures lives until its task has ended.
template <class Fn>
void in_runtime(Fn body, const runtime_options& options = runtime_options()) {
  keel::run(limited(body()), options);
}

// A sleep in a test that is not about stops: it ends early when the test case took too long.
inline task<> pause(duration d) { (void)co_await sleep_for(d); }

// Lets the other tasks of the scheduler run for some turns.
inline task<> some_turns(int turns = 4) {
  for (int i = 0; i < turns; ++i) co_await pause(duration(0));
}

// Bytes that are all different from their neighbours, and tell their position.
inline std::string pattern(std::size_t size_bytes, unsigned seed = 1) {
  std::mt19937 generate(seed);
  std::string bytes(size_bytes, '\0');
  for (char& byte : bytes) byte = static_cast<char>(generate());
  return bytes;
}

}  // namespace keel::test
