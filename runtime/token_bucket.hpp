// A rate limit: tokens come at a steady rate, and what is done costs some.
#pragma once

#include <keel/base/result.hpp>
#include <keel/kevent_sys/queue.hpp>
#include <keel/runtime/choice.hpp>

#include <cstdint>

namespace keel {

class token_bucket;

// What token_bucket::take returns.
class take_op : private choice_place {
 public:
  take_op(token_bucket& from, std::uint64_t n) noexcept;

  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() noexcept;

  // For select.
  std::uint32_t draw() noexcept;
  bool attempt() noexcept;
  const choice_place& enlist(choice& in) noexcept;

 private:
  friend token_bucket;

  token_bucket* bucket_;
  std::uint64_t n_;
  late_choice choice_;
};

struct token_bucket_options {
  std::uint64_t rate = 0;   // tokens per second; 0: none come
  std::uint64_t burst = 1;  // tokens that it holds at most; it begins full
};

// Tokens, bytes for example, that come at `rate` and are kept up to `burst`. Those who wait are served in the
// order in which they came. A resource; not movable.
//
// Whoever wants more than `burst` waits until it is full, and leaves it in debt: later ones wait longer, and
// on average `rate` holds. It counts in billionths of a token: no rounding adds up.
// Life cycle: destroyed when nobody waits (asserted).
// Thread safety: one scheduler.
class token_bucket {
 public:
  explicit token_bucket(const token_bucket_options& options) noexcept;
  token_bucket(const token_bucket&) = delete;
  token_bucket& operator=(const token_bucket&) = delete;
  ~token_bucket();

  // Waits for `n` tokens and takes them.
  //
  // Errors:    operation_canceled.
  // Cancelled: no token is taken; whoever is next is served as if the other had not been there.
  // Lifetime:  *this must live until the co_await returns.
  // Threads:   the scheduler on which the bucket is used.
  [[nodiscard]] take_op take(std::uint64_t n) noexcept { return take_op(*this, n); }
  // Takes `n` if they are there, all or none, and nobody waits. REQUIRES: called by a task
  bool try_take(std::uint64_t n) noexcept;

  // From now on; those who wait, too.
  void set_rate(std::uint64_t rate) noexcept;
  std::uint64_t rate() const noexcept { return rate_; }
  std::uint64_t burst() const noexcept { return burst_; }
  // Whole tokens that are there now; 0 when in debt.
  std::uint64_t available() noexcept;

 private:
  friend take_op;
  __extension__ using amount = __int128;  // billionths of a token

  // One timer, for the first who waits.
  struct refill_timer : kevent_sys::timer {
    explicit refill_timer(token_bucket& of) noexcept;
    token_bucket& bucket;
  };

  static amount billionths(std::uint64_t n) noexcept { return static_cast<amount>(n) * 1'000'000'000; }
  scheduler& use(scheduler* by) noexcept;
  void refill() noexcept;
  void spill() noexcept;
  bool pay(std::uint64_t n) noexcept;
  void serve() noexcept;
  static void refilled(kevent_sys::operation& self, kevent_sys::answer a) noexcept;
  static void withdrawn(choice_place& place) noexcept;

  std::uint64_t rate_;
  const std::uint64_t burst_;
  amount level_;  // at refilled_ns_; below 0 is debt
  std::uint64_t refilled_ns_ = 0;
  scheduler* home_ = nullptr;
  refill_timer timer_;
  intrusive_list<choice_place> waiters_;
  std::uint32_t random_ = 1;
};

}  // namespace keel
