#include "aio_operations.hpp"

#include <unistd.h>
#include <cerrno>
#include <cstring>

namespace keel::kevent_sys {
namespace {

ukevent key_of(void* user) noexcept {
  ukevent key{};
  key.type = key_completion;
  key.id.raw_u64 = reinterpret_cast<std::uintptr_t>(user);
  key.event = KEVENT_MASK_ALL;
  key.req_flags = KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE;
  key.ptr = user;
  return key;
}

}  // namespace

aio_operation::working::working(aio_operation& of, const request& what) noexcept
    : operation(what, &answered), owner(of) {}

aio_operation::aio_operation(shared_queue& home, std::uint32_t type, const request& what, void* user) noexcept
    : registration(home, key_of(user)), work_(*this, what), type_(type) {}

void aio_operation::keep_address(const void* address, std::size_t bytes) noexcept {
  KEEL_ASSERT(bytes <= address_bytes_max);
  std::memcpy(address_, address, bytes);
  work_.asked.data = address_;
  work_.asked.size_bytes = static_cast<std::uint32_t>(bytes);
}

void aio_operation::stop() noexcept {
  ended_ = true;
  if (work_.in_flight()) home().cancel(work_);
  if (undelivered_ >= 0) ::close(undelivered_);
  undelivered_ = -1;
}

void aio_operation::answered(operation& self, answer a) noexcept {
  static_cast<working&>(self).owner.on_answer(a.value);
}

void aio_operation::on_answer(int value) noexcept {
  if (work_.asked.code == opcode::accept) undelivered_ = value;
  if (ended_) {
    // The queue ends, and nobody will hear of a connection.
    stop();
    home().released(*this);
    return;
  }
  // From now on there is nothing to cancel.
  home().hidden().erase(*this);
  home().set_ready(*this,
                   value < 0 ? verdict::failed(value) : verdict::done(static_cast<std::uint32_t>(value)));
}

void aio_operation::delivered(ukevent& out) noexcept {
  undelivered_ = -1;
  out.type = type_;
  out.id.raw[0] = static_cast<std::uint32_t>(work_.asked.fd);
  out.id.raw[1] = 0;
}

int aio_operation::cancel(shared_queue& home, void* user) noexcept {
  auto* found =
      static_cast<aio_operation*>(home.hidden().find(key_completion, reinterpret_cast<std::uintptr_t>(user)));
  if (found == nullptr) return -ENOENT;
  home.cancel(found->work_);
  return 0;
}

}  // namespace keel::kevent_sys
