// Private to kevent_sys: KEVENT_UNOTIFY.
#pragma once

#include "registration.hpp"

namespace keel::kevent_sys {

// Ready when the program says so. With ALWAYS_QUEUE it is from the start.
class user_event final : public registration {
 public:
  using registration::registration;

  verdict test(short) noexcept override { return has(KEVENT_REQ_ALWAYS_QUEUE) ? verdict::done() : verdict{}; }
};

}  // namespace keel::kevent_sys
