#include <keel/kevent_sys/queue.hpp>

#include <algorithm>

namespace keel::kevent_sys {
namespace {

std::uint64_t saturating_add(std::uint64_t a, std::uint64_t b) noexcept {
  return a > never - b ? never : a + b;
}

}  // namespace

queue::queue(const queue_options& options) : sink_(options.ring_events) {
  const engine_factory& factory = options.factory;
  engine_ = factory.make != nullptr ? factory.make(sink_, factory.context)
                                    : make_engine(sink_, options.engine).value();
  now_ns_ = engine_->now_ns();
}

queue::~queue() {
  KEEL_ASSERT(idle(),
              "a queue was destroyed with operations in flight: cancel them and consume their last events");
  delete engine_;
}

void queue::begin(timer& t) noexcept {
  KEEL_ASSERT(t.state_ == operation::state::idle, "a timer was armed twice");
  t.state_ = operation::state::in_flight;
  ++t.generation_;
}

void queue::arm_at(timer& t, std::uint64_t deadline_ns) noexcept {
  begin(t);
  // The wheel may not have heard of the time that has passed: what is due goes with the next turn.
  wheel_.insert(t, deadline_ns <= now_ns_ ? 0 : deadline_ns);
}

void queue::arm_after(timer& t, std::uint64_t delay_ns) noexcept {
  begin(t);
  t.delay_ns_ = delay_ns;
  fresh_timers_.push_back(t);
}

bool queue::disarm(timer& t) noexcept {
  if (t.state_ == operation::state::idle) return false;
  if (t.state_ == operation::state::finished) {
    sink_.withdraw(t);
    return true;
  }
  static_cast<operation&>(t).unlink();
  wheel_.erase(t);
  t.state_ = operation::state::idle;
  return true;
}

// Their time began when the turn ended: with the first look at the clock since they were armed.
void queue::enter_wheel() noexcept {
  if (fresh_timers_.empty()) return;
  now_ns_ = engine_->now_ns();
  while (!fresh_timers_.empty()) {
    auto& t = static_cast<timer&>(fresh_timers_.pop_front());
    wheel_.insert(t, t.delay_ns_ == 0 ? 0 : saturating_add(now_ns_, t.delay_ns_));
  }
}

void queue::fire_timers() noexcept {
  intrusive_list<timer_node> due;
  wheel_.advance(now_ns_, due);
  while (!due.empty()) {
    auto& t = static_cast<timer&>(due.pop_front());
    sink_.publish(t, answer{0, 0});
  }
}

std::uint64_t queue::next_deadline_ns() noexcept {
  enter_wheel();
  return wheel_.next_ns();
}

std::uint32_t queue::wait(std::uint64_t deadline_ns) noexcept {
  KEEL_ASSERT(!consuming_, "wait() was called from inside consume()");
  enter_wheel();
  sink_.settle();
  engine_->poll(std::min(deadline_ns, wheel_.next_ns()));
  // One look at the clock per turn serves every timer and everybody who asks for now_ns().
  now_ns_ = engine_->now_ns();
  if (!wheel_.empty()) fire_timers();
  return sink_.waiting();
}

std::uint32_t queue::consume(std::uint32_t limit) noexcept {
  KEEL_ASSERT(!consuming_, "consume() was called from inside itself");
  consuming_ = true;
  const std::uint32_t events = std::min(sink_.waiting(), limit);
  for (std::uint32_t i = 0; i < events; ++i) sink_.consume_one();
  consuming_ = false;
  return events;
}

bool queue::idle() const noexcept {
  return engine_->in_flight() == 0 && sink_.empty() && wheel_.empty() && fresh_timers_.empty();
}

}  // namespace keel::kevent_sys
