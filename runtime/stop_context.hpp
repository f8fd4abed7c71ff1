// Being asked to stop: a tree of contexts, each inherited by what is awaited under it.
#pragma once

#include <keel/base/intrusive_list.hpp>

#include <cstdint>

namespace keel {

class scheduler;
struct task_node;

// How urgently. Levels only rise.
enum class stop_level : std::uint8_t {
  none,
  graceful,  // take nothing new: waits for new work end (accept, signals, what stands in graceful(...))
  hard,      // end: every wait ends with operation_canceled
};

// Told once when its context reaches `threshold`. Part of whatever waits.
class stop_callback : public list_hook {
 public:
  using function = void (*)(stop_callback& self, stop_level level) noexcept;

  explicit stop_callback(function f) noexcept : on_stop(f) {}

  function on_stop;
  stop_level threshold = stop_level::hard;
};

// Whether the tasks under it were asked to stop, and whom to tell.
//
// Life cycle: made with its owner; attach()ed to a parent before use; detached or destroyed without
// callbacks.
// INVARIANT: level() is at least the parent's while attached.
// Thread safety: the scheduler's thread. Others send a message (runtime::request_stop,
// join_handle::request_stop).
class stop_context : private stop_callback {
 public:
  stop_context() noexcept : stop_callback(&parent_stopped) {}
  stop_context(const stop_context&) = delete;
  stop_context& operator=(const stop_context&) = delete;
  ~stop_context() { detach(); }

  // As the root of a tree.
  void attach(scheduler& home) noexcept;
  void attach(stop_context& parent) noexcept;
  // Beside `outer` instead of under it: no stop is passed on, and no deadline inherited.
  void attach_shielded(stop_context& outer) noexcept;
  void detach() noexcept { unlink(); }

  scheduler& home() const noexcept { return *home_; }
  // What runs under it. Inherited; a node sets itself.
  task_node& node() const noexcept { return *node_; }
  void set_node(task_node& node) noexcept { node_ = &node; }
  stop_level level() const noexcept { return level_; }
  bool stopped(stop_level at_least = stop_level::hard) const noexcept { return level_ >= at_least; }

  // The nearest deadline at which it will be stopped, of those around it: nanoseconds, as time_point counts
  // them. What is attached later inherits it.
  std::uint64_t deadline_ns() const noexcept { return deadline_ns_; }
  void narrow_deadline(std::uint64_t at_ns) noexcept {
    if (at_ns < deadline_ns_) deadline_ns_ = at_ns;
  }

  // Raises the level here and below, and tells the callbacks. They may register and unregister callbacks.
  void request_stop(stop_level level) noexcept;

  // Whether nobody is to be told.
  bool idle() const noexcept { return callbacks_.empty(); }

  // REQUIRES: !stopped(callback.threshold)
  void add(stop_callback& callback) noexcept { callbacks_.push_back(callback); }

 private:
  // The base is what ties a context to its parent.
  static void parent_stopped(stop_callback& self, stop_level level) noexcept;

  scheduler* home_ = nullptr;
  task_node* node_ = nullptr;
  stop_context* parent_ = nullptr;
  std::uint64_t deadline_ns_ = ~std::uint64_t{0};
  stop_level level_ = stop_level::none;
  intrusive_list<stop_callback> callbacks_;
};

}  // namespace keel
