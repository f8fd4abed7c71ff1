#include <keel/runtime/runtime.hpp>

#include <keel/kevent_sys/blocking_pool.hpp>
#include <keel/runtime/blocking.hpp>
#include <keel/runtime/merged_request.hpp>

#include "door.hpp"
#include "dump_signal.hpp"
#include "unhandled.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

namespace keel {
namespace detail {

// A request to stop on its way to one scheduler. Requests on the way are one request, of the highest level.
struct stop_request : message {
  stop_request() noexcept : message(&deliver_stop) {}

  static void deliver_stop(message& self, scheduler& to) noexcept {
    to.tasks().context().request_stop(static_cast<stop_request&>(self).merged.open());
  }

  merged_request<stop_level> merged;
};

struct shared_object {
  const void* key;
  void* object;
  void (*destroy)(void*);
};

// To the threads of run().
enum class run_order : int { wait, run, leave };

struct runtime_state {
  runtime_state(runtime& self, const runtime_options& o)
      : options(o),
        where(o.cpus.resolve()),
        dog(self, o.watchdog, o.on_blocked),
        calls({.threads_max = o.blocking_threads_max, .queue_max = o.blocking_calls_max}),
        entrance(*new door(self)) {}
  ~runtime_state() { entrance.let_go(); }

  runtime_options options;
  cpu_list::placement where;
  watchdog dog;
  const std::thread::id maker = std::this_thread::get_id();
  kevent_sys::blocking_pool
      calls;  // made on this thread, before any is pinned; threads start with the first call
  door& entrance;
  std::vector<std::unique_ptr<scheduler>> schedulers;
  std::unique_ptr<stop_request[]> stops;
  std::atomic<int> busy{0};
  std::atomic<bool> over{true};  // `busy` came to 0: every scheduler ends, whatever comes now
  std::atomic<int> visitors{0};
  std::atomic<unsigned> reaped{0};
  std::atomic<bool> running{false};
  std::atomic<run_order> order{run_order::wait};
  std::mutex mutex;
  std::vector<shared_object> shared;
};

}  // namespace detail

namespace {

kevent_sys::queue_options queue_options_of(const runtime_options& options) {
  kevent_sys::queue_options q;
  q.ring_events = options.ring_events;
  q.factory = options.factory;
  q.engine.choice = options.engine;
  q.engine.entries = options.entries;
  q.engine.spin_ns = static_cast<std::uint32_t>(std::min<std::uint64_t>(delay_ns(options.spin), 1'000'000));
  q.engine.buffers = options.buffers;
  q.engine.buffers_limit = options.buffers_limit;
  q.engine.buffer_bytes = options.buffer_bytes;
  return q;
}

}  // namespace

runtime::runtime(const runtime_options& options) {
  auto state = std::make_unique<detail::runtime_state>(*this, options);
  kevent_sys::queue_options queue = queue_options_of(options);
  queue.engine.pool = &state->calls;
  state->stops = std::make_unique<detail::stop_request[]>(state->where.count);
  for (unsigned i = 0; i < state->where.count; ++i)
    state->schedulers.push_back(std::make_unique<scheduler>(*this, i, queue, options.turn_events));
  for (auto& s : state->schedulers) {
    s->monitor().configure(
        options.measure_runs, state->dog.limit_ns(),
        [](void* self, std::uint64_t ticks) noexcept {
          auto& blocked = *static_cast<scheduler*>(self);
          blocked.owner().dog().ran_too_long(blocked, ticks);
        },
        s.get());
  }
  state_ = state.release();
}

runtime::~runtime() {
  // Tasks that end may wait for other threads to post something. From then on nobody is let in.
  for (auto& s : state_->schedulers) s->drain();
  state_->entrance.close();
  // Messages that answered the last ones.
  for (bool delivered = true; delivered;) {
    delivered = false;
    for (auto& s : state_->schedulers) delivered = s->deliver_rest() || delivered;
  }
  for (const detail::shared_object& one : state_->shared) one.destroy(one.object);
  // Their last message has been taken; they are about to leave.
  while (state_->visitors.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  state_->schedulers.clear();
  delete state_;
}

unsigned runtime::size() const noexcept {
  return state_->where.count;
}

scheduler& runtime::at(unsigned index) noexcept {
  KEEL_ASSERT(index < size());
  return *state_->schedulers[index];
}

void runtime::run_one(unsigned index) noexcept {
  const pinned_thread pin(state_->where.cpu[index]);
  scheduler& here = at(index);
  here.run_until([](void* state) { return static_cast<detail::runtime_state*>(state)->over.load(); }, state_);
  here.reap();
  // Until all have reaped they may have something to tell each other.
  if (state_->reaped.fetch_add(1) + 1 == size())
    for (auto& s : state_->schedulers) s->queue().wake();
  here.run_until(
      [](void* state) {
        const auto& s = *static_cast<detail::runtime_state*>(state);
        return s.reaped.load() == s.schedulers.size();
      },
      state_);
  here.drain();
}

void runtime::run() {
  KEEL_ASSERT(!state_->running.exchange(true), "run() was called while the runtime runs");
  using detail::run_order;
  dump_at_signal(*this);
  state_->reaped = 0;
  state_->order = run_order::wait;
  const auto give = [this](run_order order) {
    state_->order = order;
    state_->order.notify_all();
  };
  state_->over = false;
  if (state_->busy.load() == 0) state_->over = true;
  std::vector<std::thread> threads;
  std::optional<watchdog_thread> looks;
  try {
    if (state_->options.watchdog_thread && state_->dog.limit_ns() != 0) looks.emplace(state_->dog);
    for (unsigned i = 1; i < size(); ++i) {
      threads.emplace_back([this, i] {
        state_->order.wait(run_order::wait);
        if (state_->order == run_order::run) run_one(i);
      });
    }
  } catch (...) {
    // Nothing has run yet: tasks of one scheduler may count on another.
    give(run_order::leave);
    for (std::thread& t : threads) t.join();
    state_->running = false;
    throw;
  }
  give(run_order::run);
  run_one(0);
  for (std::thread& t : threads) t.join();
  state_->running = false;
}

void runtime::run_once(time_point deadline) {
  KEEL_ASSERT(size() == 1, "run_once() is for a runtime with one scheduler");
  at(0).turn_for_host(deadline);
}

int runtime::fd() {
  KEEL_ASSERT(size() == 1,
              "fd() is for a runtime with one scheduler: the others run on threads of their own");
  return at(0).fd();
}

void runtime::request_stop(stop_level level) noexcept {
  for (unsigned i = 0; i < size(); ++i) {
    detail::stop_request& request = state_->stops[i];
    if (request.merged.raise(level)) at(i).post(request);
  }
}

detail::door& runtime::entrance() noexcept { return state_->entrance; }

bool runtime::note_errand(unsigned index) noexcept {
  if (state_->stops[index].merged.level() == stop_level::hard) return false;
  note_busy(1);
  return true;
}

blocking_counters runtime::blocking_counters() const noexcept {
  const kevent_sys::blocking_pool_counters now = state_->calls.counters();
  return {now.threads, now.idle, now.queued, now.running, now.completed, now.refused};
}

void* runtime::local(const void* key, void* (*make)(), void (*destroy)(void*)) {
  const std::lock_guard lock(state_->mutex);
  for (const detail::shared_object& one : state_->shared)
    if (one.key == key) return one.object;
  state_->shared.push_back({key, make(), destroy});
  return state_->shared.back().object;
}

void runtime::unhandled_exception(const task_description& task, std::exception_ptr error) noexcept {
  const exception_handler handler = state_->options.on_exception;
  (handler != nullptr ? handler : &print_and_terminate)(task, std::move(error));
}

void runtime::unhandled_error(const task_description& task, std::error_code error) noexcept {
  // Being stopped is no failure.
  if (error == errc::operation_canceled) return;
  const error_handler handler = state_->options.on_error;
  (handler != nullptr ? handler : &print_rate_limited)(task, error);
}

runtime::visit::visit(runtime& other) noexcept : visited_(*other.state_) {
  visited_.visitors.fetch_add(1, std::memory_order_relaxed);
}
runtime::visit::~visit() {
  visited_.visitors.fetch_sub(1, std::memory_order_release);
}

bool runtime::rests_here() const noexcept {
  return !state_->running.load() && std::this_thread::get_id() == state_->maker;
}

watchdog& runtime::dog() noexcept {
  return state_->dog;
}

void runtime::note_busy(int change) noexcept {
  if (state_->busy.fetch_add(change) + change != 0) return;
  state_->over = true;
  for (auto& s : state_->schedulers) s->queue().wake();
}

}  // namespace keel
