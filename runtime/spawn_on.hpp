// Tasks on another scheduler, awaited from this one.
#pragma once

#include <keel/runtime/merged_request.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/wait_point.hpp>

#include <atomic>
#include <optional>
#include <tuple>
#include <utility>

namespace keel {
namespace detail {

// A call that travels: its function to the target, its result home. Made at home; goes with the last of those
// who hold it: the handle, the journey, and a request to stop that is on its way.
//
// Thread safety: what is marked home or target is touched on that scheduler's thread only. Between the two
// there are messages: start_ and stop_ go out, end_ comes home.
class remote_call : public recycled {
 public:
  remote_call(scheduler& home, scheduler& target) noexcept;
  virtual ~remote_call() = default;

  // Home.
  void depart() noexcept;
  bool done() const noexcept { return done_; }
  bool awaited() const noexcept { return waiting_ != nullptr; }
  void await(wait_point& waiting) noexcept { waiting_ = &waiting; }
  void request_stop(stop_level level) noexcept;
  void abandon() noexcept;
  void note_joined() noexcept { seen_ = true; }
  scheduler& home() const noexcept { return home_; }

  // Target: the task has ended, and what belongs to it is gone.
  void ended() noexcept;

 protected:
  // Target: starts the task that ends with ended().
  virtual join_handle<void> launch(task_group& group) = 0;
  // Home: how it failed, once it has ended.
  virtual std::exception_ptr exception() noexcept = 0;
  virtual std::error_code error_result() noexcept = 0;
  virtual const char* name() const noexcept = 0;
  // Target: there is no memory for the task.
  virtual void fail(std::exception_ptr error) noexcept = 0;

 private:
  struct leg : message {
    leg(function f, remote_call& c) noexcept : message(f), call(c) {}
    remote_call& call;
  };
  static void deliver_start(message& self, scheduler& to) noexcept;
  static void deliver_stop(message& self, scheduler& to) noexcept;
  static void deliver_end(message& self, scheduler& to) noexcept;
  void report_failure() noexcept;
  void drop_share() noexcept;

  scheduler& home_;
  scheduler& target_;
  leg start_{&deliver_start, *this};
  leg stop_{&deliver_stop, *this};
  leg end_{&deliver_end, *this};
  std::atomic<std::uint32_t> shares_{2};
  merged_request<stop_level> stop_request_;
  // Home.
  wait_point* waiting_ = nullptr;
  stop_level requested_ = stop_level::none;
  bool done_ = false;
  bool handle_gone_ = false;
  bool seen_ = false;
  // Target: the running task, to stop it.
  std::optional<join_handle<void>> running_;
};

template <class T>
class remote_call_for : public remote_call {
 public:
  using remote_call::remote_call;
  T take() {
    note_joined();
    return slot_.take();
  }

 protected:
  std::exception_ptr exception() noexcept final {
    return slot_.failed() ? slot_.error() : std::exception_ptr();
  }
  std::error_code error_result() noexcept final {
    if constexpr (is_result<T>) {
      if (slot_.has_value()) return slot_.value().error();
    }
    return {};
  }
  void fail(std::exception_ptr error) noexcept final { slot_.fail(std::move(error)); }

  result_slot<T> slot_;
};

template <class T, class Fn, class... Args>
class remote_call_of final : public remote_call_for<T> {
 public:
  template <class F, class... As>
  remote_call_of(scheduler& home, scheduler& target, F&& fn, As&&... args)
      : remote_call_for<T>(home, target),
        call_(std::in_place, std::forward<F>(fn), std::forward<As>(args)...) {}

 private:
  using traits = spawn_traits<Fn>;
  using callable = typename traits::callable;

  static task<> run(remote_call_of* self) {
    try {
      if constexpr (std::is_void_v<T>) {
        co_await self->begin(std::index_sequence_for<Args...>());
        self->slot_.emplace();
      } else {
        self->slot_.emplace(co_await self->begin(std::index_sequence_for<Args...>()));
      }
    } catch (...) {
      self->slot_.fail(std::current_exception());
    }
    // Here, where it lived, and before anybody is told.
    self->call_.reset();
    self->ended();
  }
  template <std::size_t... I>
  task<T> begin(std::index_sequence<I...>) {
    return std::apply(
        traits::unwrap(std::get<0>(*call_)),
        std::tuple<unwrapped<Args>&&...>(static_cast<unwrapped<Args>&&>(std::get<I + 1>(*call_))...));
  }
  template <class A>
  using unwrapped =
      std::conditional_t<std::is_same_v<std::unwrap_reference_t<A>, A>, A, std::unwrap_reference_t<A>>;

