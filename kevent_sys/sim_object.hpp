// Private to kevent_sys: what stands behind a simulated descriptor.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/kevent_sys/engine.hpp>

#include <poll.h>
#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <vector>

namespace keel::kevent_sys {

// The bytes of one direction, counted by what operations were told: the sum does not depend on the order.
struct sim_audit {
  void note(std::uint64_t position, const_byte_span bytes) noexcept {
    for (const std::byte b : bytes) {
      sum += (++position * 0x9e3779b97f4a7c15) ^ (static_cast<std::uint64_t>(b) * 0xc2b2ae3d27d4eb4f);
    }
    count += bytes.size();
  }

  std::uint64_t count = 0;
  std::uint64_t sum = 0;
};

// What a request comes to at this moment.
struct sim_step {
  static sim_step block(std::uint64_t retry_ns = never) noexcept {
    return {.blocked = true, .retry_ns = retry_ns};
  }

  std::int32_t value = 0;
  bool blocked = false;
  std::uint64_t retry_ns = never;  // when time alone will have changed it
  sim_audit* audit = nullptr;      // of a transfer: where its bytes are counted once it is answered
  std::uint64_t position = 0;
  sim_audit counted = {};  // of bytes that are not in a buffer of the operation: the count, made already
};

// Told when it is worth trying again.
class sim_waiter {
 public:
  virtual void retry_at(std::uint64_t ns) noexcept = 0;

 protected:
  ~sim_waiter() = default;
};

// A socket, an end of a pipe, a listener, or an open file.
//
// Life cycle: made -> close(), when no descriptor names it and no operation works on it -> destroyed.
class sim_object {
 public:
  sim_object() = default;
  sim_object(const sim_object&) = delete;
  sim_object& operator=(const sim_object&) = delete;
  virtual ~sim_object() = default;

  virtual bool is_socket() const noexcept { return true; }
  // A transfer may be cut short without losing bytes.
  virtual bool is_stream() const noexcept { return true; }
  virtual sim_step receive(byte_span, std::uint32_t /*flags*/, std::uint64_t) { return {.value = -ENOTCONN}; }
  virtual sim_step send(const_byte_span, std::uint64_t) { return {.value = -ENOTCONN}; }
  virtual sim_step read_at(byte_span, std::uint64_t, std::uint64_t) { return {.value = -ESPIPE}; }
  virtual sim_step write_at(const_byte_span, std::uint64_t, std::uint64_t) { return {.value = -ESPIPE}; }

  // As poll(2) says it; and when time alone will change that.
  virtual std::uint32_t ready(std::uint64_t now_ns) = 0;
  virtual std::uint64_t next_change_ns(std::uint64_t) const noexcept { return never; }

  virtual void close(std::uint64_t) {}
  // 0 or a negative errno.
  virtual int shutdown_send(std::uint64_t) { return is_socket() ? -ENOTCONN : -ENOTSOCK; }
  // The connection is cut; the same, and an operation has told of it already.
  virtual void reset(std::uint64_t) {}
  virtual void fail(std::uint64_t now_ns) { reset(now_ns); }

  // How often something came, and how often there was room again: edges for multishot polls.
  std::uint64_t arrivals = 0;
  std::uint64_t openings = 0;
  std::uint64_t exclusive_served = 0;  // arrivals and openings that an exclusive poll has answered
  std::uint32_t users = 0;             // descriptors, and operations in flight

  void add(sim_waiter& who) { waiters_.push_back(&who); }
  void forget(sim_waiter& who) noexcept { std::erase(waiters_, &who); }
  void tell(std::uint64_t ns) noexcept {
    for (sim_waiter* who : waiters_) who->retry_at(ns);
  }

 private:
  std::vector<sim_waiter*> waiters_;
};

}  // namespace keel::kevent_sys
