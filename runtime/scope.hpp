// Structured concurrency: children end before their scope does.
#pragma once

#include <keel/runtime/closures.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/time.hpp>
#include <keel/runtime/wait_point.hpp>

#include <exception>
#include <optional>

namespace keel {

struct stop_options {
  duration grace{0};  // stop gracefully first, hard when this has passed
};

struct scope_options {
  std::size_t children_max = ~std::size_t{0};  // for room(): how many live at a time
};

class scope;

namespace detail {

// Whoever waits for children of a scope to end: for room, or for those that there are.
struct scope_waiter : list_hook {};
class scope_wait : public scope_waiter, private stop_callback, private runnable, private wait_point {
 public:
  scope_wait(scope_wait&&) noexcept = default;

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;

 protected:
  enum class kind : unsigned char { room, join_all };

  scope_wait(scope& of, kind what) noexcept;
  result<void> take(const char* doing) noexcept;

 private:
  friend class keel::scope;
  static void stopped(stop_callback& self, stop_level level) noexcept;
  static void looked(runnable& self) noexcept;
  void look_soon() noexcept;
  void leave() noexcept;

  scope& of_;
  kind kind_;
  bool canceled_ = false;
  bool looks_soon_ = false;      // room: whether there is
  std::size_t left_ = 0;         // join_all: so many of them have not ended
  std::uint64_t newest_id_ = 0;  // join_all: the last of them
};

}  // namespace detail

// A nursery. co_await scope(body) runs `body`, a callable that takes scope& and returns task<>, and ends when
// the body and every task spawned into the scope have ended.
//
// The first exception, of the body or of a child, stops the others and is thrown by the co_await after all
// have ended. An error *result* of a child is the child's own affair: it goes to whoever joins it, else to
// the runtime's error_handler.
//
// How many children live is size(). scope(body, {.children_max = 100}) makes room() wait: backpressure.
//
// Cancelled: the stop is passed on to the body and the children; their ends are awaited.
// Lifetime:  the body is stored; what it and the children refer to must live until the co_await returns. The
//            body's own locals do not: they go when the body ends, before its children do.
// Threads:   the scheduler that awaits it; children run there, too.
class [[nodiscard]] scope final : public task_group, private waiter, private runnable {
 public:
  template <class Fn>
  requires(!std::is_same_v<std::remove_cvref_t<Fn>, scope>) explicit scope(
      Fn&& body, scope_options options = scope_options())
      : waiter(&body_ended),
        runnable(&resumed),
        options_(options),
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

  class room_op;
  class join_all_op;

  // Waits until fewer children live than children_max; whoever asked first has room first. A spawn() that
  // follows at once keeps the limit; spawn() itself does not look at it.
  //
  //     while (co_await children.room()) {              // and the others wait in the kernel's backlog
  //       auto peer = co_await listener.accept();
  //
  // Errors:    operation_canceled.
  // Cancelled: at a graceful stop already: nothing new is to begin.
  // Threads:   the scope's scheduler.
  [[nodiscard]] room_op room() noexcept;

  // Waits until the children that live now have ended, however; not for those that are spawned meanwhile.
  //
  // Errors:    operation_canceled.
  // Cancelled: at once; the children live on.
  // REQUIRES:  the scope's body awaits it: a child would wait for itself.
  [[nodiscard]] join_all_op join_all() noexcept;

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
  void child_ended(std::uint64_t id) noexcept override;
  bool has_room() const noexcept { return size() < options_.children_max; }
  detail::scope_wait* first_for_room() noexcept;
  void watch() noexcept { watched_ = !waits_.empty(); }
  void child_failed(spawned_base& child, std::exception_ptr error) noexcept override;
  bool fails_at_once() const noexcept override { return true; }
  void fail(std::exception_ptr error) noexcept;

  friend class detail::scope_wait;
  scope_options options_;
  body_base* body_;
  intrusive_list<detail::scope_waiter> waits_;
  result_slot<void> outcome_;
  grace_timer grace_{*this};
  waiter* up_ = nullptr;
  std::optional<task<>> running_body_;
  bool body_done_ = false;
};

// What room() returns.
class scope::room_op : public detail::scope_wait {
 public:
  explicit room_op(scope& of) noexcept : scope_wait(of, kind::room) {}
  result<void> take() noexcept { return scope_wait::take("wait for room in a scope"); }
};

// What join_all() returns.
class scope::join_all_op : public detail::scope_wait {
 public:
  explicit join_all_op(scope& of) noexcept : scope_wait(of, kind::join_all) {}
  result<void> take() noexcept { return scope_wait::take("wait for the children of a scope"); }
};

}  // namespace keel
