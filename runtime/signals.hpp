// Signals of the process, as something to wait for.
#pragma once

#include <keel/base/unique_fd.hpp>
#include <keel/kevent_sys/signal_hub.hpp>
#include <keel/runtime/operation_awaiter.hpp>

namespace keel {

// A subscription to some signals. While it lives they do nothing else: neither what they do by default, nor
// what a handler did that was installed before. Several may subscribe to one signal: each sees it. A
// resource; movable while nobody waits.
//
// Signals that arrive while nobody waits are counted and handed out one by one.
// Threads: made anywhere; used on the scheduler that awaits it.
class signals {
 public:
  // signals(SIGINT, SIGTERM). Throws std::system_error: a number that is no signal or cannot be caught, no
  // descriptor left, or too many subscriptions in this process.
  template <class... Numbers>
  requires(sizeof...(Numbers) > 0) explicit signals(Numbers... numbers)
      : signals(std::span<const int>(list<Numbers...>{{numbers...}}.numbers)) {}
  explicit signals(std::span<const int> numbers);

  class next_op;
  // The next signal: its number.
  //
  // Errors:    operation_canceled.
  // Cancelled: at a graceful stop; no signal is lost.
  // Lifetime:  *this must live until the co_await returns.
  // REQUIRES:  nobody else waits.
  [[nodiscard]] next_op next() noexcept;

 private:
  template <class... Numbers>
  struct list {
    int numbers[sizeof...(Numbers)];
  };

  unique_fd event_;
  kevent_sys::signal_subscription subscription_;
  io_direction waiting_;
};

class signals::next_op : public operation_awaiter {
 public:
  explicit next_op(signals& from) noexcept;
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<int> take() noexcept;

 private:
  static bool look(operation_awaiter& self) noexcept;

  signals& from_;
  int signal_ = 0;
};

}  // namespace keel
