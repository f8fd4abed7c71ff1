// An engine that answers when the test says so, and where the test says so.
#pragma once

#include <keel/kevent_sys/engine.hpp>

namespace keel::test {

class hand_engine final : public kevent_sys::engine {
 public:
  explicit hand_engine(kevent_sys::event_sink& sink) noexcept : engine(sink) {}

  using engine::publish;
  void finish(kevent_sys::operation& op, int value) { publish(op, {.value = value, .flags = 0}); }

 private:
  void do_submit(kevent_sys::operation&) noexcept override {}
  void do_cancel(kevent_sys::operation&) noexcept override {}
  void do_poll(std::uint64_t) noexcept override {}
  void do_wake() noexcept override {}
  std::uint64_t do_now_ns() noexcept override { return 0; }
  int do_fd() const noexcept override { return -1; }
};

}  // namespace keel::test
