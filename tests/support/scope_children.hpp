// Children for scopes, and what a scope throws.
#pragma once

#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>

#include <exception>
#include <stdexcept>
#include <string>

namespace keel::test {

inline task<> sleeper(duration d, int& ended) {
  static_cast<void>(co_await sleep_for(d));
  ++ended;
}
// Counts only what was not stopped.
inline task<> finisher(duration d, int& finished) {
  const auto slept = co_await sleep_for(d);
  if (slept) ++finished;
}
inline task<> throwing(duration d, const char* what) {
  static_cast<void>(co_await sleep_for(d));
  throw std::runtime_error(what);
}

// What co_await of a scope with this body throws.
template <class Body>
task<std::string> thrown_by(Body body) {
  try {
    co_await scope(body);
  } catch (const std::exception& e) {
    co_return e.what();
  }
  co_return "nothing";
}

}  // namespace keel::test
