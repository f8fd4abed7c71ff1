// What when_all and when_any share: several awaitables that run at once and are joined.
#pragma once

#include <keel/runtime/awaitable.hpp>
#include <keel/runtime/result_slot.hpp>
#include <keel/runtime/scheduler.hpp>

#include <cstddef>

namespace keel::detail {

class join_point;

// One operand's place: how it is started, and where its end is told.
class branch_base : public waiter, public runnable {
 public:
  branch_base() noexcept : waiter(&ended), runnable(&begin) {}
  virtual bool succeeded() const noexcept = 0;

  join_point* join = nullptr;

 protected:
  ~branch_base() = default;
  virtual std::coroutine_handle<> launch(waiter& up, stop_context& context) noexcept = 0;
  virtual void collect() noexcept = 0;

 private:
  friend class join_point;
  static void begin(runnable& self) noexcept;
  static std::coroutine_handle<> ended(waiter* self) noexcept;

  task_node node_;
};

// Counts the branches that run; continues when the last one has ended.
class join_point {
 public:
  enum class policy : unsigned char { wait_for_all, stop_on_failure, stop_on_success };

  explicit join_point(policy p) noexcept : policy_(p) {}
  // The branches start in order, each during the scheduler's next round.
  std::coroutine_handle<> start(branch_base* const* branches, std::size_t count, waiter& up,
                                stop_context& outer) noexcept;
  stop_context& context() noexcept { return context_; }
  // The branch whose end stopped the others, or count if none did.
  std::size_t decisive() const noexcept { return decisive_; }

 private:
  friend class branch_base;
  std::coroutine_handle<> branch_ended(branch_base& branch) noexcept;

  policy policy_;
  stop_context context_;
  branch_base* const* branches_ = nullptr;
  std::size_t count_ = 0;
  std::size_t running_ = 0;
  std::size_t decisive_ = 0;
  waiter* up_ = nullptr;
};

template <awaitable A>
class branch final : public branch_base {
 public:
  using result_type = await_result<A>;

  explicit branch(A&& operand) noexcept : operand_(std::move(operand)) {}
  branch(branch&& other) noexcept : branch_base(), operand_(std::move(other.operand_)) {}

  bool succeeded() const noexcept override {
    if (slot.failed()) return false;
    if constexpr (is_result<result_type>) return slot.value().has_value();
    return true;
  }

  result_slot<result_type> slot;

 private:
  std::coroutine_handle<> launch(waiter& up, stop_context& context) noexcept override {
    return operand_.start(up, context);
  }
  void collect() noexcept override {
    try {
      if constexpr (std::is_void_v<result_type>) {
        operand_.take();
        slot.emplace();
      } else {
        slot.emplace(operand_.take());
      }
    } catch (...) {
      slot.fail(std::current_exception());
    }
  }

  A operand_;
};

}  // namespace keel::detail
