// What is known of everything that runs by itself: who it is, where it stands, what it waits for.
#pragma once

#include <keel/runtime/runnable.hpp>
#include <keel/runtime/stop_context.hpp>

#include <cstdint>
#include <source_location>

namespace keel {

class spawned_base;

// A coroutine that has begun and not ended, as one step of what its task is doing. Part of its promise.
struct task_frame {
  task_frame* caller = nullptr;  // who awaits it, within the same node
  std::source_location awaits;   // its last co_await
};

struct run_statistics;

// A line of control on a scheduler: a spawned task, a branch of when_all or when_any, a fiber. It does one
// thing at a time, in its innermost frame.
//
// Life cycle: enrolled with a scheduler (scheduler::enroll), which lists it until it leaves.
// Thread safety: its scheduler's thread.
struct task_node : list_hook {
  task_node() noexcept = default;
  task_node(const task_node&) = delete;
  task_node& operator=(const task_node&) = delete;

  // A failure leaves `frame`, which is its innermost one.
  void note_failure(const task_frame& frame) noexcept;

  stop_context context;
  spawned_base* task = nullptr;  // whose node it is; null for a branch
  task_frame* innermost = nullptr;
  const char* name = nullptr;            // a literal, or null
  const char* waits_for = nullptr;       // a literal: what its last wait is for
  std::uint64_t since_ns = 0;            // when that began, by the clock of the turn
  std::uint64_t id = 0;                  // counts up on each scheduler, from 1
  std::uint64_t parent_id = 0;           // whoever spawned it; 0 if nobody
  run_statistics* statistics = nullptr;  // of its name; null until it is enrolled
  std::uint32_t canceled_waits = 0;      // that it began though it was stopped
  priority urgency = priority::normal;
  // Where its last failure came from, and which frame it has reached: null when it has left them all.
  std::source_location failed_at;
  std::source_location failed_call;
  const task_frame* failed_through = nullptr;
  bool ready = false;  // it has been woken, and has not run yet
};

}  // namespace keel
