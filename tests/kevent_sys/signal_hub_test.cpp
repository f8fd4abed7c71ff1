#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>
#include <keel/kevent_sys/signal_hub.hpp>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <optional>
#include <sched.h>
#include <sys/eventfd.h>
#include <thread>
#include <unistd.h>
#include <utility>
#include <vector>

using keel::kevent_sys::signal_delivery;
using keel::kevent_sys::signal_subscription;

namespace {

// ThreadSanitizer runs handlers later, and once for several signals.
#if defined(__SANITIZE_THREAD__)
constexpr bool merges_queued_signals = true;
#elif defined(__has_feature)
constexpr bool merges_queued_signals = __has_feature(thread_sanitizer);
#else
constexpr bool merges_queued_signals = false;
#endif

keel::unique_fd new_eventfd() {
  keel::unique_fd fd(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  REQUIRE(fd);
  return fd;
}

// How often the eventfd was written since the last call.
std::uint64_t wakes(const keel::unique_fd& fd) {
  std::uint64_t count = 0;
  return ::read(fd.get(), &count, sizeof count) == sizeof count ? count : 0;
}

signal_subscription subscribed(std::vector<int> signals, const keel::unique_fd& fd,
                               signal_delivery delivery = signal_delivery::also_to_previous_handler) {
  return signal_subscription::create(signals, fd.get(), delivery).value();
}

std::error_code error_of(std::vector<int> signals) {
  const auto fd = new_eventfd();
  return signal_subscription::create(signals, fd.get()).error();
}

struct sigaction current_action(int signal) {
  struct sigaction action = {};
  REQUIRE(::sigaction(signal, nullptr, &action) == 0);
  return action;
}

bool handled_by(int signal, void (*handler)(int)) { return current_action(signal).sa_handler == handler; }

std::atomic<int> plain_calls = 0;
std::atomic<int> info_calls = 0;
std::atomic<int> last_sent_value = 0;

void count_plain(int /*signal*/) {
  ++plain_calls;
  errno = EDOM;
}

void count_info(int /*signal*/, siginfo_t* info, void* /*context*/) {
  ++info_calls;
  last_sent_value = info->si_value.sival_int;
}

// Sets a handler for as long as it lives, as an application would that knows nothing of keel.
class application_handler {
 public:
  application_handler(int signal, void (*plain)(int), int flags = 0) : signal_(signal) {
    struct sigaction action = {};
    action.sa_handler = plain;
    action.sa_flags = flags;
    REQUIRE(::sigaction(signal, &action, &before_) == 0);
  }
  application_handler(int signal, void (*with_info)(int, siginfo_t*, void*)) : signal_(signal) {
    struct sigaction action = {};
    action.sa_sigaction = with_info;
    action.sa_flags = SA_SIGINFO;
    REQUIRE(::sigaction(signal, &action, &before_) == 0);
  }
  application_handler(const application_handler&) = delete;
  ~application_handler() { ::sigaction(signal_, &before_, nullptr); }

 private:
  int signal_;
  struct sigaction before_ = {};
};

void send_value(int signal, int value) {
  sigval sent = {};
  sent.sival_int = value;
  // EAGAIN: the queue of pending real-time signals is full.
  while (::sigqueue(::getpid(), signal, sent) != 0) {
    if (errno != EAGAIN) FAIL("sigqueue");
    ::sched_yield();
  }
}

}  // namespace

TEST_CASE("signal_hub: a signal wakes through the eventfd and is taken once") {
  const auto fd = new_eventfd();
  auto signals = subscribed({SIGUSR1, SIGUSR2}, fd);
  CHECK(signals.take() == 0);

  REQUIRE(::kill(::getpid(), SIGUSR2) == 0);

  CHECK(wakes(fd) == 1);
  CHECK(signals.take() == SIGUSR2);
  CHECK(signals.take() == 0);
}

TEST_CASE("signal_hub: each delivery is taken apart, lower signal numbers first") {
  const auto fd = new_eventfd();
  auto signals = subscribed({SIGUSR2, SIGUSR1, SIGUSR1}, fd);

  for (const int signal : {SIGUSR2, SIGUSR1, SIGUSR2}) REQUIRE(::raise(signal) == 0);

  CHECK(wakes(fd) == 3);
  CHECK(signals.take() == SIGUSR1);
  CHECK(signals.take() == SIGUSR2);
  CHECK(signals.take() == SIGUSR2);
  CHECK(signals.take() == 0);
}

TEST_CASE("signal_hub: take_all takes the deliveries of one signal together") {
  const auto fd = new_eventfd();
  auto signals = subscribed({SIGUSR1, SIGUSR2}, fd);

  for (const int signal : {SIGUSR1, SIGUSR1, SIGUSR2}) REQUIRE(::raise(signal) == 0);

  CHECK(signals.take_all(SIGUSR1) == 2);
  CHECK(signals.take_all(SIGUSR1) == 0);
  CHECK(signals.take() == SIGUSR2);
}

TEST_CASE("signal_hub: every subscriber sees every signal, and only those after it subscribed") {
  const auto early_fd = new_eventfd();
  const auto late_fd = new_eventfd();
  const auto other_fd = new_eventfd();
  auto early = subscribed({SIGUSR1}, early_fd);
  auto other = subscribed({SIGUSR2}, other_fd);
  REQUIRE(::raise(SIGUSR1) == 0);
  auto late = subscribed({SIGUSR1}, late_fd);
  REQUIRE(::raise(SIGUSR1) == 0);

  CHECK(early.take_all(SIGUSR1) == 2);
  CHECK(late.take_all(SIGUSR1) == 1);
  CHECK(other.take() == 0);
  CHECK(wakes(early_fd) == 2);
  CHECK(wakes(late_fd) == 1);
  CHECK(wakes(other_fd) == 0);
}

TEST_CASE("signal_hub: a moved subscription goes on with what was not taken yet") {
  const auto fd = new_eventfd();
  auto first = subscribed({SIGUSR1}, fd);
  REQUIRE(::raise(SIGUSR1) == 0);

  auto second = std::move(first);
  REQUIRE(::raise(SIGUSR1) == 0);

  CHECK(second.take_all(SIGUSR1) == 2);
  second = subscribed({SIGUSR2}, fd);
  REQUIRE(::raise(SIGUSR2) == 0);
  CHECK(second.take() == SIGUSR2);
}

TEST_CASE("signal_hub: the handler that was there before runs too") {
  plain_calls = info_calls = 0;
  const application_handler plain(SIGUSR1, count_plain);
  const application_handler with_info(SIGUSR2, count_info);
  const auto fd = new_eventfd();
  auto signals = subscribed({SIGUSR1, SIGUSR2}, fd);

  REQUIRE(::raise(SIGUSR1) == 0);
  send_value(SIGUSR2, 42);

  CHECK(plain_calls == 1);
  CHECK(info_calls == 1);
  CHECK(last_sent_value == 42);
  CHECK(signal_subscription::last_value(SIGUSR2) == 42);
  CHECK(signal_subscription::last_value(SIGUSR1) == 0);
  CHECK(signals.take() == SIGUSR1);
  CHECK(signals.take() == SIGUSR2);
}

TEST_CASE("signal_hub: an ignored signal is seen, and SIG_IGN is not called") {
  const application_handler ignored(SIGUSR1, SIG_IGN);
  const auto fd = new_eventfd();
  auto signals = subscribed({SIGUSR1}, fd);

  REQUIRE(::raise(SIGUSR1) == 0);

  CHECK(signals.take() == SIGUSR1);
}

TEST_CASE("signal_hub: only_here keeps the previous handler silent while one such subscription lives") {
  plain_calls = 0;
  const application_handler plain(SIGUSR1, count_plain);
  const auto fd = new_eventfd();
  auto shared = subscribed({SIGUSR1}, fd);
  {
    auto exclusive = subscribed({SIGUSR1}, fd, signal_delivery::only_here);
    REQUIRE(::raise(SIGUSR1) == 0);
    CHECK(plain_calls == 0);
    CHECK(exclusive.take() == SIGUSR1);
  }
  REQUIRE(::raise(SIGUSR1) == 0);

  CHECK(plain_calls == 1);
  CHECK(shared.take_all(SIGUSR1) == 2);
}

TEST_CASE("signal_hub: the last subscription's end restores what stood before the first") {
  const application_handler plain(SIGUSR1, count_plain, SA_NODEFER);
  const struct sigaction before = current_action(SIGUSR1);
  const auto fd = new_eventfd();
  {
    std::optional<signal_subscription> first(subscribed({SIGUSR1}, fd));
    auto second = subscribed({SIGUSR1}, fd);
    first.reset();
    CHECK_FALSE(handled_by(SIGUSR1, count_plain));
    CHECK((current_action(SIGUSR1).sa_flags & SA_RESTART) != 0);
    CHECK((current_action(SIGUSR1).sa_flags & SA_NODEFER) != 0);
    REQUIRE(::raise(SIGUSR1) == 0);
    CHECK(second.take() == SIGUSR1);
  }

  CHECK(handled_by(SIGUSR1, count_plain));
  CHECK(current_action(SIGUSR1).sa_flags == before.sa_flags);
  plain_calls = 0;
  REQUIRE(::raise(SIGUSR1) == 0);
  CHECK(plain_calls == 1);
  CHECK(wakes(fd) == 1);
}

TEST_CASE("signal_hub: a handler that was installed over ours is left in place") {
  const auto fd = new_eventfd();
  std::optional<signal_subscription> signals(subscribed({SIGUSR1}, fd));
  {
    const application_handler later(SIGUSR1, count_plain);
    signals.reset();
    CHECK(handled_by(SIGUSR1, count_plain));
  }
  // It has reinstated ours: the next subscription works, and its end restores the first state of all.
  signals.emplace(subscribed({SIGUSR1}, fd));
  REQUIRE(::raise(SIGUSR1) == 0);
  CHECK(signals->take() == SIGUSR1);
  signals.reset();
  CHECK(handled_by(SIGUSR1, SIG_DFL));
}

TEST_CASE("signal_hub: an old copy of our handler, reinstated by somebody, does not call itself") {
  const auto fd = new_eventfd();
  std::optional<signal_subscription> signals(subscribed({SIGUSR1}, fd));
  const struct sigaction ours = current_action(SIGUSR1);
  signals.reset();
  REQUIRE(::sigaction(SIGUSR1, &ours, nullptr) == 0);

  signals.emplace(subscribed({SIGUSR1}, fd));
  REQUIRE(::raise(SIGUSR1) == 0);

  CHECK(signals->take() == SIGUSR1);
  CHECK(signals->take() == 0);
  signals.reset();
  ::signal(SIGUSR1, SIG_DFL);
}

TEST_CASE("signal_hub: errno of the interrupted code survives, whatever the handlers do to it") {
  const application_handler plain(SIGUSR1, count_plain);
  const auto fd = new_eventfd();
  const auto signals = subscribed({SIGUSR1}, fd);

  errno = ENOTTY;
  const int answer = ::raise(SIGUSR1);

  CHECK(errno == ENOTTY);
  CHECK(answer == 0);
}

TEST_CASE("signal_hub: signals that cannot be subscribed to are refused, and leave no trace") {
  const auto invalid = std::errc::invalid_argument;
  CHECK(error_of({}) == invalid);
  for (const int bad : {0, -1, 65, SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, 32, 33}) {
    CAPTURE(bad);
    CHECK(error_of({bad}) == invalid);
    CHECK(error_of({SIGUSR1, bad, SIGUSR2}) == invalid);
  }
  CHECK(handled_by(SIGUSR1, SIG_DFL));
  CHECK(handled_by(SIGUSR2, SIG_DFL));
}

TEST_CASE("signal_hub: there is room for a fixed number of subscriptions, and again when one has ended") {
  const auto fd = new_eventfd();
  std::vector<signal_subscription> all;
  for (int i = 0; i < signal_subscription::subscriptions_max; ++i) all.push_back(subscribed({SIGUSR1}, fd));
  CHECK(error_of({SIGUSR1}) == keel::errc::limit_reached);

  all.pop_back();

  CHECK_FALSE(error_of({SIGUSR1}));
  REQUIRE(::raise(SIGUSR1) == 0);
  for (signal_subscription& each : all) CHECK(each.take() == SIGUSR1);
}

TEST_CASE("signal_hub: of 10,000 signals sent to 8 threads and by them, none is lost") {
  constexpr int thread_count = 8;
  constexpr int sent_each = 10'000 / thread_count;
  plain_calls = 0;
  const application_handler plain(SIGUSR1, count_plain);
  const int queued = SIGRTMIN + 1;
  const auto fd = new_eventfd();
  auto signals = subscribed({SIGUSR1, SIGUSR2, queued}, fd);

  std::vector<std::thread> threads;
  for (int i = 0; i < thread_count; ++i) {
    threads.emplace_back([queued] {
      for (int sent = 0; sent < sent_each; ++sent) {
        ::kill(::getpid(), SIGUSR1);  // merged by the kernel while one is pending
        ::raise(SIGUSR2);             // has run when raise returns
        send_value(queued, sent);     // queued by the kernel
      }
    });
  }
  for (std::thread& each : threads) each.join();

  // The last ones are still in the kernel's queue, and come to this thread at its next system call.
  std::uint32_t queued_taken = 0;
  for (int turn = 0; turn < 10'000 && queued_taken < thread_count * sent_each; ++turn) {
    queued_taken += signals.take_all(queued);
    ::sched_yield();
  }
  if (merges_queued_signals) return;
  CHECK(queued_taken == thread_count * sent_each);
  CHECK(signals.take_all(SIGUSR2) == thread_count * sent_each);
  // What the kernel delivered, as the application's own handler counted it.
  CHECK(signals.take_all(SIGUSR1) == std::uint32_t(plain_calls.load()));
  CHECK(wakes(fd) == std::uint64_t(2 * thread_count * sent_each + plain_calls));
}

TEST_CASE("signal_hub: an ended subscription's eventfd is never written again, though signals go on") {
  std::atomic<bool> stop = false;
  const auto keeper_fd = new_eventfd();
  const auto keeper = subscribed({SIGUSR1}, keeper_fd);
  std::vector<std::thread> senders;
  for (int i = 0; i < 3; ++i) {
    senders.emplace_back([&stop] {
      while (!stop) ::raise(SIGUSR1);
    });
  }

  int written_after_end = 0;
  for (int round = 0; round < 1000; ++round) {
    const auto fd = new_eventfd();
    {
      auto signals = subscribed({SIGUSR1, SIGUSR2}, fd);
      // What was counted while the subscription was being made wakes, too.
      if (signals.take() != 0) {
        while (wakes(fd) == 0) ::sched_yield();
      }
    }
    wakes(fd);
    ::sched_yield();
    if (wakes(fd) != 0) ++written_after_end;
  }
  stop = true;
  for (std::thread& each : senders) each.join();

  CHECK(written_after_end == 0);
}
