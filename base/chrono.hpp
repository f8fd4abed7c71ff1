// Durations, without the price of <chrono>: calendars and clocks cost half a second per translation unit.
#pragma once

#if __has_include(<bits/chrono.h>)
#include <bits/chrono.h>
#else
#include <chrono>
#endif

namespace keel {

using nanoseconds = std::chrono::nanoseconds;
using milliseconds = std::chrono::milliseconds;
using seconds = std::chrono::seconds;

}  // namespace keel
