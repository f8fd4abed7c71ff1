#include "process_watch.hpp"

#include <poll.h>

namespace keel::kevent_sys {
namespace {

ukevent key_of(std::uint32_t type) noexcept {
  ukevent key{};
  key.type = key_watch;
  key.id.raw_u64 = type;
  return key;
}

}  // namespace

process_watch::polling::polling(process_watch& of, int fd) noexcept
    : operation({.code = opcode::poll, .multishot = true, .fd = fd, .flags = POLLIN}, &answered), owner(of) {}

process_watch::process_watch(shared_queue& home, std::uint32_t type, int fd) noexcept
    : registration(home, key_of(type)), poll_(*this, fd) {}

process_watch* process_watch::of(shared_queue& home, std::uint32_t type) noexcept {
  return static_cast<process_watch*>(home.hidden().find(key_watch, type));
}

bool process_watch::begin() noexcept {
  if (!home().hidden().reserve()) return false;
  home().hidden().insert(*this);
  start();
  return true;
}

void process_watch::leave() noexcept {
  KEEL_ASSERT(users_ > 0);
  if (--users_ == 0) home().retire(*this);
}

void process_watch::stop() noexcept {
  ended_ = true;
  if (poll_.in_flight()) home().cancel(poll_);
}

void process_watch::answered(operation& self, answer a) noexcept {
  process_watch& watch = static_cast<polling&>(self).owner;
  if (watch.ended_) {
    if (!a.more()) watch.home().released(watch);
    return;
  }
  if (!a.more()) watch.start();
  watch.activity();
}

}  // namespace keel::kevent_sys
