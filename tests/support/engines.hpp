// The engines of the kernel: what they promise is tested on each of them, by TEST_CASE_TEMPLATE with on_uring
// and on_epoll. Such a test begins by asking whether the engine is missing.
#pragma once

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <system_error>

#include "support/skip.hpp"

namespace keel::test {

template <kevent_sys::engine_choice Choice>
struct on_engine {
  static constexpr kevent_sys::engine_choice choice = Choice;

  static kevent_sys::queue_options options() { return options({}); }
  static kevent_sys::queue_options options(kevent_sys::engine_options engine) {
    engine.choice = Choice;
    kevent_sys::queue_options made;
    made.engine = engine;
    return made;
  }
};
using on_uring = on_engine<kevent_sys::engine_choice::uring>;
using on_epoll = on_engine<kevent_sys::engine_choice::epoll>;

// True, and a visible skip, where the engine cannot be had: io_uring may be forbidden.
template <class Engine>
bool missing() {
  static const bool found = [] {
    try {
      const kevent_sys::queue q(Engine::options());
      return true;
    } catch (const std::system_error&) {
      return false;
    }
  }();
  if (!found) skip("this engine cannot be had here");
  return !found;
}

}  // namespace keel::test

TYPE_TO_STRING_AS("uring", keel::test::on_uring);
TYPE_TO_STRING_AS("epoll", keel::test::on_epoll);
