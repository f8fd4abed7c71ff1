// Signals of this process for several subscribers, without a thread and without signalfd (which loses the
// signals that some thread has not blocked): one handler that counts, and wakes each subscriber through its
// eventfd.
#pragma once

#include <keel/base/result.hpp>

#include <cstdint>
#include <span>

namespace keel::kevent_sys {

// Whether the handler that stood before our first subscriber runs too.
enum class signal_delivery {
  also_to_previous_handler,  // it runs after we have counted; SIG_DFL and SIG_IGN are replaced, not run
  only_here,                 // it does not run while this subscription lives, whatever others chose
};

// A subscription to some signals of this process. A resource; movable.
//
// Each delivery is counted for each subscription apart: nobody takes a signal away from somebody else. What
// the kernel itself merges (a standard signal sent again while one is pending) was delivered once. Nothing
// arrives while all threads block the signal.
//
// The first subscription to a signal installs the handler, with SA_RESTART; the end of the last one restores
// what stood before, unless somebody has installed another handler on top: that one stays, and ours below it
// is kept for it to chain to.
//
// Fork: a child inherits the handler and the eventfds, so its signals wake its parent for nothing.
// Thread safety: subscriptions can be created, used and destroyed on different threads at once; one of them
//   is used by one thread at a time. Nothing here is to be called from a signal handler.
class [[nodiscard]] signal_subscription {
 public:
  static constexpr int signal_max = 64;
  static constexpr int subscriptions_max = 128;

  // From now on each delivery of one of `signals` adds 1 to `event_fd`: read it, then call take() until it
  // says 0.
  //
  // Errors:    EINVAL for an empty set, a number outside 1 to 64, SIGKILL and SIGSTOP, the two that the C
  //            library keeps (32, 33), and SIGSEGV, SIGBUS, SIGFPE, SIGILL, whose fault would recur for ever
  //            after a handler that only counts; errc::limit_reached beyond subscriptions_max in this
  //            process.
  // Lifetime:  `event_fd` must stay open until the subscription has ended.
  // REQUIRES: event_fd is an eventfd.
  static result<signal_subscription> create(
      std::span<const int> signals, int event_fd,
      signal_delivery delivery = signal_delivery::also_to_previous_handler);

  signal_subscription(signal_subscription&& other) noexcept;
  signal_subscription& operator=(signal_subscription&& other) noexcept;
  // Returns when no handler on another thread can write to the eventfd any more.
  ~signal_subscription();

  // The number of a signal that was delivered and not yet taken, or 0. Each delivery is taken apart; lower
  // numbers come first.
  int take() noexcept;
  // How many deliveries of `signal` were not yet taken, and takes them all.
  // REQUIRES: `signal` is one of those subscribed to.
  std::uint32_t take_all(int signal) noexcept;
  // The value that sigqueue(3) sent with the last delivery of `signal`, 0 if it came without one.
  static int last_value(int signal) noexcept;

 private:
  signal_subscription(int slot, std::uint64_t signals) noexcept : slot_(slot), signals_(signals) {}
  void note_counts() noexcept;
  bool counts_changed() const noexcept;
  void end() noexcept;

  static constexpr int no_slot = -1;

  int slot_ = no_slot;
  std::uint64_t signals_ = 0;  // bit n: signal n + 1
  std::uint32_t taken_[signal_max] = {};
};

}  // namespace keel::kevent_sys
