// Private to runtime: a spawned task that is not where it was spawned.
#pragma once

#include <keel/runtime/spawned.hpp>

#include <atomic>

namespace keel {

// What it takes to move a task, to stop it where it is, and to tell its home of its end. Made with the first
// move; part of the task.
//
// where_ and in_transit_ say who may touch the task: in_transit_, whoever delivers go_; else the scheduler
// where_. Both are changed by him who may touch it. The task's group, its handle and its joiner stay at home.
class relocation : public detail::recycled, private stop_callback {
 public:
  relocation(spawned_base& task, scheduler& home) noexcept;

  // Where it is: it goes to `to`, and continues with `up` there.
  void depart(scheduler& to, waiter& up) noexcept;
  // Where it is: it has ended, and nothing of it is left but the result.
  void ended() noexcept;
  // Home.
  void request_stop(stop_level level) noexcept;

 private:
  struct leg : message {
    leg(function f, relocation& r) noexcept : message(f), relocated(r) {}
    relocation& relocated;
  };
  static void parent_stopped(stop_callback& self, stop_level level) noexcept;
  static void deliver_go(message& self, scheduler& to) noexcept;
  static void deliver_stop(message& self, scheduler& to) noexcept;
  static void deliver_stop_returned(message& self, scheduler& to) noexcept;
  static void deliver_end(message& self, scheduler& to) noexcept;
  void listen() noexcept;

  spawned_base& task_;
  scheduler& home_;
  std::atomic<scheduler*> where_;
  std::atomic<bool> in_transit_{false};
  std::atomic<stop_level> wanted_{stop_level::none};  // written at home
  leg go_{&deliver_go, *this};
  leg stop_{&deliver_stop, *this};
  leg end_{&deliver_end, *this};
  waiter* up_ = nullptr;
  // Home.
  bool stop_is_out_ = false;
  stop_level sent_ = stop_level::none;
};

}  // namespace keel
