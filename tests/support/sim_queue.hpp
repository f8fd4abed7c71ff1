// A queue over a simulated world, and what tests of such do all the time.
#pragma once

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>
#include <keel/kevent_sys/sim_engine.hpp>

#include <cstdint>
#include <string>
#include <string_view>

#include "support/recorded_operation.hpp"

namespace keel::test {

inline constexpr std::uint64_t sim_ms = 1'000'000;

struct sim_queue {
  explicit sim_queue(const kevent_sys::sim_options& options = {}, std::uint32_t ring_events = 1024)
      : world(options), q({.ring_events = ring_events, .factory = world.factory()}) {}

  std::uint64_t now() { return q.fresh_now_ns(); }
  // One turn that does not wait.
  void turn() {
    q.wait(0);
    q.consume();
  }
  void run_for(std::uint64_t ns) {
    const std::uint64_t until_ns = now() + ns;
    turn();
    while (now() < until_ns) {
      q.wait(until_ns);
      q.consume();
    }
    turn();
  }
  void end(recorded& op) {
    q.cancel(op);
    REQUIRE(turn_until(q, [&] { return !op.in_flight(); }));
  }

  int send(int fd, std::string_view bytes) {
    return answer_of(q, {.code = kevent_sys::opcode::send,
                         .fd = fd,
                         .size_bytes = std::uint32_t(bytes.size()),
                         .data = bytes.data()});
  }
  // The bytes of one recv, or what it answered instead: "0", "-104".
  std::string recv(int fd, std::uint32_t most = 64, std::uint32_t flags = 0) {
    std::string bytes(most, '\0');
    const int n = answer_of(q, {.code = kevent_sys::opcode::recv,
                                .fd = fd,
                                .size_bytes = most,
                                .flags = flags,
                                .data = bytes.data()});
    return n > 0 ? bytes.substr(0, std::size_t(n)) : std::to_string(n);
  }
  int close(int fd) { return answer_of(q, {.code = kevent_sys::opcode::close, .fd = fd}); }
  // What poll(2) would say now; 0 when it would wait.
  int ready(int fd, std::uint32_t events) {
    recorded op({.code = kevent_sys::opcode::poll, .fd = fd, .flags = events});
    q.submit(op);
    turn();
    if (op.in_flight()) {
      end(op);
      return 0;
    }
    return op.value();
  }
  // The bytes of a receive's answer; gives the buffer back.
  std::string leased(kevent_sys::answer a) {
    REQUIRE(a.has_buffer());
    const kevent_sys::buffer_lease lease(q.buffers(), a.buffer(), std::uint32_t(a.value));
    return std::string(lease.text());
  }

  kevent_sys::sim_world world;
  kevent_sys::queue q;
};

}  // namespace keel::test
