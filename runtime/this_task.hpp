// Questions that a task asks about itself: co_await this_task::stopping().
#pragma once

#include <keel/runtime/stop_context.hpp>
#include <keel/runtime/time.hpp>

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
inline time_point deadline(stop_context& context) noexcept {
  return time_point(context.deadline_ns());
}
inline stop_context* stop_context_of(stop_context& context) noexcept {
  return &context;
}
}  // namespace answers

// Whether the task was asked to stop, gracefully at least.
[[nodiscard]] inline auto stopping() noexcept {
  return question<bool, &answers::stopping>();
}

// The nearest deadline that stands around it (with_timeout, with_deadline), however far up; never() if none
// does. By then it will have been asked to stop: what cannot be done until then need not begin.
[[nodiscard]] inline auto deadline() noexcept {
  return question<time_point, &answers::deadline>();
}

// Its stop context: for those who write awaitables.
[[nodiscard]] inline auto current_stop_context() noexcept {
  return question<stop_context*, &answers::stop_context_of>();
}

}  // namespace keel::this_task
