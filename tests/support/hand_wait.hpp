// hand_wait: one wait, started and stopped by hand, so that grants and stops come in any order within a turn.
//
//     hand_wait wait(m.lock());
//     wait.start();              // as a co_await would
//     wait.stop();               // as the stop of its task would
//     co_await some_turns();     // now its waiter runs
//     wait.done(), wait.granted(), wait.answer()
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/scheduler.hpp>

#include <optional>

namespace keel::test {

// What is known of a wait whatever it is for.
class any_wait {
 public:
  virtual ~any_wait() = default;
  virtual void start() = 0;
  void stop() { context_.request_stop(stop_level::hard); }

  // The answer is there and the waiter has run.
  bool done() const { return done_; }
  bool granted() const { return done_ && granted_; }
  bool canceled() const { return done_ && !granted_; }
  // Lets go of what it was given.
  virtual void drop() = 0;

 protected:
  any_wait() { context_.attach(*scheduler::current()); }

  stop_context context_;
  bool done_ = false;
  bool granted_ = false;
};

template <class Op>
class hand_wait final : public any_wait, private waiter {
 public:
  using answer_type = decltype(std::declval<Op&>().take());

  explicit hand_wait(Op op) : waiter(&ended), op_(std::move(op)) {}
  hand_wait(hand_wait&&) = delete;

  void start() override { static_cast<void>(op_->start(*this, context_)); }
  void drop() override { answer_.reset(); }
  answer_type& answer() { return *answer_; }

 private:
  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto& me = *static_cast<hand_wait*>(self);
    KEEL_ASSERT(!me.done_, "a waiter was told twice");
    me.answer_.emplace(me.op_->take());
    // The awaiting frame goes on: what it awaited has gone.
    me.op_.reset();
    me.done_ = true;
    me.granted_ = me.answer_->has_value();
    if (!me.granted_) KEEL_ASSERT(me.answer_->error() == errc::operation_canceled);
    return std::noop_coroutine();
  }

  std::optional<Op> op_;
  std::optional<answer_type> answer_;
};

}  // namespace keel::test
