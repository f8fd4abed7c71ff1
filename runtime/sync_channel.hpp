// A queue of values between schedulers, and between threads.
#pragma once

#include <keel/runtime/exchange.hpp>
#include <keel/runtime/sync_wait.hpp>

#include <optional>

namespace keel {

template <class T>
class sync_channel;

// What sync_channel<T>::send returns.
template <class T>
class sync_send_op : private detail::sending<T, detail::sync_place> {
 public:
  sync_send_op(sync_channel<T>& to, T& what) noexcept
      : detail::sending<T, detail::sync_place>(what), channel_(&to) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    return channel_->begin(*this, wait_, up, context, "a channel's room");
  }
  result<void> take() { return this->answer(); }

 private:
  friend sync_channel<T>;

  sync_channel<T>* channel_;
  detail::sync_wait wait_;
};

// What sync_channel<T>::receive returns.
template <class T>
class sync_receive_op : private detail::receiving<T, detail::sync_place> {
 public:
  explicit sync_receive_op(sync_channel<T>& from) noexcept : channel_(&from) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept {
    return channel_->begin(*this, wait_, up, context, "a channel's value");
  }
  result<T> take() { return this->answer(); }

 private:
  friend sync_channel<T>;

  sync_channel<T>* channel_;
  detail::sync_wait wait_;
};

// As channel, for any number of schedulers and threads: tasks wait with co_await, each on its own scheduler;
// plain threads with the calls that block. A resource; not movable.
//
// A short lock guards the values and the queues; sync_wait.hpp has the states of those who wait. Values are
// moved under the lock: a move should be short, and must not use the channel.
// Life cycle: as channel. Somebody to whom the channel has given a value, or the end, may destroy it when no
// other call is to come: whoever gave it does not touch the channel any more.
// Thread safety: any thread.
template <class T>
class sync_channel {
  using place = detail::sync_place;

 public:
  // Throws std::bad_alloc.
  explicit sync_channel(std::size_t capacity) : exchange_(capacity) {}
  sync_channel(const sync_channel&) = delete;
  sync_channel& operator=(const sync_channel&) = delete;

  // Sends `value`, which is moved from only if it is sent: when there is an error, the caller has it still.
  // Throws what the move throws, or std::bad_alloc when an unbounded channel cannot grow.
  //
  // Errors:    closed, operation_canceled.
  // Cancelled: `value` is where it was; a send that had already been taken succeeds.
  // Lifetime:  `value` and *this must live until the co_await returns.
  // Threads:   any scheduler.
  [[nodiscard]] sync_send_op<T> send(T&& value) noexcept { return sync_send_op<T>(*this, value); }
  // To move it is to copy it.
  [[nodiscard]] sync_send_op<T> send(const T& value) noexcept requires std::is_trivially_copyable_v<T> {
    return sync_send_op<T>(*this, const_cast<T&>(value));
  }

  // Receives the oldest value. Throws what the move throws; the value stays in the channel then.
  //
  // Errors:    end_of_stream once the channel is closed and empty; operation_canceled.
  // Cancelled: nothing is taken; a value that had already been handed over is delivered.
  // Lifetime:  *this must live until the co_await returns.
  // Threads:   any scheduler.
  [[nodiscard]] sync_receive_op<T> receive() noexcept { return sync_receive_op<T>(*this); }

  // Sends `value` if that needs no waiting. Errors: limit_reached, closed; `value` is where it was then.
  result<void> try_send(T&& value) {
    detail::sending<T, place> s(value);
    if (!locked([&] { return exchange_.send(s); })) return failure(errc::limit_reached, "try_send");
    return s.answer();
  }
  // A value that is there, or nothing.
  std::optional<T> try_receive() {
    detail::receiving<T, place> r;
    if (!locked([&] { return exchange_.receive(r); }) || r.how != outcome::done) return std::nullopt;
    return r.slot.take();
  }

  // For threads without a scheduler: as send and receive, but nothing cancels them. close() ends them.
  result<void> send_blocking(T&& value) {
    detail::sending<T, place> s(value);
    block(s);
    return s.answer();
  }
  result<T> receive_blocking() {
    detail::receiving<T, place> r;
    block(r);
    return r.answer();
  }

  // No value is sent any more; those that are in the channel are received first. More than once is fine.
  void close() noexcept {
    const detail::holding here(lock_);
    exchange_.close();
  }
  // What another thread may change at any time.
  bool closed() noexcept {
    return locked([&] { return exchange_.closed(); });
  }
  std::size_t size() noexcept {
    return locked([&] { return exchange_.size(); });
  }
  std::size_t capacity() const noexcept { return exchange_.capacity(); }

 private:
  friend sync_send_op<T>;
  friend sync_receive_op<T>;

  bool attempt(detail::sending<T, place>& s) noexcept { return exchange_.send(s); }
  bool attempt(detail::receiving<T, place>& r) noexcept { return exchange_.receive(r); }

  template <class Fn>
  auto locked(Fn fn) noexcept {
    const detail::holding here(lock_);
    return fn();
  }
  template <class Side>
  std::coroutine_handle<> begin(Side& side, detail::sync_wait& wait, waiter& up, stop_context& context,
                                const char* what) noexcept {
    if (context.stopped()) {
      side.how = outcome::canceled;
      return wait.give_up(up, context);
    }
    lock_.lock();
    if (attempt(side)) {
      lock_.unlock();
      return wait.go_on(up, context);
    }
    wait.begin(up, context, what, lock_, side);
    exchange_.wait(side);
    lock_.unlock();
    return std::noop_coroutine();
  }
  template <class Side>
  void block(Side& side) noexcept {
    detail::thread_wait wait;
    {
      const detail::holding here(lock_);
      if (attempt(side)) return;
      wait.begin(side);
      exchange_.wait(side);
    }
    wait.block(lock_);
  }

  detail::short_lock lock_;
  detail::exchange<T, place> exchange_;
};

}  // namespace keel
