// A queue of values between the tasks of one scheduler.
#pragma once

#include <keel/runtime/exchange.hpp>

#include <optional>

namespace keel {

template <class T>
class channel;

// What channel<T>::send returns.
template <class T>
class channel_send_op : private detail::sending<T, choice_place> {
 public:
  channel_send_op(channel<T>& to, T& what) noexcept : detail::sending<T, choice_place>(what), channel_(&to) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() { return this->answer(); }

  // For select.
  std::uint32_t draw() noexcept { return channel_->exchange_.draw(); }
  bool attempt() noexcept { return channel_->exchange_.send(*this); }
  const choice_place& enlist(choice& in) noexcept;

 private:
  channel<T>* channel_;
  late_choice choice_;
};

// What channel<T>::receive returns.
template <class T>
class channel_receive_op : private detail::receiving<T, choice_place> {
 public:
  explicit channel_receive_op(channel<T>& from) noexcept : channel_(&from) {}

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<T> take() { return this->answer(); }

  // For select.
  std::uint32_t draw() noexcept { return channel_->exchange_.draw(); }
  bool attempt() noexcept { return channel_->exchange_.receive(*this); }
  const choice_place& enlist(choice& in) noexcept;

 private:
  channel<T>* channel_;
  late_choice choice_;
};

// Values go from senders to receivers, in order; both sides are served in the order in which they came. A
// resource; not movable.
//
// A value goes straight to a receiver that waits. Otherwise it waits in the channel, `capacity` values at
// most (0: a send ends when somebody has received it; keel::unbounded: it never waits).
// Life cycle: made -> used -> close(), which lets receivers end after the last value -> destroyed when nobody
// waits (asserted); values that are left go with it.
// Thread safety: one scheduler. Between schedulers, or threads: sync_channel.
template <class T>
class channel {
 public:
  // Throws std::bad_alloc: a channel with a limit has all its room from the beginning.
  explicit channel(std::size_t capacity) : exchange_(capacity) {}
  channel(const channel&) = delete;
  channel& operator=(const channel&) = delete;

  // Sends `value`, which is moved from only if it is sent: when there is an error, the caller has it still.
  // Throws what the move throws, or std::bad_alloc when an unbounded channel cannot grow.
  //
  // Errors:    closed, operation_canceled.
  // Cancelled: `value` is where it was; a send that had already been taken succeeds.
  // Lifetime:  `value` and *this must live until the co_await returns.
  // Threads:   the scheduler on which the channel is used.
  [[nodiscard]] channel_send_op<T> send(T&& value) noexcept { return channel_send_op<T>(*this, value); }
  // To move it is to copy it.
  [[nodiscard]] channel_send_op<T> send(const T& value) noexcept requires std::is_trivially_copyable_v<T> {
    return channel_send_op<T>(*this, const_cast<T&>(value));
  }

  // Receives the oldest value. Throws what the move throws; the value stays in the channel then.
  //
  // Errors:    end_of_stream once the channel is closed and empty; operation_canceled.
  // Cancelled: nothing is taken; a value that had already been handed over is delivered.
  // Lifetime:  *this must live until the co_await returns.
  // Threads:   the scheduler on which the channel is used.
  [[nodiscard]] channel_receive_op<T> receive() noexcept { return channel_receive_op<T>(*this); }

  // Sends `value` if that needs no waiting. Errors: limit_reached, closed; `value` is where it was then.
  result<void> try_send(T&& value) {
    detail::sending<T, choice_place> s(value);
    if (!exchange_.send(s)) return failure(errc::limit_reached, "try_send");
    return s.answer();
  }
  // A value that is there, or nothing.
  std::optional<T> try_receive() {
    detail::receiving<T, choice_place> r;
    if (!exchange_.receive(r) || r.how != outcome::done) return std::nullopt;
    return r.slot.take();
  }

  // No value is sent any more; those that are in the channel are received first. More than once is fine.
  void close() noexcept { exchange_.close(); }
  bool closed() const noexcept { return exchange_.closed(); }

  // Values that wait in the channel; values that may.
  std::size_t size() const noexcept { return exchange_.size(); }
  std::size_t capacity() const noexcept { return exchange_.capacity(); }

 private:
  friend channel_send_op<T>;
  friend channel_receive_op<T>;

  void check(scheduler& user) noexcept {
    KEEL_ASSERT(home_ == nullptr || home_ == &user,
                "a channel belongs to one scheduler: use sync_channel between several");
    home_ = &user;
  }

  detail::exchange<T, choice_place> exchange_;
  scheduler* home_ = nullptr;
};

template <class T>
std::coroutine_handle<> channel_send_op<T>::start(waiter& up, stop_context& context) noexcept {
  channel_->check(context.home());
  if (context.stopped()) {
    this->how = outcome::canceled;
    return choice_.give_up(up, context);
  }
  if (attempt()) return choice_.go_on(up, context);
  choice& waiting = choice_.make();
  waiting.begin(up, context, "a channel's room");
  enlist(waiting);
  return std::noop_coroutine();
}

template <class T>
const choice_place& channel_send_op<T>::enlist(choice& in) noexcept {
  in.add(*this);
  channel_->check(in.home());
  channel_->exchange_.wait(*this);
  return *this;
}

template <class T>
std::coroutine_handle<> channel_receive_op<T>::start(waiter& up, stop_context& context) noexcept {
  channel_->check(context.home());
  if (context.stopped()) {
    this->how = outcome::canceled;
    return choice_.give_up(up, context);
  }
  if (attempt()) return choice_.go_on(up, context);
  choice& waiting = choice_.make();
  waiting.begin(up, context, "a channel's value");
  enlist(waiting);
  return std::noop_coroutine();
}

template <class T>
const choice_place& channel_receive_op<T>::enlist(choice& in) noexcept {
  in.add(*this);
  channel_->check(in.home());
  channel_->exchange_.wait(*this);
  return *this;
}

}  // namespace keel
