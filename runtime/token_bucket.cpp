#include <keel/runtime/token_bucket.hpp>

#include <algorithm>

namespace keel {

token_bucket::refill_timer::refill_timer(token_bucket& of) noexcept : timer(&refilled), bucket(of) {}

token_bucket::token_bucket(const token_bucket_options& options) noexcept
    : rate_(options.rate), burst_(options.burst), level_(billionths(options.burst)), timer_(*this) {}

token_bucket::~token_bucket() {
  KEEL_ASSERT(waiters_.empty(),
              "a token_bucket was destroyed while somebody waits for tokens: stop him, and await "
              "his end");
}

scheduler& token_bucket::use(scheduler* by) noexcept {
  KEEL_ASSERT(
      by != nullptr && (home_ == nullptr || home_ == by),
      "a token_bucket belongs to the tasks of one scheduler: give each scheduler its share of the rate");
  home_ = by;
  return *by;
}

void token_bucket::refill() noexcept {
  const std::uint64_t now_ns = home_->now().since_boot_ns();
  if (now_ns <= refilled_ns_) return;
  // A debt is below 2^94 and this below 2^127: their sum fits. A tokens-per-second rate is a
  // billionths-per-nanosecond rate.
  __extension__ using wide = unsigned __int128;
  constexpr wide most = ~wide{0} >> 1;
  const wide came = std::min(static_cast<wide>(rate_) * (now_ns - refilled_ns_), most >> 1);
  level_ += static_cast<amount>(came);
  refilled_ns_ = now_ns;
  // Who waits should have been served in time: what came since then is not lost with him.
  if (waiters_.empty()) spill();
}

void token_bucket::spill() noexcept {
  level_ = std::min(level_, billionths(burst_));
}

bool token_bucket::pay(std::uint64_t n) noexcept {
  if (level_ < billionths(std::min(n, burst_))) return false;
  level_ -= billionths(n);
  return true;
}

bool token_bucket::try_take(std::uint64_t n) noexcept {
  use(scheduler::current());
  refill();
  return waiters_.empty() && pay(n);
}

std::uint64_t token_bucket::available() noexcept {
  use(scheduler::current());
  refill();
  return level_ <= 0 ? 0 : static_cast<std::uint64_t>(level_ / 1'000'000'000);
}

void token_bucket::set_rate(std::uint64_t rate) noexcept {
  if (home_ != nullptr) refill();
  rate_ = rate;
  if (!waiters_.empty()) serve();
}

// Serves those for whom there is enough, and sets the timer for the next.
void token_bucket::serve() noexcept {
  refill();
  while (!waiters_.empty() && pay(static_cast<take_op&>(waiters_.front()).n_))
    waiters_.front().settle(outcome::done);
  spill();
  // Not before: whoever goes may withdraw from this bucket a second time.
  home_->queue().disarm(timer_);
  if (waiters_.empty() || rate_ == 0) return;
  const amount missing = billionths(std::min(static_cast<take_op&>(waiters_.front()).n_, burst_)) - level_;
  const amount delay_ns = (missing + rate_ - 1) / rate_;
  const amount at_ns = delay_ns + refilled_ns_;
  if (at_ns < static_cast<amount>(kevent_sys::never)) {
    home_->queue().arm_at(timer_, static_cast<std::uint64_t>(at_ns));
  }
}

void token_bucket::refilled(kevent_sys::operation& self, kevent_sys::answer) noexcept {
  static_cast<refill_timer&>(static_cast<kevent_sys::timer&>(self)).bucket.serve();
}

void token_bucket::withdrawn(choice_place& place) noexcept {
  static_cast<take_op&>(place).bucket_->serve();
}

take_op::take_op(token_bucket& from, std::uint64_t n) noexcept : bucket_(&from), n_(n) {
  choice_place::withdrawn = &token_bucket::withdrawn;
}

std::uint32_t take_op::draw() noexcept {
  bucket_->random_ = bucket_->random_ * 1664525 + 1013904223;
  return bucket_->random_ >> 16;
}

bool take_op::attempt() noexcept {
  if (!bucket_->try_take(n_)) return false;
  how = outcome::done;
  return true;
}

const choice_place& take_op::enlist(choice& in) noexcept {
  in.add(*this);
  bucket_->waiters_.push_back(*this);
  if (&bucket_->waiters_.front() == this) bucket_->serve();
  return *this;
}

std::coroutine_handle<> take_op::start(waiter& up, stop_context& context) noexcept {
  bucket_->use(&context.home());
  if (context.stopped()) {
    how = outcome::canceled;
    return choice_.give_up(up, context);
  }
  if (attempt()) return choice_.go_on(up, context);
  choice& waiting = choice_.make();
  waiting.begin(up, context, "tokens");
  enlist(waiting);
  return std::noop_coroutine();
}

result<void> take_op::take() noexcept {
  if (how == outcome::canceled) return failure(errc::operation_canceled, "token_bucket::take");
  return {};
}

}  // namespace keel
