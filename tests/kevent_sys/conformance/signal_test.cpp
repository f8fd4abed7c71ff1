#include <doctest/doctest.h>

#include <sys/wait.h>
#include <csignal>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/in_child.hpp"

using namespace keel::test;

namespace {

// ThreadSanitizer runs handlers later, and once for several signals.
#if defined(__SANITIZE_THREAD__)
constexpr bool merges_queued_signals = true;
#elif defined(__has_feature)
constexpr bool merges_queued_signals = __has_feature(thread_sanitizer);
#else
constexpr bool merges_queued_signals = false;
#endif

std::atomic<int> calls = 0;
void count_call(int /*signal*/) {
  ++calls;
}

// Sets a handler as an application does, for as long as it lives.
class application_handler {
 public:
  explicit application_handler(int signal, void (*handler)(int) = count_call) : signal_(signal) {
    calls = 0;
    struct sigaction action = {};
    action.sa_handler = handler;
    REQUIRE(::sigaction(signal, &action, &before_) == 0);
  }
  application_handler(const application_handler&) = delete;
  application_handler& operator=(const application_handler&) = delete;
  ~application_handler() { ::sigaction(signal_, &before_, nullptr); }

 private:
  int signal_;
  struct sigaction before_ = {};
};

bool handled_by_application(int signal) {
  struct sigaction action = {};
  REQUIRE(::sigaction(signal, nullptr, &action) == 0);
  return action.sa_handler == count_call;
}

ukevent signal_event(int number, std::uint64_t nomask = 0, std::uint32_t flags = 0) {
  ukevent event = event_of(KEVENT_SIGNAL, 0, KEVENT_SIGNAL_DELIVERY, flags);
  event.id.raw_u64 = static_cast<std::uint64_t>(number) | nomask;
  return event;
}

void send_to_process(int signal) {
  REQUIRE(::kill(::getpid(), signal) == 0);
}

void send_value(int signal, int value) {
  sigval with{};
  with.sival_int = value;
  REQUIRE(::sigqueue(::getpid(), signal, with) == 0);
}

}  // namespace

TEST_CASE("case 123, decision 8: a signal runs its handler once, and is one event") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR1)) == 0);
  CHECK(queue.silent(5));
  send_to_process(SIGUSR1);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(got.id.raw_u64 == SIGUSR1);
  CHECK(got.ret_data[0] == 0);
  CHECK(got.ret_data[1] == 1);
  CHECK(calls == 1);
  CHECK(queue.silent());
}

TEST_CASE("case 124: with NOMASK it is an event only: no handler, nothing pending") {
  const application_handler handler(SIGUSR2);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR2, KEVENT_SIGNAL_NOMASK)) == 0);
  send_to_process(SIGUSR2);
  const ukevent got = queue.next();
  CHECK(got.ret_flags == done);
  CHECK(got.id.raw_u64 == (std::uint64_t(SIGUSR2) | KEVENT_SIGNAL_NOMASK));
  CHECK(calls == 0);
  sigset_t pending;
  REQUIRE(::sigpending(&pending) == 0);
  CHECK(::sigismember(&pending, SIGUSR2) == 0);
}

TEST_CASE("case 124: with NOMASK a signal whose default is to kill does not kill") {
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR2, KEVENT_SIGNAL_NOMASK)) == 0);
  send_to_process(SIGUSR2);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("case 125, decision 8: signals that nobody collects are one event, which counts them") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR1)) == 0);
  for (int i = 0; i < 3; ++i) send_to_process(SIGUSR1);
  if (merges_queued_signals) {
    CHECK(queue.next().ret_data[1] >= 1);
    return;
  }
  const std::vector<ukevent> got = queue.get(1, 8, patience);
  REQUIRE(got.size() == 1);
  CHECK(got[0].ret_data[1] == 3);
  CHECK(calls == 3);

  send_to_process(SIGUSR1);
  CHECK(queue.next().ret_data[1] == 1);
}

TEST_CASE("decision 8: the value that came with the last signal is in ret_data") {
  const application_handler handler(SIGRTMIN + 3);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGRTMIN + 3)) == 0);
  send_value(SIGRTMIN + 3, 1234567);
  const ukevent got = queue.next();
  CHECK(got.ret_data[0] == 1234567);
  CHECK(got.ret_data[1] == 1);
  if (merges_queued_signals) return;
  send_value(SIGRTMIN + 3, 5);
  send_value(SIGRTMIN + 3, 6);
  const ukevent last = queue.next();
  CHECK(last.ret_data[0] == 6);
  CHECK(last.ret_data[1] == 2);
}

TEST_CASE("decision 8: SIGNAL is process-wide: who added it and who takes it may be different threads") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  int added = -1;
  std::thread([&] { added = queue.add(signal_event(SIGUSR1)); }).join();
  REQUIRE(added == 0);
  sleeping_call other([&] { return ::kevent_ctl(queue.fd(), KEVENT_CTL_ADD, 0, nullptr); });
  CHECK(other.answer() == 0);
  send_to_process(SIGUSR1);
  CHECK(queue.next().ret_flags == done);
}