  join_handle<void> launch(task_group& group) override {
    using runner = task<> (*)(remote_call_of*);
    auto* child = new spawned_call<void, runner, remote_call_of*>(&run, this);
    traits::describe(std::get<0>(*call_), *child, priority::normal);
    child->begin(group);
    return join_handle<void>(*child);
  }
  const char* name() const noexcept override { return name_; }

  std::optional<std::tuple<Fn, Args...>> call_;
  const char* name_ = traits::name(std::get<0>(*call_));
};

// Where spawn_on() finds the scheduler of a number: in the runtime of the scheduler that runs here.
scheduler& sibling(unsigned index) noexcept;

}  // namespace detail

// What spawn_on() returns: the way to wait, on the scheduler that called it, for a task on another one.
// Dropping it lets the task run on; an exception or an error that nobody collects goes to the runtime's
// handlers. A resource; movable.
//
// Awaiting it gives the task's T, or throws what the task threw; once.
// Errors:    those of the task.
// Cancelled: the stop is passed on to the task, whose end is awaited.
// Threads:   the scheduler that called spawn_on().
template <class T>
class remote_handle : private stop_callback {
 public:
  explicit remote_handle(detail::remote_call_for<T>& call) noexcept : stop_callback(&stopped), call_(&call) {}
  remote_handle(remote_handle&& other) noexcept
      : stop_callback(other), call_(std::exchange(other.call_, nullptr)), waiting_(other.waiting_) {}
  remote_handle& operator=(remote_handle&&) = delete;
  ~remote_handle() {
    if (call_ != nullptr) call_->abandon();
  }

  bool done() const noexcept { return call_ == nullptr || call_->done(); }
  void request_stop(stop_level level = stop_level::hard) noexcept {
    if (call_ != nullptr) call_->request_stop(level);
  }

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    KEEL_ASSERT(call_ != nullptr && !call_->awaited(), "a remote_handle is awaited once");
    KEEL_ASSERT(&context.home() == &call_->home(), "a remote_handle is awaited where spawn_on() was called");
    if (call_->done()) return up.next(&up);
    waiting_.begin(up, context, "a task on another scheduler");
    if (context.stopped()) {
      call_->request_stop(stop_level::hard);
    } else {
      context.add(*this);
    }
    call_->await(waiting_);
    return std::noop_coroutine();
  }
  T take() {
    static_cast<stop_callback&>(*this).unlink();
    return call_->take();
  }

 private:
  static void stopped(stop_callback& self, stop_level level) noexcept {
    static_cast<remote_handle&>(self).call_->request_stop(level);
  }

  detail::remote_call_for<T>* call_;
  wait_point waiting_;
};

// Runs `fn(args...)`, which returns a task, on the scheduler `where`. The callable and the arguments are
// moved there with the call, and end there; the result comes home. It keeps both runtimes running until it
// has.
//
// Threads:  a scheduler's.
// REQUIRES: the runtime of `where` exists until the task has ended.
// Throws:   std::bad_alloc; what copying the arguments throws.
template <class Fn, class... Args>
auto spawn_on(scheduler& where, Fn&& fn, Args&&... args) {
  using stored = std::decay_t<Fn>;
  using callable = typename detail::spawn_traits<stored>::callable;
  using returned = std::invoke_result_t<callable&, std::unwrap_ref_decay_t<Args>...>;
  static_assert(is_task<returned>, "spawn_on takes a function that returns task<T>");
  using value = typename detail::task_value<returned>::type;
  auto* call = new detail::remote_call_of<value, stored, std::decay_t<Args>...>(
      detail::current_scheduler(), where, std::forward<Fn>(fn), std::forward<Args>(args)...);
  call->depart();
  return remote_handle<value>(*call);
}
// The same on the scheduler of this number in the runtime that runs here.
template <class Fn, class... Args>
auto spawn_on(unsigned index, Fn&& fn, Args&&... args) {
  return spawn_on(detail::sibling(index), std::forward<Fn>(fn), std::forward<Args>(args)...);
}

// The scheduler of this runtime that has the fewest tasks: for new work that may run anywhere, as in
// spawn_on(least_loaded(), fn). Nothing that runs is moved.
scheduler& least_loaded() noexcept;

}  // namespace keel
