// Between keel's stops and those of the standard library, for the edge of a program: this is the one header
// that pays for <stop_token>.
#pragma once

#include <keel/runtime/stop_source.hpp>

#include <optional>
#include <stop_token>

namespace keel {

// What with_stop of a std::stop_token returns.
template <awaitable A>
class with_std_stop_op : private waiter {
 public:
  with_std_stop_op(std::stop_token token, A&& operand)
      : waiter(&ended), token_(std::move(token)), operand_(std::move(operand)) {}
  with_std_stop_op(with_std_stop_op&& other) noexcept
      : waiter(&ended),
        token_(std::move(other.token_)),
        remote_(other.remote_),
        operand_(std::move(other.operand_)) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    up_ = &up;
    stop_context& inner = stop_.begin(context, remote_.token().context());
    if (token_.stop_requested()) {
      inner.request_stop(stop_level::hard);
    } else {
      callback_.emplace(token_, notify{remote_});
    }
    return operand_.start(*this, inner);
  }
  decltype(auto) take() { return operand_.take(); }

 private:
  struct notify {
    void operator()() const noexcept { remote.request_stop(); }
    remote_stop_source remote;
  };

  static std::coroutine_handle<> ended(waiter* self) noexcept {
    auto& me = *static_cast<with_std_stop_op*>(self);
    me.callback_.reset();
    me.stop_.end();
    return me.up_->next(me.up_);
  }

  std::stop_token token_;
  remote_stop_source remote_;
  std::optional<std::stop_callback<notify>> callback_;
  detail::second_stop stop_;
  A operand_;
  waiter* up_ = nullptr;
};

// Awaits `operand` under a std::stop_token that any thread may trigger, besides the task's own context. Costs
// an allocation and, when it is triggered, a message.
//
// Errors:    those of the operand: operation_canceled for either stop.
// Cancelled: as the operand.
// Threads:   the scheduler that awaits it makes it. The token is not triggered after the runtime has ended.
// Throws:    std::bad_alloc.
template <awaitable A>
requires(!std::is_lvalue_reference_v<A>)
    [[nodiscard]] with_std_stop_op<A> with_stop(std::stop_token token, A&& operand) {
  return with_std_stop_op<A>(std::move(token), std::move(operand));
}

// A std::stop_source that is triggered when a task is asked to stop: for code that knows only those.
//
//     std_stop_link stop(*co_await this_task::current_stop_context());
//     co_await blocking([token = stop.token()] { crawl(token); });
//
// A resource; not movable. Its callbacks run on the scheduler's thread, inside whoever asks: they must not
// wait.
//
// Lifetime: the context outlives it: a local of the task.
// Thread safety: the scheduler's thread; the token's, any.
class std_stop_link : private stop_callback {
 public:
  // Throws std::bad_alloc.
  explicit std_stop_link(stop_context& of, stop_level at = stop_level::hard)
      : stop_callback([](stop_callback& self, stop_level) noexcept {
          static_cast<std_stop_link&>(self).source_.request_stop();
        }) {
    threshold = at;
    if (of.stopped(at)) {
      source_.request_stop();
    } else {
      of.add(*this);
    }
  }
  std_stop_link(const std_stop_link&) = delete;
  std_stop_link& operator=(const std_stop_link&) = delete;
  ~std_stop_link() { unlink(); }

  std::stop_token token() const noexcept { return source_.get_token(); }

 private:
  std::stop_source source_;
};

}  // namespace keel
