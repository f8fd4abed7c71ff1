// Stacks that were too small, said by name.
#pragma once

namespace keel {

// From now on a fiber that touches the guard below its stack is named on stderr before the process dies as it
// would have died anyway: a handler for SIGSEGV writes the line, on a stack of its own, and then lets the
// handler or the default action that was there before have the signal. Without this nobody handles SIGSEGV.
// To be called once, before the schedulers run; again does nothing.
//
// Threads:  any; each thread that runs fibers gets a signal stack, unless it has one.
void report_fiber_overflows() noexcept;

namespace detail {

// Gives this thread a signal stack if overflows are to be reported.
void guard_this_thread() noexcept;

}  // namespace detail
}  // namespace keel
