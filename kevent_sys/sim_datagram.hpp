// Private to kevent_sys: simulated datagram sockets.
#pragma once

#include <keel/kevent_sys/sim_faults.hpp>
#include <keel/kevent_sys/sim_link.hpp>

#include "sim_object.hpp"

#include <map>
#include <string>

namespace keel::kevent_sys {

// One of two sockets that are connected to each other. A datagram that finds no room is lost, as are those
// that the link loses.
class sim_datagram_socket final : public sim_object {
 public:
  sim_datagram_socket(const sim_link& link, sim_random& random) : link_(link), random_(random) {}
  static void join(const std::shared_ptr<sim_datagram_socket>& a,
                   const std::shared_ptr<sim_datagram_socket>& b) {
    a->peer_ = b;
    b->peer_ = a;
  }

  bool is_stream() const noexcept override { return false; }
  sim_step receive(byte_span target, std::uint32_t flags, std::uint64_t now_ns) override;
  sim_step send(const_byte_span bytes, std::uint64_t now_ns) override;
  std::uint32_t ready(std::uint64_t now_ns) override;
  std::uint64_t next_change_ns(std::uint64_t now_ns) const noexcept override;
  void close(std::uint64_t now_ns) override;

 private:
  struct datagram {
    std::string bytes;
    bool counted;
  };

  const sim_link link_;
  sim_random& random_;
  std::weak_ptr<sim_datagram_socket> peer_;
  std::multimap<std::uint64_t, datagram> coming_;  // by the time of arrival
  bool refused_ = false;                           // a datagram met nobody: the next operation hears of it
};

}  // namespace keel::kevent_sys
