#include <keel/kevent_sys/signal_hub.hpp>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <iterator>
#include <mutex>
#include <type_traits>
#include <unistd.h>
#include <utility>

namespace keel::kevent_sys {
namespace {

constexpr int signal_max = signal_subscription::signal_max;
constexpr int subscriptions_max = signal_subscription::subscriptions_max;

using plain_handler = void (*)(int);
using info_handler = void (*)(int, siginfo_t*, void*);

// One subscription, as the handler sees it. The handler enters by adding itself to `writers` and then reading
// `signals` again; an end clears `signals` and then waits for `writers` to be 0. Both are sequentially
// consistent, so either the handler sees the end, or the end sees the handler.
struct subscriber {
  std::atomic<std::uint64_t> signals;    // bit n: signal n + 1; 0: free, or being made or ended
  std::atomic<std::uint64_t> exclusive;  // `signals`, or 0
  std::atomic<int> event_fd;
  std::atomic<std::uint32_t> writers;
};

struct signal_state {
  std::atomic<std::uint32_t> delivered;
  std::atomic<int> value;
  // The handler before ours: at most one of them is set.
  std::atomic<plain_handler> chained_plain;
  std::atomic<info_handler> chained_info;
};

// Only under the lock.
struct signal_registration {
  struct sigaction previous;
  int subscriptions;
  bool installed;
};

static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
                  std::atomic<info_handler>::is_always_lock_free,
              "a signal handler may only touch lock-free atomics");

constinit subscriber subscribers[subscriptions_max] = {};
constinit signal_state states[signal_max] = {};
constinit signal_registration registrations[signal_max] = {};
constinit bool slots_taken[subscriptions_max] = {};
constinit std::mutex registration_lock;
// A subscription may outlive main's statics.
static_assert(std::is_trivially_destructible_v<std::mutex> && std::is_trivially_destructible_v<subscriber> &&
              std::is_trivially_destructible_v<signal_state>);

constexpr std::uint64_t bit_of(int signal) { return std::uint64_t{1} << (signal - 1); }
int lowest_signal(std::uint64_t signals) { return std::countr_zero(signals) + 1; }
signal_state& state_of(int signal) { return states[signal - 1]; }

void wake(int event_fd) noexcept {
  const std::uint64_t one = 1;
  // EAGAIN: the eventfd is at its maximum, so its reader is awake. EINTR: a handler with another signal ran.
  while (::write(event_fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

void call_previous(const signal_state& state, int signal, siginfo_t* info, void* context) {
  if (const info_handler handler = state.chained_info.load(std::memory_order_acquire)) {
    handler(signal, info, context);
  } else if (const plain_handler plain = state.chained_plain.load(std::memory_order_acquire)) {
    plain(signal);
  }
}

bool carries_value(const siginfo_t& info) {
  return info.si_code == SI_QUEUE || info.si_code == SI_TIMER || info.si_code == SI_MESGQ;
}

void on_signal(int signal, siginfo_t* info, void* context) {
  const int saved_errno = errno;
  signal_state& state = state_of(signal);
  state.value.store(carries_value(*info) ? info->si_value.sival_int : 0, std::memory_order_relaxed);
  state.delivered.fetch_add(1);
  bool exclusive = false;
  for (subscriber& each : subscribers) {
    if ((each.signals.load() & bit_of(signal)) == 0) continue;
    each.writers.fetch_add(1);
    if ((each.signals.load() & bit_of(signal)) != 0) {
      exclusive = exclusive || (each.exclusive.load(std::memory_order_relaxed) & bit_of(signal)) != 0;
      wake(each.event_fd.load(std::memory_order_relaxed));
    }
    each.writers.fetch_sub(1);
  }
  // Outside of `writers`: a previous handler need not return.
  errno = saved_errno;
  if (!exclusive) call_previous(state, signal, info, context);
  errno = saved_errno;
}

bool is_function(const struct sigaction& action) {
  // SA_SIGINFO or not, the kernel compares these two values.
  return action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN;
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &on_signal;
}

void chain_to(const struct sigaction& previous, int signal) {
  const bool with_info = (previous.sa_flags & SA_SIGINFO) != 0;
  // Ours comes back when somebody reinstates what he had saved: it must not call itself.
  const bool callable = is_function(previous) && !is_ours(previous);
  state_of(signal).chained_plain.store(callable && !with_info ? previous.sa_handler : nullptr);
  state_of(signal).chained_info.store(callable && with_info ? previous.sa_sigaction : nullptr);
}

// 0, or the error number.
int install(int signal) {
  signal_registration& registration = registrations[signal - 1];
  // The handler may run before sigaction() has told us what it replaced: ask first.
  struct sigaction previous = {};
  if (::sigaction(signal, nullptr, &previous) != 0) return errno;
  chain_to(previous, signal);

  // What the previous handler said about masks, stacks and children stays true for it.
  constexpr int kept_flags = SA_NOCLDSTOP | SA_NOCLDWAIT | SA_NODEFER;
  struct sigaction ours = {};
  ours.sa_sigaction = &on_signal;
  ours.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK | (previous.sa_flags & kept_flags);
  if (is_function(previous)) ours.sa_mask = previous.sa_mask;
  if (::sigaction(signal, &ours, &registration.previous) != 0) return errno;
  chain_to(registration.previous, signal);
  registration.installed = true;
  return 0;
}

void restore(int signal) {
  signal_registration& registration = registrations[signal - 1];
  struct sigaction current = {};
  if (::sigaction(signal, nullptr, &current) != 0 || !is_ours(current)) return;
  // Chained handlers stay set: on another thread our handler may still be about to call one.
  const int answer = ::sigaction(signal, &registration.previous, nullptr);
  KEEL_ASSERT(answer == 0);
  registration.installed = false;
}

void leave(std::uint64_t signals) {
  for (; signals != 0; signals &= signals - 1) {
    const int signal = lowest_signal(signals);
    signal_registration& registration = registrations[signal - 1];
    KEEL_ASSERT(registration.subscriptions > 0);
    if (--registration.subscriptions == 0) restore(signal);
  }
}

// 0, or the error number; then nothing has changed.
int join(std::uint64_t signals) {
  std::uint64_t joined = 0;
  for (std::uint64_t rest = signals; rest != 0; rest &= rest - 1) {
    const int signal = lowest_signal(rest);
    signal_registration& registration = registrations[signal - 1];
    const int error = registration.installed ? 0 : install(signal);
    if (error != 0) {
      leave(joined);
      return error;
    }
    ++registration.subscriptions;
    joined |= bit_of(signal);
  }
  return 0;
}

void wait_for_writers(const subscriber& slot) {
  // A handler that was here writes to an eventfd and is gone; sleeping lets it run whatever its priority.
  constexpr struct timespec pause = {.tv_sec = 0, .tv_nsec = 20'000};
  while (slot.writers.load() != 0) ::nanosleep(&pause, nullptr);
}

constexpr std::uint64_t not_for_us =
    bit_of(SIGKILL) | bit_of(SIGSTOP) | bit_of(SIGSEGV) | bit_of(SIGBUS) | bit_of(SIGFPE) | bit_of(SIGILL);

// 0 if one of them cannot be subscribed to.
std::uint64_t set_of(std::span<const int> numbers) {
  std::uint64_t signals = 0;
  for (const int number : numbers) {
    if (number < 1 || number > signal_max || (bit_of(number) & not_for_us) != 0) return 0;
    signals |= bit_of(number);
  }
  return signals;
}

}  // namespace

result<signal_subscription> signal_subscription::create(std::span<const int> signals, int event_fd,
                                                        signal_delivery delivery) {
  KEEL_ASSERT(event_fd >= 0);
  constexpr const char* doing = "subscribe to signals";
  const std::uint64_t set = set_of(signals);
  if (set == 0) return failure(kernel_error(EINVAL), doing);

  const std::lock_guard lock(registration_lock);
  const auto free_slot = std::find(std::begin(slots_taken), std::end(slots_taken), false);
  if (free_slot == std::end(slots_taken)) return failure(errc::limit_reached, doing);

  signal_subscription made(int(free_slot - std::begin(slots_taken)), set);
  made.note_counts();
  subscriber& slot = subscribers[made.slot_];
  slot.event_fd.store(event_fd, std::memory_order_relaxed);
  slot.exclusive.store(delivery == signal_delivery::only_here ? set : 0, std::memory_order_relaxed);
  slot.signals.store(set);
  if (const int error = join(set); error != 0) {
    slot.signals.store(0);
    wait_for_writers(slot);
    made.slot_ = no_slot;
    return failure(kernel_error(error), doing);
  }
  *free_slot = true;
  // Counted by a handler that had looked at our slot before we were in it: it woke nobody.
  if (made.counts_changed()) wake(event_fd);
  return made;
}

signal_subscription::signal_subscription(signal_subscription&& other) noexcept
    : slot_(std::exchange(other.slot_, no_slot)), signals_(std::exchange(other.signals_, 0)) {
  std::copy(std::begin(other.taken_), std::end(other.taken_), taken_);
}

signal_subscription& signal_subscription::operator=(signal_subscription&& other) noexcept {
  if (this == &other) return *this;
  end();
  slot_ = std::exchange(other.slot_, no_slot);
  signals_ = std::exchange(other.signals_, 0);
  std::copy(std::begin(other.taken_), std::end(other.taken_), taken_);
  return *this;
}

signal_subscription::~signal_subscription() { end(); }

void signal_subscription::end() noexcept {
  if (slot_ == no_slot) return;
  const std::lock_guard lock(registration_lock);
  KEEL_ASSERT(slots_taken[slot_]);
  leave(signals_);
  subscriber& slot = subscribers[slot_];
  slot.signals.store(0);
  wait_for_writers(slot);
  slots_taken[slot_] = false;
  slot_ = no_slot;
}

void signal_subscription::note_counts() noexcept {
  for (std::uint64_t rest = signals_; rest != 0; rest &= rest - 1) {
    const int signal = lowest_signal(rest);
    taken_[signal - 1] = state_of(signal).delivered.load();
  }
}

bool signal_subscription::counts_changed() const noexcept {
  for (std::uint64_t rest = signals_; rest != 0; rest &= rest - 1) {
    const int signal = lowest_signal(rest);
    if (taken_[signal - 1] != state_of(signal).delivered.load()) return true;
  }
  return false;
}

int signal_subscription::take() noexcept {
  KEEL_ASSERT(slot_ != no_slot, "a moved-from subscription has no signals");
  for (std::uint64_t rest = signals_; rest != 0; rest &= rest - 1) {
    const int signal = lowest_signal(rest);
    if (taken_[signal - 1] == state_of(signal).delivered.load(std::memory_order_acquire)) continue;
    ++taken_[signal - 1];
    return signal;
  }
  return 0;
}

std::uint32_t signal_subscription::take_all(int signal) noexcept {
  KEEL_ASSERT(signal >= 1 && signal <= signal_max && (signals_ & bit_of(signal)) != 0);
  const std::uint32_t delivered = state_of(signal).delivered.load(std::memory_order_acquire);
  return delivered - std::exchange(taken_[signal - 1], delivered);
}

int signal_subscription::last_value(int signal) noexcept {
  KEEL_ASSERT(signal >= 1 && signal <= signal_max);
  return state_of(signal).value.load(std::memory_order_relaxed);
}

}  // namespace keel::kevent_sys
