// How threads that are not keel's reach a runtime, also one that may have ended.
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/result_slot.hpp>
#include <keel/runtime/runtime.hpp>
#include <keel/runtime/spawn.hpp>

#include <atomic>
#include <concepts>
#include <cstdint>
#include <tuple>
#include <type_traits>
#include <utility>

namespace keel {
namespace detail {

class door;

// Something that a handle sends.
struct errand : message {
  using message::message;
  bool counted = false;  // as a task, until it has been told
};

// Where a function may run there may still be no task begun: it would be stopped at once.
inline bool takes_functions(const scheduler& to) noexcept {
  return !to.ending();
}
inline bool takes_tasks(scheduler& to) noexcept {
  return !to.ending() && !to.tasks().context().stopped();
}

// Calls `Act` on the scheduler's thread, where it may throw, if the scheduler `takes` such.
template <class Act, auto* takes>
class posted final : public errand {
 public:
  template <class F>
  explicit posted(F&& act) : errand(&deliver_it), act_(std::forward<F>(act)) {}

 private:
  static void deliver_it(message& self, scheduler& to) noexcept {
    auto* me = static_cast<posted*>(&self);
    const bool counted = me->counted;
    try {
      if (takes(to)) me->act_();
    } catch (...) {
      to.owner().unhandled_exception(task_description("a posted function"), std::current_exception());
    }
    delete me;
    if (counted) to.owner().note_busy(-1);
  }

  Act act_;
};

// A call for whose end a thread waits: on that thread's stack.
class foreign_wait : public errand {
 public:
  using errand::errand;
  // The foreign thread.
  static void check_thread() noexcept;
  void wait() const noexcept;

 protected:
  // Its scheduler: *this is gone when this returns.
  void finish() noexcept;

 private:
  std::atomic<std::uint32_t> done_{0};
};

template <class T, class Fn, class... Args>
class foreign_call final : public foreign_wait {
 public:
  explicit foreign_call(Fn&& fn, Args&&... args)
      : foreign_wait(&deliver_it), fn_(std::forward<Fn>(fn)), args_(std::forward<Args>(args)...) {}

  using given = std::conditional_t<is_result<T>, T, result<T>>;
  given take() {
    if (slot_.empty()) return failure(errc::operation_canceled, "run on a runtime that ends");
    if constexpr (std::is_void_v<T>) {
      slot_.take();
      return {};
    } else {
      return slot_.take();
    }
  }

 private:
  static void deliver_it(message& self, scheduler& to) noexcept {
    auto& me = static_cast<foreign_call&>(self);
    const bool counted = me.counted;
    if (!takes_tasks(to)) {
      me.finish();
    } else {
      try {
        spawn_into(to.tasks(), &foreign_call::serve, &me);
      } catch (...) {
        me.slot_.fail(std::current_exception());
        me.finish();
      }
    }
    if (counted) to.owner().note_busy(-1);
  }
  static task<> serve(foreign_call* self) {
    try {
      if constexpr (std::is_void_v<T>) {
        co_await std::apply(std::forward<Fn>(self->fn_), std::move(self->args_));
        self->slot_.emplace();
      } else {
        self->slot_.emplace(co_await std::apply(std::forward<Fn>(self->fn_), std::move(self->args_)));
      }
    } catch (...) {
      self->slot_.fail(std::current_exception());
    }
    self->finish();
  }

  Fn&& fn_;
  std::tuple<Args&&...> args_;
  result_slot<T> slot_;
};

}  // namespace detail

// A way into one scheduler of a runtime, which it does not keep alive: once the runtime has ended, everything
// is refused. A value; as cheap to copy as a shared pointer.
//
// What was accepted is done in the order of the calls of one thread. Until a hard stop it counts as a task:
// run() does not end before. After a hard stop functions are still called, as tasks that end may wait for
// them, and no task is begun any more; what comes after the last task has ended is dropped.
//
// Thread safety: any thread, keel's own included, but run(). Several threads may use one handle.
class handle {
 public:
  // Takes the scheduler `index` of `rt`, which has not begun to end.
  explicit handle(runtime& rt, unsigned index = 0) noexcept;
  handle(const handle& other) noexcept;
  handle& operator=(const handle& other) noexcept;
  ~handle();

  // Calls `fn()` on the scheduler's thread, soon, between two tasks: it may touch what belongs to the
  // scheduler, spawn, and should not block. What it throws goes to runtime_options::on_exception.
  //
  // False: the runtime has ended, and `fn` will not be called. Throws std::bad_alloc.
  template <class Fn>
  requires std::invocable < std::decay_t<Fn>
  & > bool post(Fn&& fn) const {
    return post_act<&detail::takes_functions>(
        [own = std::decay_t<Fn>(std::forward<Fn>(fn))]() mutable { own(); });
  }

  // Spawns `fn(args...)`, which returns a task, as runtime::spawn() does, and drops the join_handle. As
  // post().
  template <class Fn, class... Args>
  bool spawn(Fn&& fn, Args&&... args) const {
    return post_act<&detail::takes_tasks>(
        [own = std::decay_t<Fn>(std::forward<Fn>(fn)),
         with = std::tuple<std::decay_t<Args>...>(std::forward<Args>(args)...)]() mutable {
          std::apply([&own](auto&... each) { keel::spawn(std::move(own), std::move(each)...); }, with);
        });
  }

  // Runs `fn(args...)`, which returns a task<T> or task<result<T>>, on the scheduler, and blocks the calling
  // thread until that has ended. Gives its result, or throws what it threw. For as long as nobody runs the
  // runtime, it blocks.
  //
  // Errors:   operation_canceled when the runtime has ended, or was stopped hard before the task has begun;
  //           those of the task.
  // Lifetime: nothing is copied: the caller waits.
  // REQUIRES: not called on the thread of a scheduler, which would wait for itself. (asserted)
  template <class Fn, class... Args>
  auto run(Fn&& fn, Args&&... args) const {
    using value = typename detail::task_value<std::invoke_result_t<Fn, Args...>>::type;
    using call = detail::foreign_call<value, Fn, Args...>;
    detail::foreign_wait::check_thread();
    call made(std::forward<Fn>(fn), std::forward<Args>(args)...);
    if (send(made)) made.wait();
    return made.take();
  }

  // Asks all tasks of the runtime to stop. False: it has ended.
  bool request_stop(stop_level level = stop_level::hard) const noexcept;

 private:
  template <auto* takes, class Act>
  bool post_act(Act&& act) const {
    auto* made = new detail::posted<Act, takes>(std::forward<Act>(act));
    if (send(*made)) return true;
    delete made;
    return false;
  }
  bool send(detail::errand& what) const noexcept;

  detail::door* door_;
  unsigned index_;
};

}  // namespace keel
