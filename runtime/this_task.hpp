// Questions that a task asks about itself: co_await this_task::stopping().
#pragma once

#include <keel/runtime/stop_context.hpp>

#include <coroutine>

namespace keel::this_task {

// Answers at once, without a suspension.
template <class Answer, Answer (*Function)(stop_context&) noexcept>
struct question {
  stop_context* context = nullptr;

  Answer answer(stop_context& of) const noexcept { return Function(of); }
  bool await_ready() const noexcept { return true; }
  void await_suspend(std::coroutine_handle<>) const noexcept {}
  Answer await_resume() const noexcept { return Function(*context); }
};

namespace answers {
inline bool stopping(stop_context& context) noexcept {
  return context.stopped(stop_level::graceful);
}
inline stop_context* stop_context_of(stop_context& context) noexcept {
  return &context;
}
}  // namespace answers

// Whether the task was asked to stop, gracefully at least.
[[nodiscard]] inline auto stopping() noexcept {
  return question<bool, &answers::stopping>();
}

// Its stop context: for those who write awaitables.
[[nodiscard]] inline auto current_stop_context() noexcept {
  return question<stop_context*, &answers::stop_context_of>();
}

}  // namespace keel::this_task