TEST_CASE("decision 8: each queue that listens to a signal gets its event") {
  const application_handler handler(SIGUSR1);
  const event_queue a, b;
  REQUIRE(a.add(signal_event(SIGUSR1, 0, KEVENT_REQ_WAKEUP_ALL)) == 0);
  REQUIRE(b.add(signal_event(SIGUSR1, 0, KEVENT_REQ_WAKEUP_ALL)) == 0);
  send_to_process(SIGUSR1);
  CHECK(a.next().ret_flags == done);
  CHECK(b.next().ret_flags == done);
  CHECK(calls == 1);
}

TEST_CASE("clarification, types: REMOVE gives the handler of the application back") {
  const application_handler handler(SIGUSR1);
  {
    const event_queue queue;
    REQUIRE(queue.add(signal_event(SIGUSR1)) == 0);
    CHECK(queue.remove(signal_event(SIGUSR1)).ret_flags == done);
    CHECK(handled_by_application(SIGUSR1));
    send_to_process(SIGUSR1);
    CHECK(calls == 1);
    CHECK(queue.silent());

    REQUIRE(queue.add(signal_event(SIGUSR1, KEVENT_SIGNAL_NOMASK)) == 0);
  }
  CHECK(handled_by_application(SIGUSR1));
}

TEST_CASE("spec 2.8: a ONESHOT signal is one event, and the handler is given back") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR1, 0, KEVENT_REQ_ONESHOT)) == 0);
  send_to_process(SIGUSR1);
  CHECK(queue.next().ret_flags == done);
  send_to_process(SIGUSR1);
  CHECK(queue.silent());
  CHECK(calls == 2);
  CHECK(handled_by_application(SIGUSR1));
}

TEST_CASE("spec 2.8: in ET mode each collection is followed by a new event") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR1, 0, KEVENT_REQ_ET)) == 0);
  for (int round = 1; round <= 3; ++round) {
    send_to_process(SIGUSR1);
    CHECK(queue.next().ret_data[1] == 1);
    CHECK(calls == round);
  }
}

TEST_CASE("decision 5: an earlier signal makes a new registration ready neither at ADD nor later") {
  const application_handler handler(SIGUSR1), other(SIGUSR2);
  const event_queue queue;
  {
    const event_queue earlier;
    REQUIRE(earlier.add(signal_event(SIGUSR1)) == 0);
    send_to_process(SIGUSR1);
    CHECK(earlier.next().ret_flags == done);
  }
  REQUIRE(queue.add(signal_event(SIGUSR1)) == 0);
  send_to_process(SIGUSR2);
  CHECK(queue.silent());
}

TEST_CASE("clarification, readiness: MODIFY of SIGNAL makes nothing ready, and keeps a pending event") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR1)) == 0);
  REQUIRE(queue.modify(signal_event(SIGUSR1, 0, KEVENT_REQ_ET)).ret_flags == done);
  CHECK(queue.silent(5));
  send_to_process(SIGUSR1);
  REQUIRE(queue.modify(signal_event(SIGUSR1)).ret_flags == done);
  CHECK(queue.next().ret_data[1] == 1);
  CHECK(queue.silent(5));
}

TEST_CASE("spec 2.8: numbers that are no signals, or cannot be caught, are EINVAL") {
  const event_queue queue;
  for (const int number : {0, 65, 1000, SIGKILL, SIGSTOP}) {
    CAPTURE(number);
    const ukevent entry = queue.handed_back(signal_event(number));
    CHECK(entry.ret_flags == done_and_broken);
    CHECK(error_of(entry) == -EINVAL);
  }
}

TEST_CASE("case 126: a signal that a child raises in itself is no event for the parent, nor in the child") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR1)) == 0);
  const child_end end = in_child([&] {
    if (::kill(::getpid(), SIGUSR1) != 0) return 1;
    ukevent buffer{};
    if (::kevent_get_events(queue.fd(), 1, 1, no_wait, &buffer, 0) != -EOWNERDEAD) return 2;
    return 0;
  });
  CHECK(end.exit_code == 0);
  CHECK(queue.silent());
  CHECK(calls == 0);
  send_to_process(SIGUSR1);
  CHECK(queue.next().ret_data[1] == 1);
}

TEST_CASE("case 126: a child adds its signals to its own queue") {
  const application_handler handler(SIGUSR1);
  const event_queue queue;
  REQUIRE(queue.add(signal_event(SIGUSR1)) == 0);
  const child_end end = in_child([] {
    const int own = ::kevent_init(nullptr, 0, 0);
    if (own < 0) return 1;
    ukevent event = signal_event(SIGUSR1);
    if (::kevent_ctl(own, KEVENT_CTL_ADD, 1, &event) != 0) return 2;
    if (::kill(::getpid(), SIGUSR1) != 0) return 3;
    if (::kevent_get_events(own, 1, 1, patience, &event, 0) != 1) return 4;
    if (event.type != KEVENT_SIGNAL || event.ret_data[1] != 1) return 5;
    return ::kevent_close(own) == 0 ? 0 : 6;
  });
  CHECK(end.exit_code == 0);
  CHECK(queue.silent());
}
