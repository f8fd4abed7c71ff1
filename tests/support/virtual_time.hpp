// Runtimes whose clock is simulated: hours pass in no time, and everything happens in the same order each
// time.
#pragma once

#include <keel/kevent_sys/sim_engine.hpp>
#include <keel/runtime/run.hpp>

#include <utility>

namespace keel::test {

// The time of the scheduler whose task asks.
inline time_point now() { return scheduler::current()->now(); }

// As keel::run(main), in virtual time. Where nothing can ever happen any more the program aborts.
template <class T>
T run_simulated(task<T> main, runtime_options options = runtime_options()) {
  kevent_sys::sim_world world;
  options.factory = world.factory();
  return keel::run(std::move(main), options);
}

}  // namespace keel::test
