#include <keel/runtime/map_concurrent.hpp>

namespace keel::detail {

map_join::~map_join() {
  KEEL_ASSERT(running_ == 0, "map_concurrent was destroyed while its tasks run");
  while (workers_ != nullptr) delete std::exchange(workers_, workers_->next_);
}

std::coroutine_handle<> map_join::begin(waiter& up, stop_context& outer) noexcept {
  up_ = &up;
  context_.attach(outer);
  outer.home().note_wait(outer.node(), "map_concurrent");
  if (!exhausted()) add_worker();
  if (running_ != 0) return std::noop_coroutine();
  context_.detach();
  return up.next(&up);
}

// Each worker that has found an element makes the next one, so that there are no more of them than elements.
void map_join::add_worker() noexcept {
  map_worker* worker = nullptr;
  try {
    worker = make_worker();
  } catch (...) {
    fail(std::current_exception());
    return;
  }
  worker->next_ = std::exchange(workers_, worker);
  ++running_;
  task_node& node = worker->node_;
  node.context.attach(context_);
  node.urgency = context_.node().urgency;
  context_.home().enroll(node, context_.node());
  context_.home().wake(*worker, node);
}

std::coroutine_handle<> map_join::advance(map_worker& worker) noexcept {
  if (exhausted()) return worker_ended(worker);
  const std::coroutine_handle<> task = worker.take_next(worker, worker.node_.context);
  if (!task) return worker_ended(worker);
  if (running_ < limit_ && !exhausted()) add_worker();
  return task;
}

void map_worker::begin(runnable& self) noexcept {
  auto& me = static_cast<map_worker&>(self);
  scheduler& home = me.node_.context.home();
  home.begin_run(me.node_);
  resume(me.join_.advance(me));
  home.end_run();
}

// The next element has its turn after what is ready: a million that need no wait keep nobody waiting.
std::coroutine_handle<> map_worker::ended(waiter* self) noexcept {
  auto& me = *static_cast<map_worker*>(self);
  me.collect();
  if (me.join_.exhausted()) return me.join_.worker_ended(me);
  me.node_.context.home().wake(me, me.node_);
  return std::noop_coroutine();
}

std::coroutine_handle<> map_join::worker_ended(map_worker& worker) noexcept {
  worker.node_.context.detach();
  context_.home().leave(worker.node_);
  if (--running_ != 0) return std::noop_coroutine();
  context_.detach();
  context_.home().switch_to(context_.node());
  return up_->next(up_);
}

void map_join::fail(std::exception_ptr error) noexcept {
  if (!failed_) error_ = std::move(error);
  note_failure();
}

void map_join::note_failure() noexcept {
  failed_ = true;
  context_.request_stop(stop_level::hard);
}

}  // namespace keel::detail
