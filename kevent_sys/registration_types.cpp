#include "registration_types.hpp"

#include "futex_events.hpp"
#include "inode_events.hpp"
#include "process_events.hpp"
#include "readiness_events.hpp"
#include "signal_events.hpp"
#include "timer_events.hpp"
#include "user_events.hpp"

#include <new>

namespace keel::kevent_sys {
namespace {

using maker = registration* (*)(shared_queue& home, const ukevent& asked) noexcept;

template <class Type>
registration* make(shared_queue& home, const ukevent& asked) noexcept {
  return new (std::nothrow) Type(home, asked);
}

struct type_traits {
  std::uint32_t events = 0;
  maker made_by = nullptr;
};

constexpr std::uint32_t socket_events = KEVENT_SOCKET_RECV | KEVENT_SOCKET_ACCEPT | KEVENT_SOCKET_SEND;
constexpr std::uint32_t pipe_events = KEVENT_SOCKET_RECV | KEVENT_SOCKET_SEND;
constexpr std::uint32_t inode_events = KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE;
constexpr std::uint32_t poll_events = 0x37ff;

// By type.
constexpr type_traits types[KEVENT_MAX] = {
    /* SOCKET */ {socket_events, &make<socket_event>},
    /* INODE */ {inode_events, &make<inode_event>},
    /* TIMER */ {KEVENT_TIMER_FIRED, &make<timer_event>},
    /* POLL */ {poll_events, &make<poll_event>},
    /* NAIO */ {},
    /* AIO */ {},
    /* PIPE */ {pipe_events, &make<pipe_event>},
    /* SIGNAL */ {KEVENT_SIGNAL_DELIVERY, &make<signal_event>},
    /* POSIX_TIMER */ {},
    /* UNOTIFY */ {KEVENT_MASK_ALL, &make<user_event>},
    /* PROC */ {KEVENT_PROC_EXIT, &make<process_event>},
    /* FUTEX */ {KEVENT_FUTEX_WAKE, &make<futex_event>},
};

}  // namespace

bool may_be_added(std::uint32_t type) noexcept {
  return type < KEVENT_MAX && types[type].made_by != nullptr;
}

std::uint32_t known_events(std::uint32_t type) noexcept {
  return type < KEVENT_MAX ? types[type].events : 0;
}

registration* make_registration(shared_queue& home, const ukevent& asked) noexcept {
  KEEL_ASSERT(may_be_added(asked.type));
  return types[asked.type].made_by(home, asked);
}

}  // namespace keel::kevent_sys
