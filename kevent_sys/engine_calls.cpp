#include "engine_calls.hpp"

#include <cerrno>
#include <new>

namespace keel::kevent_sys {

engine_calls::engine_calls(blocking_pool* shared, void (*wake)(void* context) noexcept, void* context,
                           blocking_queue::function perform) noexcept
    : pool_(shared) {
  queue_.perform = perform;
  queue_.wake = wake;
  queue_.context = context;
}

engine_calls::~engine_calls() {
  KEEL_ASSERT(out_ == 0, "an engine was destroyed with calls in flight");
  if (joined_) pool_->leave(queue_);
  if (pool_is_ours_) delete pool_;
}

std::int32_t engine_calls::call(operation& op) noexcept {
  KEEL_ASSERT(op.asked.code == opcode::call);
  const auto& what = *static_cast<const blocking_call*>(op.asked.data);
  return what.function(what.context);
}

bool engine_calls::have_pool() noexcept {
  if (joined_) return true;
  if (pool_ == nullptr) {
    try {
      pool_ = new blocking_pool;
    } catch (const std::bad_alloc&) {
      return false;
    }
    pool_is_ours_ = true;
  }
  pool_->join(queue_);
  joined_ = true;
  return true;
}

void engine_calls::submit(operation& op) noexcept {
  const int refused = have_pool() ? pool_->submit(queue_, op) : -ENOMEM;
  if (refused == 0) {
    ++out_;
  } else {
    refuse(op, refused);
  }
}

void engine_calls::refuse(operation& op, int error) noexcept {
  ++out_;
  op.step_ = blocking_queue::step_begun;
  op.late_answer_ = error;
  refused_.push_back(op);
}

bool engine_calls::take_back(operation& op) noexcept {
  if (!joined_ || !pool_->take_back(queue_, op)) return false;
  --out_;
  return true;
}

void engine_calls::take_finished(intrusive_list<operation>& ready) noexcept {
  ready.splice_back(refused_);
  if (queue_.news.load(std::memory_order_relaxed)) pool_->collect(queue_, ready);
}

}  // namespace keel::kevent_sys
