#include <keel/runtime/stop_source.hpp>

#include <keel/runtime/spawn.hpp>

namespace keel {
namespace detail {

void remote_stop_state::request_stop(stop_level level) noexcept {
  if (wanted.level() >= level || !wanted.raise(level)) return;
  shares.fetch_add(1, std::memory_order_relaxed);
  home.post(*this);
}

void remote_stop_state::arrived(message& self, scheduler&) noexcept {
  auto& me = static_cast<remote_stop_state&>(self);
  me.context.request_stop(me.wanted.open());
  me.release();
}

void remote_stop_state::release() noexcept {
  if (shares.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
}

second_stop::second_stop() noexcept : stop_callback(&source_stopped) {}

stop_context& second_stop::begin(stop_context& outer, stop_context& source) noexcept {
  KEEL_ASSERT(source_ == nullptr, "with_stop is awaited once");
  source_ = &source;
  context_.attach(outer);
  listen(source.level());
  return context_;
}

void second_stop::listen(stop_level heard) noexcept {
  if (heard != stop_level::hard) {
    threshold = heard == stop_level::none ? stop_level::graceful : stop_level::hard;
    source_->add(*this);
  }
  context_.request_stop(heard);
}

void second_stop::source_stopped(stop_callback& self, stop_level level) noexcept {
  static_cast<second_stop&>(self).listen(level);
}

void second_stop::end() noexcept {
  static_cast<stop_callback&>(*this).unlink();
  context_.detach();
}

}  // namespace detail

remote_stop_source::remote_stop_source()
    : state_(new detail::remote_stop_state(detail::current_scheduler())) {}

remote_stop_source::remote_stop_source(const remote_stop_source& other) noexcept : state_(other.state_) {
  state_->shares.fetch_add(1, std::memory_order_relaxed);
}

remote_stop_source& remote_stop_source::operator=(remote_stop_source other) noexcept {
  std::swap(state_, other.state_);
  return *this;
}

}  // namespace keel
