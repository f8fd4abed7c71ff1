#include "futex_events.hpp"

#include <cerrno>
#include <ctime>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace keel::kevent_sys {
namespace {

// The kernel looks at the word first: an address that is none is an error then, and no fault.
bool is_readable(std::uint32_t* word, std::uint32_t expected) noexcept {
  const timespec at_once{};
  const long answer = ::syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, expected, &at_once, nullptr, 0);
  return answer == 0 || errno != EFAULT;
}

}  // namespace

futex_event::waiting::waiting(futex_event& of) noexcept
    : operation({.code = opcode::futex}, &answered), owner(of) {}

std::uint32_t* futex_event::word() const noexcept {
  return reinterpret_cast<std::uint32_t*>(static_cast<std::uintptr_t>(asked_.id.raw_u64));
}

int futex_event::open() noexcept {
  const std::uint64_t address = asked_.id.raw_u64;
  if (address == 0 || address % alignof(std::uint32_t) != 0) return -EINVAL;
  if (!is_readable(word(), asked_.user[0])) return -EFAULT;
  return 0;
}

verdict futex_event::test(short) noexcept {
  const std::uint32_t is = __atomic_load_n(word(), __ATOMIC_ACQUIRE);
  return is != asked_.user[0] ? verdict::done(is) : verdict{};
}

void futex_event::start() noexcept {
  arm(asked_.user[0]);
}

void futex_event::arm(std::uint32_t expected) noexcept {
  if (ended_) return;
  wait_.asked.data = word();
  wait_.asked.offset = expected;
  home().submit(wait_);
}

void futex_event::stop() noexcept {
  ended_ = true;
  if (wait_.in_flight()) home().cancel(wait_);
}

void futex_event::answered(operation& self, answer a) noexcept {
  static_cast<waiting&>(self).owner.on_answer(a.value);
}

void futex_event::on_answer(int value) noexcept {
  if (ended_) {
    home().released(*this);
    return;
  }
  const std::uint32_t is = __atomic_load_n(word(), __ATOMIC_ACQUIRE);
  if (value == 0) {
    // Armed for the next token before this one is seen, or whoever acts on it could wake nobody.
    if (!one_shot()) arm(is);
    home().add_ready(*this, verdict::done(is));
  } else if (value == -EAGAIN) {
    // The word changed between our look and the kernel's. At ADD that is what was asked for; later, the wait
    // goes on with the new value.
    if (!armed_once_) {
      home().set_ready(*this, verdict::done(is));
    }
    if (armed_once_ || !one_shot()) arm(is);
  } else {
    home().set_ready(*this, verdict::failed(value));
  }
  armed_once_ = true;
}

}  // namespace keel::kevent_sys
