// keel::run: a whole program, or a task, in one call.
#pragma once

#include <keel/runtime/runtime.hpp>

#include <concepts>
#include <type_traits>

namespace keel {

struct run_options {
  cpu_list cpus = 1;
  // SIGINT and SIGTERM stop the program: gracefully for `grace`, then hard; a second signal stops it hard at
  // once.
  bool stop_on_signals = false;
  duration grace{0};
  engine_choice engine = engine_choice::automatic;
  runtime_options more = {};  // everything else; its cpus and engine are not looked at
};

class signals;

namespace detail {

// The main tasks of one call of run(), one on each scheduler, and what they report.
class program {
 public:
  using main_function = task<> (*)(program* self, void* fn);

  program(const run_options& options, main_function main, void* fn);
  int run();

  // From the main task of a scheduler: how it ended.
  void main_ended(int exit_code) noexcept;
  void main_failed(std::exception_ptr error) noexcept;
  void main_failed(const failure& why) noexcept;

 private:
  static task<> stop_on_signals(program* self, signals* stop_signals);
  void fail(const char* text) noexcept;

  const run_options& options_;
  main_function main_;
  void* fn_;
  runtime runtime_;
  std::atomic<unsigned> mains_left_;
  std::atomic<int> exit_code_{0};
  std::atomic<bool> failed_{false};
};

// One scheduler's main: whatever fn's task gives becomes part of the exit code.
template <class Fn>
task<> main_task(program* self, void* fn) {
  using value = typename task_value<std::invoke_result_t<Fn&>>::type;
  static_assert(std::is_void_v<value> || std::is_same_v<value, int> || is_result<value>,
                "run() takes a function that returns task<>, task<result<T>> or task<int>");
  try {
    if constexpr (std::is_void_v<value>) {
      co_await (*static_cast<Fn*>(fn))();
      self->main_ended(0);
    } else if constexpr (is_result<value>) {
      auto ended = co_await (*static_cast<Fn*>(fn))();
      if (ended || ended.error() == errc::operation_canceled) {
        self->main_ended(0);
      } else {
        self->main_failed(ended.why());
      }
    } else {
      self->main_ended(co_await (*static_cast<Fn*>(fn))());
    }
  } catch (...) {
    self->main_failed(std::current_exception());
  }
}

// What run() does for a runtime that it turns itself.
void prepare(runtime& rt) noexcept;

template <class T>
task<> run_single(task<T> main, result_slot<T>* slot) {
  try {
    if constexpr (std::is_void_v<T>) {
      co_await std::move(main);
      slot->emplace();
    } else {
      slot->emplace(co_await std::move(main));
    }
  } catch (...) {
    slot->fail(std::current_exception());
  }
  // Whoever turns the scheduler's loop looks whether we have ended, and does not sleep before.
  scheduler::current()->queue().wake();
}

}  // namespace detail

// Calls `fn` on each CPU's scheduler and runs the tasks that it returns (task<>, task<result<T>> or
// task<int>). When they have ended, whatever else runs is stopped and awaited.
//
// Returns an exit code: 0, the largest that a task<int> gave, or 1 after the first failure, which is printed
// and stops the others. A main task that ends with operation_canceled has not failed.
// Throws:   std::system_error when no engine can be had, std::bad_alloc.
template <class Fn>
requires std::invocable < std::remove_cvref_t<Fn>
& > int run(const run_options& options, Fn&& fn) {
  using callable = std::remove_cvref_t<Fn>;
  if constexpr (std::is_function_v<callable>) {
    return run(options, static_cast<callable*>(fn));
  } else {
    detail::program program(options, &detail::main_task<callable>,
                            const_cast<void*>(static_cast<const void*>(&fn)));
    return program.run();
  }
}

// Runs `main` and what it spawns on a scheduler on this thread; returns what it gives, or throws what it
// threw. Tasks that are left when it has ended are stopped and awaited.
//
// Throws:   also std::system_error when no engine can be had, std::bad_alloc.
template <class T>
T run(task<T> main, const runtime_options& options = runtime_options()) {
  result_slot<T> slot;
  {
    runtime rt(options);
    detail::prepare(rt);
    auto handle = rt.spawn(named("main", &detail::run_single<T>), std::move(main), &slot);
    while (!handle.done()) rt.run_once(time_point::never());
  }
  return slot.take();
}

}  // namespace keel
