#include <keel/runtime/watchdog.hpp>

#include <keel/runtime/place.hpp>
#include <keel/runtime/runtime.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <ctime>
#include <mutex>
#include <thread>

namespace keel {
namespace {

constinit line_limit lines;

std::string after(const std::source_location& place) {
  const std::string text = describe(place);
  return text.empty() ? " before its first wait" : " after " + text;
}

void print(const std::string& text) noexcept {
  unsigned suppressed = 0;
  if (!lines.allows(suppressed)) return;
  if (suppressed == 0) {
    std::fprintf(stderr, "keel: %s\n", text.c_str());
  } else {
    std::fprintf(stderr, "keel: %s (%u more like this not shown)\n", text.c_str(), suppressed);
  }
}

}  // namespace

bool line_limit::allows(unsigned& suppressed) noexcept {
  constexpr std::uint64_t window_s = 4;
  constexpr std::uint64_t lines_max = 4;
  constexpr std::uint64_t counted = 8;  // as a power of two: room for the count
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::uint64_t window = (static_cast<std::uint64_t>(now.tv_sec) / window_s + 1) << counted;
  std::uint64_t before = window_.load(std::memory_order_relaxed);
  std::uint64_t then = 0;
  do {
    then = before >> counted == window >> counted ? before + 1 : window + 1;
    if (then - window > lines_max) {
      suppressed_.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
  } while (!window_.compare_exchange_weak(before, then, std::memory_order_relaxed));
  suppressed = suppressed_.exchange(0, std::memory_order_relaxed);
  return true;
}

void watchdog::report(unsigned scheduler, std::uint64_t ticks, bool over, const std::string& by) noexcept {
  const std::uint64_t ns = ticks_to_ns(ticks);
  const std::string text = "scheduler " + std::to_string(scheduler) + (over ? " was" : " has been") +
                           " blocked for " + std::to_string(ns / 1'000'000) + " ms by " + by;
  if (handler_ == nullptr) return print(text);
  handler_({.scheduler = scheduler,
            .lasted = std::chrono::nanoseconds(static_cast<std::int64_t>(ns)),
            .over = over,
            .text = text.c_str()});
}

void watchdog::ran_too_long(scheduler& blocked, std::uint64_t ticks) noexcept {
  const run_monitor::sight what = blocked.monitor().seen();
  const task_node& node = blocked.running();
  if (node.id == 0) return report(blocked.index(), ticks, true, "a callback or a message");
  const task_description task(node);
  std::string by = "the task " + task.title() + after(what.from);
  if (const std::string parents = task.spawned_by(); !parents.empty()) by += ", " + parents;
  report(blocked.index(), ticks, true, by);
}

void watchdog::look_around(const scheduler* from) noexcept {
  const std::uint64_t limit = ns_to_ticks(limit_ns_);
  for (unsigned i = 0; i < owner_.size(); ++i) {
    scheduler& other = owner_.at(i);
    if (&other == from) continue;
    const run_monitor::sight what = other.monitor().seen();
    // The clocks of two CPUs may differ a little: a run that has just begun may seem to begin in the future.
    const auto ticks = static_cast<std::int64_t>(ticks_now() - what.since_ticks);
    if (what.since_ticks == 0 || ticks < static_cast<std::int64_t>(limit)) continue;
    if (!other.monitor().seen_first(what.since_ticks)) continue;
    const std::string who = what.id == 0 ? "a callback or a message"
                                         : std::string("the task '") + what.name + "' #" +
                                               std::to_string(what.id) + after(what.from);
    report(i, static_cast<std::uint64_t>(ticks), false, who + ", which still runs");
  }
}

void watchdog::ignores_its_stop(const task_node& node) noexcept {
  const task_description task(node);
  std::string text = "the task " + task.title() + " goes on waiting although it was stopped: " +
                     "leave its loop when a wait fails with operation_canceled";
  if (const std::string place = task.place(); !place.empty()) text += "; at " + place;
  if (const std::string parents = task.spawned_by(); !parents.empty()) text += ", " + parents;
  print(text);
}

struct watchdog_thread::state {
  std::mutex mutex;
  std::condition_variable changed;
  bool ends = false;
  std::thread thread;
};

watchdog_thread::watchdog_thread(watchdog& dog) : state_(new state) {
  const auto step = std::chrono::nanoseconds(dog.limit_ns() / 2);
  try {
    state_->thread = std::thread([&dog, step, me = state_] {
      std::unique_lock lock(me->mutex);
      while (!me->changed.wait_for(lock, step, [me] { return me->ends; })) dog.look_around(nullptr);
    });
  } catch (...) {
    delete state_;
    throw;
  }
}

watchdog_thread::~watchdog_thread() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->ends = true;
  }
  state_->changed.notify_one();
  state_->thread.join();
  delete state_;
}

}  // namespace keel
