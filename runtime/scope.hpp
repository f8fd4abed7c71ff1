// Structured concurrency: children end before their scope does.
#pragma once

#include <keel/runtime/closures.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/time.hpp>

#include <exception>
#include <optional>

namespace keel {

struct stop_options {
  duration grace{0};  // stop gracefully first, hard when this has passed
};

// A nursery. co_await scope(body) runs `body`, a callable that takes scope& and returns task<>, and ends when
// the body and every task spawned into the scope have ended.
//
// The first exception, of the body or of a child, stops the others and is thrown by the co_await after all
// have ended. An error *result* of a child is the child's own affair: it goes to whoever joins it, else to
// the runtime's error_handler.
//
// Cancelled: the stop is passed on to the body and the children; their ends are awaited.
// Lifetime:  the body is stored; what it and the children refer to must live until the co_await returns. The
//            body's own locals do not: they go when the body ends, before its children do.
// Threads:   the scheduler that awaits it; children run there, too.
class [[nodiscard]] scope final : public task_group, private waiter, private runnable {
 public:
  template <class Fn>
  requires(!std::is_same_v<std::remove_cvref_t<Fn>, scope>) explicit scope(Fn&& body)
      : waiter(&body_ended),
        runnable(&resumed),
        body_(new body_of<std::decay_t<Fn>>(std::forward<Fn>(body))) {
    KEEL_CHECK_CLOSURE(Fn);
  }
  scope(scope&& other) noexcept;
  ~scope() override;

  // Runs `fn(args...)` as a child; see keel::spawn.
  template <class Fn, class... Args>
  auto spawn(Fn&& fn, Args&&... args) {
    KEEL_ASSERT(up_ != nullptr, "children are spawned while the scope runs");
    return detail::spawn_into(*this, std::forward<Fn>(fn), std::forward<Args>(args)...);
  }

  // Asks the body and all children to stop; with a grace, gracefully first. May be called again: levels only
  // rise.
  void request_stop(stop_options options = stop_options()) noexcept;
  bool stopping() noexcept { return context_.stopped(stop_level::graceful); }

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  void take();

 private:
  struct body_base : detail::recycled {
    virtual ~body_base() = default;
    virtual task<> call(scope& self) = 0;
  };
  template <class Fn>
  struct body_of final : body_base {
    template <class F>
    explicit body_of(F&& f) : fn(std::forward<F>(f)) {}
    task<> call(scope& self) override { return fn(self); }
    Fn fn;
  };
  struct grace_timer : kevent_sys::timer {
    explicit grace_timer(scope& s) noexcept : timer(&grace_over), self(s) {}
    scope& self;
  };

  static std::coroutine_handle<> body_ended(waiter* self) noexcept;
  static void resumed(runnable& self) noexcept;
  static void grace_over(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  std::coroutine_handle<> finish() noexcept;
  void became_empty() noexcept override;
  void child_failed(spawned_base& child, std::exception_ptr error) noexcept override;
  bool fails_at_once() const noexcept override { return true; }
  void fail(std::exception_ptr error) noexcept;

  body_base* body_;
  result_slot<void> outcome_;
  grace_timer grace_{*this};
  waiter* up_ = nullptr;
  std::optional<task<>> running_body_;
  bool body_done_ = false;
};

}  // namespace keel
