#include <keel/runtime/stop_context.hpp>

#include <keel/runtime/scheduler.hpp>

namespace keel {

void stop_context::attach(scheduler& home) noexcept {
  home_ = &home;
  node_ = &home.root();
}

void stop_context::attach_shielded(stop_context& outer) noexcept {
  KEEL_ASSERT(!linked(), "a stop context has one parent");
  home_ = outer.home_;
  node_ = outer.node_;
}

void stop_context::attach(stop_context& parent) noexcept {
  KEEL_ASSERT(!linked(), "a stop context has one parent");
  parent_ = &parent;
  home_ = parent.home_;
  node_ = parent.node_;
  level_ = parent.level_ > level_ ? parent.level_ : level_;
  narrow_deadline(parent.deadline_ns_);
  if (parent.level_ == stop_level::hard) return;
  threshold = parent.level_ == stop_level::none ? stop_level::graceful : stop_level::hard;
  parent.add(*this);
}

void stop_context::parent_stopped(stop_callback& self, stop_level level) noexcept {
  auto& context = static_cast<stop_context&>(self);
  // Told of the graceful level, it also wants to hear of the hard one.
  if (level == stop_level::graceful) {
    context.threshold = stop_level::hard;
    context.parent_->add(context);
  }
  context.request_stop(level);
}

void stop_context::request_stop(stop_level level) noexcept {
  if (level <= level_) return;
  level_ = level;
  // Callbacks may change the list, and may unregister one another: never hold on to a second one.
  intrusive_list<stop_callback> round;
  round.splice_back(callbacks_);
  while (!round.empty()) {
    stop_callback& callback = round.pop_front();
    // A callback may have raised the level further: then the rest hears of that.
    if (callback.threshold <= level_) {
      callback.on_stop(callback, level_);
    } else {
      callbacks_.push_back(callback);
    }
  }
}

}  // namespace keel
