// One task for which several wait.
#pragma once

#include <keel/runtime/spawn.hpp>
#include <keel/runtime/wait_point.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <optional>

namespace keel {
namespace detail {

struct shared_waiter : list_hook {};

// What the copies of a shared_task share: who waits, and the task that runs beside them.
class shared_state_base : public recycled {
 public:
  shared_state_base() noexcept = default;
  shared_state_base(const shared_state_base&) = delete;
  shared_state_base& operator=(const shared_state_base&) = delete;

  void share() noexcept { ++shares_; }
  void release() noexcept {
    if (--shares_ == 0) delete this;
  }
  bool done() const noexcept { return done_; }

 protected:
  virtual ~shared_state_base() = default;
  virtual join_handle<void> spawn_runner(scheduler& home) = 0;
  virtual void fail(std::exception_ptr error) noexcept = 0;
  // The task has ended: everybody is told.
  void finish() noexcept;

 private:
  friend class shared_wait;
  void begin(scheduler& home) noexcept;

  intrusive_list<shared_waiter> waits_;
  std::optional<join_handle<void>> runner_;
  std::size_t shares_ = 1;  // copies, waits, and the task while it runs
  bool begun_ = false;
  bool done_ = false;
};

template <class T>
class shared_state final : public shared_state_base {
 public:
  explicit shared_state(task<T>&& what) noexcept : task_(std::move(what)) {}

  typename flattened<T>::type copy() const {
    if (slot_.failed()) std::rethrow_exception(slot_.error());
    if constexpr (std::is_void_v<T>) {
      return {};
    } else {
      return slot_.value();
    }
  }

 private:
  static task<> run(shared_state* state) {
    shared_state& me = *state;
    try {
      if constexpr (std::is_void_v<T>) {
        co_await std::move(me.task_);
        me.slot_.emplace();
      } else {
        T got = co_await std::move(me.task_);
        me.slot_.emplace(std::move(got));
      }
    } catch (...) {
      me.slot_.fail(std::current_exception());
    }
    me.task_.destroy_frame();
    me.finish();
  }
  join_handle<void> spawn_runner(scheduler& home) override {
    return spawn_into(home.tasks(), &run, this);
  }
  void fail(std::exception_ptr error) noexcept override { slot_.fail(std::move(error)); }

  task<T> task_;
  result_slot<T> slot_;
};

// One who waits. It keeps the state.
class shared_wait : public shared_waiter, private stop_callback, private wait_point {
 public:
  shared_wait(shared_wait&& other) noexcept
      : shared_waiter(),
        stop_callback(other),
        wait_point(other),
        state_(std::exchange(other.state_, nullptr)) {}
  ~shared_wait() {
    if (state_ != nullptr) state_->release();
  }

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;

 protected:
  explicit shared_wait(shared_state_base& state) noexcept;
  bool canceled() const noexcept { return canceled_; }
  shared_state_base& state() const noexcept { return *state_; }

 private:
  friend class shared_state_base;
  static void stopped(stop_callback& self, stop_level level) noexcept;
  void leave() noexcept;

  shared_state_base* state_;
  bool canceled_ = false;
};

}  // namespace detail

// A task whose result several want: the first who asks starts it, everybody gets a copy of what it gives. A
// value: copies are one task.
//
//     shared_task<result<config>> config(load("app.conf"));
//     auto mine = co_await config.get();
//
// It runs beside those who wait, under no stop or deadline of theirs. Who is stopped leaves alone; when the
// last one has left, the task is stopped, and who asks after that gets what it gives then.
//
// Lifetime: what the task refers to must live until it has ended.
// Threads:  one scheduler.
template <class T>
class shared_task {
 public:
  // Throws std::bad_alloc.
  explicit shared_task(task<T> what) : state_(new detail::shared_state<T>(std::move(what))) {}
  shared_task(const shared_task& other) noexcept : state_(other.state_) { state_->share(); }
  shared_task& operator=(shared_task other) noexcept {
    std::swap(state_, other.state_);
    return *this;
  }
  ~shared_task() { state_->release(); }

  bool done() const noexcept { return state_->done(); }

  class get_op : public detail::shared_wait {
   public:
    explicit get_op(detail::shared_state<T>& of) noexcept : shared_wait(of) {}
    typename detail::flattened<T>::type take() {
      if (canceled()) return failure(errc::operation_canceled, "wait for a shared task");
      return static_cast<detail::shared_state<T>&>(state()).copy();
    }
  };
  // Waits for its end. Gives result<T> for what gives T or result<T>; throws what the task threw, to each.
  //
  // Errors:    operation_canceled; the task's own.
  // Cancelled: at once; the task goes on while others wait.
  [[nodiscard]] get_op get() const noexcept { return get_op(*state_); }

 private:
  detail::shared_state<T>* state_;
};

}  // namespace keel
