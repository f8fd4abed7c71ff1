// Stops that a program makes itself: a handle that stops whatever was put under it.
#pragma once

#include <keel/runtime/awaitable.hpp>
#include <keel/runtime/frame_allocator.hpp>
#include <keel/runtime/merged_request.hpp>
#include <keel/runtime/scheduler.hpp>

#include <atomic>

namespace keel {

class stop_source;
class remote_stop_source;

// Refers to a stop_source: for those who may look and listen, and not stop. A value.
//
// Lifetime: the source outlives it.
class stop_token {
 public:
  stop_token(stop_source& source) noexcept;
  stop_token(remote_stop_source& source) noexcept;

  bool stopped(stop_level at_least = stop_level::hard) const noexcept { return context_->stopped(at_least); }
  stop_context& context() const noexcept { return *context_; }

 private:
  stop_context* context_;
};

// Stops what runs under it: with_stop(source, ...). A resource; not movable.
//
// Life cycle: made anywhere -> destroyed when nothing runs under it any more (asserted).
// Thread safety: one scheduler's thread. From others: remote_stop_source.
class stop_source {
 public:
  stop_source() noexcept = default;
  stop_source(const stop_source&) = delete;
  stop_source& operator=(const stop_source&) = delete;
  ~stop_source() {
    KEEL_ASSERT(context_.idle(), "a stop_source was destroyed while something runs under it");
  }

  // Levels only rise. What runs under it hears of it now, and runs later.
  void request_stop(stop_level level = stop_level::hard) noexcept { context_.request_stop(level); }
  bool stopped(stop_level at_least = stop_level::hard) const noexcept { return context_.stopped(at_least); }
  stop_token token() noexcept { return *this; }

 private:
  friend class stop_token;
  stop_context context_;
};

namespace detail {

// What the copies of a remote_stop_source share. It is its own message: posted once at a time.
struct remote_stop_state : recycled, message {
  explicit remote_stop_state(scheduler& to) noexcept : message(&arrived), home(to) {}
  void request_stop(stop_level level) noexcept;
  void release() noexcept;

  scheduler& home;
  stop_context context;
  std::atomic<std::uint32_t> shares{1};  // the copies, and a message under way
  merged_request<stop_level> wanted;

 private:
  static void arrived(message& self, scheduler& to) noexcept;
};

// A context under two others: the one around it, and a source's.
class second_stop : private stop_callback {
 public:
  second_stop() noexcept;
  second_stop(second_stop&&) noexcept : second_stop() {}
  stop_context& begin(stop_context& outer, stop_context& source) noexcept;
  void end() noexcept;

 private:
  static void source_stopped(stop_callback& self, stop_level level) noexcept;
  void listen(stop_level heard) noexcept;

  stop_context context_;
  stop_context* source_ = nullptr;
};

}  // namespace detail

// A stop_source that other threads may use: a request is a message to its scheduler. A value: copies are one
// source. It stays while one of them does, or something runs under it.
//
// Thread safety: request_stop() and copies: any thread, until the runtime ends. token(): its scheduler's.
class remote_stop_source {
 public:
  // Of the scheduler of this thread. Throws std::bad_alloc.
  remote_stop_source();
  remote_stop_source(const remote_stop_source& other) noexcept;
  remote_stop_source& operator=(remote_stop_source other) noexcept;
  ~remote_stop_source() { state_->release(); }

  void request_stop(stop_level level = stop_level::hard) const noexcept { state_->request_stop(level); }
  // Whether somebody has asked; what runs under it may not have heard yet.
  bool stop_requested() const noexcept { return state_->wanted.level() != stop_level::none; }
  stop_token token() noexcept { return *this; }

 private:
  friend class stop_token;
  detail::remote_stop_state* state_;
};

inline stop_token::stop_token(stop_source& source) noexcept : context_(&source.context_) {}
inline stop_token::stop_token(remote_stop_source& source) noexcept : context_(&source.state_->context) {}

// What with_stop returns.
template <awaitable A>
class with_stop_op : private waiter {
 public:
  with_stop_op(stop_token source, A&& operand) noexcept
      : waiter(&ended), source_(source), operand_(std::move(operand)) {}
  with_stop_op(with_stop_op&& other) noexcept
      : waiter(&ended), source_(other.source_), operand_(std::move(other.operand_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    up_ = &up;
    return operand_.start(*this, stop_.begin(context, source_.context()));
  }
  decltype(auto) take() { return operand_.take(); }

 private:
  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto& me = *static_cast<with_stop_op*>(self);
    me.stop_.end();
    return me.up_->next(me.up_);
  }

  stop_token source_;
  detail::second_stop stop_;
  A operand_;
  waiter* up_ = nullptr;
};

// Awaits `operand` under a source of yours besides the task's own context: whichever is stopped first stops
// it. The source may have been stopped before. Several may run under one source.
//
//     stop_source stop;                       // stop.request_stop() ends all of them
//     co_await with_stop(stop, session(peer));
//
// Errors:    those of the operand: operation_canceled for either stop.
// Cancelled: as the operand.
// Lifetime:  the source must live until the co_await returns.
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] with_stop_op<A> with_stop(stop_token source, A&& operand) noexcept {
  return with_stop_op<A>(source, std::move(operand));
}
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] with_stop_op<A> with_stop(stop_source& source, A&& operand) noexcept {
  return with_stop_op<A>(source, std::move(operand));
}
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] with_stop_op<A> with_stop(remote_stop_source& source, A&& operand) noexcept {
  return with_stop_op<A>(source, std::move(operand));
}

}  // namespace keel
