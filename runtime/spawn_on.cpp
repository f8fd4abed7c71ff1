#include <keel/runtime/spawn_on.hpp>

#include <keel/runtime/runtime.hpp>

namespace keel {
namespace detail {
remote_call::remote_call(scheduler& home, scheduler& target) noexcept : home_(home), target_(target) {}

void remote_call::depart() noexcept {
  // Until it has come home no runtime may end: neither has a task that would say so.
  home_.owner().note_busy(1);
  target_.owner().note_busy(1);
  target_.note_arriving(1);
  target_.post(start_);
}

void remote_call::deliver_start(message& self, scheduler& to) noexcept {
  remote_call& call = static_cast<leg&>(self).call;
  to.note_arriving(-1);
  try {
    call.running_.emplace(call.launch(to.tasks()));
  } catch (...) {
    call.fail(std::current_exception());
    call.ended();
  }
}

void remote_call::ended() noexcept {
  // What is told to stop from here on has ended.
  running_.reset();
  const runtime::visit there(home_.owner());
  home_.post(end_);
}

void remote_call::deliver_end(message& self, scheduler&) noexcept {
  remote_call& call = static_cast<leg&>(self).call;
  call.done_ = true;
  {
    runtime& target = call.target_.owner();
    const runtime::visit there(target);
    target.note_busy(-1);
  }
  call.home_.owner().note_busy(-1);
  if (call.waiting_ != nullptr) {
    call.waiting_->wake();
  } else if (call.handle_gone_) {
    call.report_failure();
  }
  call.drop_share();
}

void remote_call::request_stop(stop_level level) noexcept {
  if (done_ || level <= requested_) return;
  requested_ = level;
  if (!stop_request_.raise(level)) return;
  shares_.fetch_add(1, std::memory_order_relaxed);
  target_.post(stop_);
}

void remote_call::deliver_stop(message& self, scheduler&) noexcept {
  remote_call& call = static_cast<leg&>(self).call;
  const stop_level level = call.stop_request_.open();
  if (call.running_) call.running_->request_stop(level);
  call.drop_share();
}

void remote_call::abandon() noexcept {
  handle_gone_ = true;
  if (done_) report_failure();
  drop_share();
}

void remote_call::report_failure() noexcept {
  if (std::exchange(seen_, true)) return;
  if (std::exception_ptr error = exception()) {
    home_.owner().unhandled_exception(task_description(name()), std::move(error));
  } else if (const std::error_code code = error_result(); code) {
    home_.owner().unhandled_error(task_description(name()), code);
  }
}

void remote_call::drop_share() noexcept {
  if (shares_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

scheduler& sibling(unsigned index) noexcept {
  runtime& here = current_scheduler().owner();
  KEEL_ASSERT(index < here.size(), "spawn_on() was given a number that no scheduler of this runtime has");
  return here.at(index);
}

}  // namespace detail

scheduler& least_loaded() noexcept {
  scheduler& here = detail::current_scheduler();
  runtime& all = here.owner();
  scheduler* best = &here;
  for (unsigned i = 0; i < all.size(); ++i)
    if (all.at(i).load() < best->load()) best = &all.at(i);
  return *best;
}

}  // namespace keel
