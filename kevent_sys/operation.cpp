#include <keel/kevent_sys/operation.hpp>

namespace keel::kevent_sys {

const char* to_text(opcode code) noexcept {
  static constexpr const char* names[] = {
      "nop",  "wake",     "timer", "poll", "accept", "connect", "recv", "receive", "drain",
      "send", "sendfile", "open",  "read", "write",  "close",   "call", "futex",
  };
  static_assert(sizeof names / sizeof names[0] == static_cast<unsigned>(opcode::futex) + 1);
  return names[static_cast<unsigned>(code)];
}

}  // namespace keel::kevent_sys
