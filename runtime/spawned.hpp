// A task that runs by itself, as an object: what spawn() makes and join_handle holds.
#pragma once

#include <keel/runtime/scheduler.hpp>
#include <keel/runtime/task.hpp>

#include <tuple>
#include <type_traits>
#include <utility>

namespace keel {

class relocation;

// A task that runs by itself, whatever it gives.
//
// Life cycle: made by spawn() -> ready -> started in its scheduler's loop -> ended -> its frame and what was
// stored with it are destroyed, and only then is anybody told; the object with the result goes with the last
// of the two who hold it: the scheduler until the end, and the join_handle.
// Thread safety: its scheduler's thread.
class spawned_base : public detail::recycled, private runnable, private waiter {
 public:
  spawned_base() noexcept : runnable(&launched), waiter(&ended) { node_.task = this; }
  virtual ~spawned_base();

  void begin(task_group& group) noexcept;
  bool done() const noexcept { return done_; }
  const task_node& node() const noexcept { return node_; }
  const char* name() const noexcept { return node_.name; }
  // Before begin().
  void set_name(const char* name) noexcept { node_.name = name; }
  void set_priority(priority p) noexcept { node_.urgency = p; }
  stop_context& context() noexcept { return node_.context; }
  // Where it was spawned, and is joined; it may run elsewhere (resume_on).
  scheduler& home() const noexcept { return *home_; }
  void request_stop(stop_level level) noexcept;
  // It goes on with `up` on another scheduler. REQUIRES: it runs, under its own context
  void move_to(scheduler& to, waiter& up);

  void set_joiner(waiter& joiner, task_node& node) noexcept {
    joiner_ = &joiner;
    joiner_node_ = &node;
  }
  bool has_joiner() const noexcept { return joiner_ != nullptr; }
  // The handle goes; an error that it did not collect goes to the group.
  void abandon() noexcept;
  // The result was taken by a joiner.
  void note_joined() noexcept { seen_ = true; }
  // The scheduler is through with it.
  void burial() noexcept;

 protected:
  // Calls the function, starts its task. Exceptions of the call itself are the task's.
  virtual std::coroutine_handle<> launch(waiter& up) noexcept = 0;
  // Destroys the frame, the callable and the arguments.
  virtual void let_go() noexcept = 0;
  // How it failed: with an exception, with an error result, or with neither.
  virtual std::exception_ptr exception() noexcept = 0;
  virtual std::error_code error_result() noexcept = 0;

 private:
  static void launched(runnable& self) noexcept;
  static std::coroutine_handle<> ended(waiter* self) noexcept;
  void report_failure() noexcept;
  // What happens where it was spawned when it has ended; returns who waits for it.
  waiter* finish_at_home() noexcept;
  void share() noexcept { ++shares_; }
  void drop_share() noexcept;

  friend class scheduler;
  friend class relocation;

  task_node node_;
  task_group* group_ = nullptr;
  scheduler* home_ = nullptr;
  waiter* joiner_ = nullptr;
  task_node* joiner_node_ = nullptr;
  spawned_base* next_dead_ = nullptr;
  std::uint64_t id_at_home_ = 0;
  relocation* relocation_ = nullptr;  // once it has moved
  unsigned char shares_ = 2;
  bool done_ = false;
  bool handle_gone_ = false;
  bool seen_ = false;  // its failure, if any, was collected or reported
};

namespace detail {

template <class T>
class spawned_task : public spawned_base {
 public:
  T take() {
    note_joined();
    return slot().take();
  }

 protected:
  virtual result_slot<T>& slot() noexcept = 0;

  std::exception_ptr exception() noexcept final {
    return slot().failed() ? slot().error() : std::exception_ptr();
  }
  std::error_code error_result() noexcept final {
    if constexpr (is_result<T>) {
      if (slot().has_value()) return slot().value().error();
    }
    return {};
  }
};

// Stores the callable and its arguments: they outlive the coroutine that refers to them.
template <class T, class Fn, class... Args>
class spawned_call final : public spawned_task<T> {
 public:
  template <class F, class... As>
  explicit spawned_call(F&& fn, As&&... args)
      : call_(std::forward<F>(fn), std::forward<As>(args)...), failed_call_() {}
  ~spawned_call() override {
    spawned_call::let_go();
    if (launched_) {
      task_.~task();
    } else {
      failed_call_.~result_slot();
    }
  }

 private:
  std::coroutine_handle<> launch(waiter& up) noexcept override {
    try {
      task<T> made = call(std::index_sequence_for<Args...>());
      failed_call_.~result_slot();
      ::new (static_cast<void*>(&task_)) task<T>(std::move(made));
      launched_ = true;
    } catch (...) {
      failed_call_.fail(std::current_exception());
      return up.next(&up);
    }
    return task_.start(up, this->context());
  }
  void let_go() noexcept override {
    if (launched_) task_.destroy_frame();
    if (std::exchange(has_call_, false)) call_.~stored();
  }
  result_slot<T>& slot() noexcept override { return launched_ ? task_.slot() : failed_call_; }

  template <std::size_t... I>
  task<T> call(std::index_sequence<I...>) {
    // std::ref unwraps, everything else is moved into the call. Members are called as std::invoke would.
    return std::apply(call_.fn, std::tuple<unwrapped<Args>&&...>(
                                    static_cast<unwrapped<Args>&&>(std::get<I>(call_.args))...));
  }
  template <class A>
  using unwrapped =
      std::conditional_t<std::is_same_v<std::unwrap_reference_t<A>, A>, A, std::unwrap_reference_t<A>>;

  struct stored {
    template <class F, class... As>
    explicit stored(F&& f, As&&... as) : fn(std::forward<F>(f)), args(std::forward<As>(as)...) {}
    Fn fn;
    std::tuple<Args...> args;
  };
  // INVARIANT: call_ is alive when has_call_: until the task has ended.
  union {
    stored call_;
  };
  // INVARIANT: task_ is alive when launched_, failed_call_ when not.
  union {
    task<T> task_;
    result_slot<T> failed_call_;
  };
  bool launched_ = false;
  bool has_call_ = true;
};

template <class Task>
struct task_value;
template <class T>
struct task_value<task<T>> {
  using type = T;
};

}  // namespace detail

}  // namespace keel
