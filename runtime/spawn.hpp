// Tasks that run beside their creator, and the handle by which one waits for them.
#pragma once

#include <keel/runtime/spawned.hpp>

#include <type_traits>
#include <utility>

namespace keel {

// What spawn() returns: the way to wait for a task, and to stop it. Dropping it lets the task run on; an
// exception of a dropped task goes to its scope, or to the runtime's unhandled-error handler. A resource;
// movable.
//
// Awaiting it gives the task's T, or throws what the task threw; once.
// Errors:    those of the task.
// Cancelled: the stop is passed on to the task, whose end is awaited.
// Threads:   the scheduler that spawned it.
template <class T>
class join_handle {
 public:
  explicit join_handle(detail::spawned_task<T>& task) noexcept : task_(&task) {}
  join_handle(join_handle&& other) noexcept : task_(std::exchange(other.task_, nullptr)) {}
  join_handle& operator=(join_handle&& other) noexcept {
    if (this != &other) {
      release();
      task_ = std::exchange(other.task_, nullptr);
    }
    return *this;
  }
  ~join_handle() { release(); }

  bool done() const noexcept { return task_ == nullptr || task_->done(); }
  void request_stop(stop_level level = stop_level::hard) noexcept {
    if (task_ != nullptr && !task_->done()) task_->request_stop(level);
  }

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    KEEL_ASSERT(task_ != nullptr && !task_->has_joiner(), "a join_handle is awaited once");
    KEEL_ASSERT(&context.home() == &task_->home(), "a task is joined on its own scheduler");
    if (task_->done()) return up.next(&up);
    stop_.child = task_;
    if (context.stopped()) {
      task_->request_stop(stop_level::hard);
    } else {
      context.add(stop_);
    }
    task_->set_joiner(up, context.node());
    context.home().note_wait(context.node(), "the end of a task");
    return std::noop_coroutine();
  }
  T take() {
    stop_.unlink();
    return task_->take();
  }

 private:
  struct stop_link : stop_callback {
    stop_link() noexcept
        : stop_callback([](stop_callback& self, stop_level level) noexcept {
            static_cast<stop_link&>(self).child->request_stop(level);
          }) {}
    spawned_base* child = nullptr;
  };

  void release() noexcept {
    if (task_ != nullptr) std::exchange(task_, nullptr)->abandon();
  }

  detail::spawned_task<T>* task_;
  stop_link stop_;
};

// A callable with the name under which its task is reported, and its priority. `text` must outlive the task:
// a literal.
template <class Fn>
struct named_callable {
  named_callable(const char* text, Fn callable) : name(text), fn(std::move(callable)) {}
  const char* name;
  Fn fn;
  priority urgency = priority::normal;
  bool inherits = true;  // the priority of whoever spawns it
};
template <class Fn>
named_callable<std::decay_t<Fn>> named(const char* text, Fn&& fn) {
  return {text, std::forward<Fn>(fn)};
}
// The same with a priority of its own: spawn(named("rebuild", priority::batch, fn), args...).
template <class Fn>
named_callable<std::decay_t<Fn>> named(const char* text, priority urgency, Fn&& fn) {
  named_callable<std::decay_t<Fn>> made(text, std::forward<Fn>(fn));
  made.urgency = urgency;
  made.inherits = false;
  return made;
}

namespace detail {

template <class Fn>
struct spawn_traits {
  using callable = Fn;
  static Fn&& unwrap(Fn& fn) noexcept { return static_cast<Fn&&>(fn); }
  static const char* name(const Fn&) noexcept { return nullptr; }
  static void describe(const Fn&, spawned_base& child, priority inherited) noexcept {
    child.set_priority(inherited);
  }
};
template <class F>
struct spawn_traits<named_callable<F>> {
  using callable = F;
  static F&& unwrap(named_callable<F>& named) noexcept { return static_cast<F&&>(named.fn); }
  static const char* name(const named_callable<F>& named) noexcept { return named.name; }
  static void describe(const named_callable<F>& named, spawned_base& child, priority inherited) noexcept {
    child.set_name(named.name);
    child.set_priority(named.inherits ? inherited : named.urgency);
  }
};

template <class Fn, class... Args>
auto spawn_into(task_group& group, Fn&& fn, Args&&... args) {
  using traits = spawn_traits<std::decay_t<Fn>>;
  using callable = typename traits::callable;
  using returned = std::invoke_result_t<callable&, std::unwrap_ref_decay_t<Args>...>;
  static_assert(is_task<returned>, "spawn takes a function that returns task<T>");
  using value = typename task_value<returned>::type;
  std::decay_t<Fn> own(std::forward<Fn>(fn));
  auto* child = new spawned_call<value, callable, std::decay_t<Args>...>(traits::unwrap(own),
                                                                         std::forward<Args>(args)...);
  traits::describe(own, *child, group.context().home().running().urgency);
  child->begin(group);
  return join_handle<value>(*child);
}

// The scheduler of this thread. Asserts that there is one.
scheduler& current_scheduler() noexcept;

}  // namespace detail

// Runs `fn(args...)`, which returns a task, beside the caller: it starts during the scheduler's next round,
// not inside this call. The callable and the arguments are stored with the task (std::ref for a reference).
// The task ends with the runtime at the latest; what should end earlier is spawned into a scope.
//
// Threads:  a scheduler's.
// Throws:   std::bad_alloc; what copying the arguments throws.
template <class Fn, class... Args>
auto spawn(Fn&& fn, Args&&... args) {
  return detail::spawn_into(detail::current_scheduler().tasks(), std::forward<Fn>(fn),
                            std::forward<Args>(args)...);
}

}  // namespace keel
