// Private to runtime: KEEL_DUMP_SIGNAL, the way to look into a program from outside.
#pragma once

#include <string_view>

namespace keel {

class runtime;

// The number of a signal from "USR1", "SIGUSR1" or "10"; 0 for what is none that can be caught.
int signal_number(std::string_view text) noexcept;

// With KEEL_DUMP_SIGNAL set: from now on `of` dumps itself to stderr at each signal of that name, while it
// runs. A value that is no signal is told of, and ignored. REQUIRES: the first scheduler's thread, or that
// nothing runs
void dump_at_signal(runtime& of) noexcept;

}  // namespace keel
