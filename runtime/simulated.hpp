// Private to runtime: what only the kernel has is not to be awaited in a simulated world.
#pragma once

#include <keel/runtime/scheduler.hpp>

#include <string_view>

namespace keel {

// Whether nothing that the kernel does would ever be an event here.
inline bool is_simulated(const scheduler& s) noexcept {
  return std::string_view(s.engine_info().name) == "sim";
}

}  // namespace keel
