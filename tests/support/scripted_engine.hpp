// An engine without a kernel: operations wait until the test answers them, and time stands still until it is
// moved.
#pragma once

#include <doctest/doctest.h>
#include <keel/kevent_sys/engine.hpp>
#include <keel/kevent_sys/queue.hpp>

#include <cerrno>
#include <cstdint>

namespace keel::test {

class scripted_engine final : public kevent_sys::engine {
 public:
  scripted_engine(kevent_sys::event_sink& sink, scripted_engine*& made) : engine(sink) {
    pool_ = new kevent_sys::buffer_pool(4, 64, unique_fd());
    pool_->attach(nullptr, nullptr);
    made = this;
  }
  ~scripted_engine() override { pool_->detach(); }

  // For runtime_options::factory; *made is the engine of the runtime's last scheduler.
  static kevent_sys::engine_factory factory(scripted_engine*& made) {
    return {[](kevent_sys::event_sink& sink, void* context) -> kevent_sys::engine* {
              return new scripted_engine(sink, *static_cast<scripted_engine**>(context));
            },
            &made};
  }

  // The operation of this kind that waits for an answer, or null.
  kevent_sys::operation* waiting(kevent_sys::opcode code) noexcept {
    if (operations_.empty()) return nullptr;
    kevent_sys::operation* op = &operations_.front();
    while (op != nullptr && op->asked.code != code) op = operations_.next(*op);
    return op;
  }
  void answer(kevent_sys::opcode code, int value, bool more = false) {
    kevent_sys::operation* op = waiting(code);
    REQUIRE(op != nullptr);
    if (!more) op->unlink();
    publish(*op, {value, more ? kevent_sys::answer::more_flag : 0});
  }
  void move_time(std::uint64_t ns) noexcept { now_ns_ += ns; }

 private:
  void do_submit(kevent_sys::operation& op) noexcept override { operations_.push_back(op); }
  void do_cancel(kevent_sys::operation& op) noexcept override {
    op.unlink();
    publish(op, {-ECANCELED, 0});
  }
  void do_poll(std::uint64_t deadline_ns) noexcept override {
    sink_.settle();
    if (woken_ && waiting(kevent_sys::opcode::wake) != nullptr) answer(kevent_sys::opcode::wake, 1, true);
    woken_ = false;
    // Whoever waits for ever waits for what the test has not scripted.
    KEEL_ASSERT(deadline_ns != kevent_sys::never || !sink_.empty(), "nothing is scripted, and all wait");
    if (deadline_ns > now_ns_ && sink_.empty()) now_ns_ = deadline_ns;
  }
  void do_wake() noexcept override { woken_ = true; }
  std::uint64_t do_now_ns() noexcept override { return now_ns_; }
  int do_fd() const noexcept override { return -1; }

  intrusive_list<kevent_sys::operation> operations_;
  std::uint64_t now_ns_ = 1'000'000'000;
  bool woken_ = false;
};

}  // namespace keel::test
