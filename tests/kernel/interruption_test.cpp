// What a completion does to another system call of the thread that submitted: the kernel hands the work to
// that thread as if it were a signal.

#include <doctest/doctest.h>

#include <linux/futex.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/time.h>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fstream>
#include <functional>
#include <iterator>
#include <thread>

#include "kernel/raw_ring.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

void ignore(int /*signal*/) {}

// Lets SIGUSR1 end system calls with EINTR while it lives.
class interrupting_signal {
 public:
  interrupting_signal() {
    struct sigaction now {};
    now.sa_handler = &ignore;
    ::sigaction(SIGUSR1, &now, &before_);
  }
  interrupting_signal(const interrupting_signal&) = delete;
  interrupting_signal& operator=(const interrupting_signal&) = delete;
  ~interrupting_signal() { ::sigaction(SIGUSR1, &before_, nullptr); }

 private:
  struct sigaction before_ {};
};

using system_call = std::function<long()>;

// Arms a poll in a thread that then sleeps in `call`; fires the poll; says whether `call` returned by that.
// If it did not, a signal ends it.
bool ends_call(unsigned flags, const system_call& call) {
  raw_ring ring(flags, 64, 0, false);
  REQUIRE(ring.error() == 0);
  const fd_pair pair = unix_pair();
  const interrupting_signal ending;
  std::atomic<pid_t> thread{0};
  std::atomic<bool> done{false};
  std::atomic<bool> signalled{false};
  bool by_itself = false;
  long answer = 0;
  int error = 0;
  std::thread sleeper([&] {
    if ((flags & IORING_SETUP_R_DISABLED) != 0) ring.enable();
    ring.poll(1, pair.ours.get(), POLLIN);
    ring.submit();
    thread = static_cast<pid_t>(::syscall(SYS_gettid));
    answer = call();
    error = errno;
    by_itself = !signalled;
    done = true;
  });
  CHECK(until([&] { return thread != 0 && sleeps(thread); }));
  pair.put("x");
  // Deferred work stays where it is.
  const bool deferred = (flags & IORING_SETUP_DEFER_TASKRUN) != 0;
  CHECK(until([&] { return deferred || done || io_uring_cq_ready(ring.raw()) != 0; }));
  CHECK(until([&] { return sleeps(thread) || done; }));
  signalled = true;
  while (!done) {
    ::pthread_kill(sleeper.native_handle(), SIGUSR1);
    ::sched_yield();
  }
  sleeper.join();
  CHECK(answer == -1);
  CHECK(error == EINTR);
  return by_itself;
}

struct named_call {
  std::string name;
  bool restarted;  // by the kernel, without the caller seeing it
  system_call call;
};

constexpr timespec long_time{60, 0};

std::vector<named_call> calls(const fd_pair& pair, int set, int tcp) {
  const int fd = pair.ours.get();
  static std::uint32_t word;
  static char byte;
  static epoll_event event;
  const auto futex = [](const timespec* limit) {
    return ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, limit, nullptr, 0);
  };
  return {
      {"epoll_wait", false, [set] { return ::epoll_wait(set, &event, 1, -1); }},
      {"epoll_wait with a limit", false, [set] { return ::epoll_wait(set, &event, 1, 60'000); }},
      {"poll", true,
       [fd] {
         pollfd one{fd, POLLIN, 0};
         return ::poll(&one, 1, -1);
       }},
      {"poll with a limit", true,
       [fd] {
         pollfd one{fd, POLLIN, 0};
         return ::poll(&one, 1, 60'000);
       }},
      {"ppoll", true,
       [fd] {
         pollfd one{fd, POLLIN, 0};
         return ::ppoll(&one, 1, &long_time, nullptr);
       }},
      {"select", true,
       [] {
         timeval limit{60, 0};
         return ::select(0, nullptr, nullptr, nullptr, &limit);
       }},
      {"a relative sleep", true,
       [] { return ::syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &long_time, nullptr); }},
      {"a futex wait", true, [futex] { return futex(nullptr); }},
      {"a futex wait with a limit", true, [futex] { return futex(&long_time); }},
      {"read", true, [fd] { return ::read(fd, &byte, 1); }},
      {"recv", true, [tcp] { return ::recv(tcp, &byte, 1, 0); }},
      {"recv with SO_RCVTIMEO", false,
       [tcp] {
         const timeval limit{60, 0};
         ::setsockopt(tcp, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
         return ::recv(tcp, &byte, 1, 0);
       }},
      {"sigtimedwait", false,
       [] {
         sigset_t none;
         ::sigemptyset(&none);
         ::sigaddset(&none, SIGUSR2);
         return ::sigtimedwait(&none, nullptr, &long_time);
       }},
  };
}

template <class Check>
void with_each_call(Check check) {
  const fd_pair pair = pipe_pair();
  const fd_pair tcp = tcp_pair();
  ::fcntl(tcp.ours.get(), F_SETFL, 0);
  const keel::unique_fd set(::epoll_create1(EPOLL_CLOEXEC));
  for (const named_call& call : calls(pair, set.get(), tcp.ours.get())) {
    CAPTURE(call.name);
    check(call);
  }
}

}  // namespace

TEST_CASE(
    "interruption: a completion of a plain ring ends epoll_wait with EINTR, and restarts most other calls") {
  if (!can_use_rings()) return;
  with_each_call([](const named_call& call) { CHECK(ends_call(shared, call.call) != call.restarted); });
}

TEST_CASE("interruption: COOP_TASKRUN does not spare a call that sleeps") {
  if (!can_use_rings()) return;
  with_each_call([](const named_call& call) {
    CHECK(ends_call(IORING_SETUP_COOP_TASKRUN, call.call) != call.restarted);
  });
}

TEST_CASE("interruption: a ring with deferred work interrupts nothing") {
  if (!can_use_rings()) return;
  with_each_call([](const named_call& call) { CHECK_FALSE(ends_call(owned, call.call)); });
}

// So EINTR needs no signal, and comes late: the kernel takes a ring apart in the background.
TEST_CASE("interruption: the end of a ring ends a later epoll_wait of a thread that used it with EINTR") {
  if (!can_use_rings()) return;
  const keel::unique_fd set(::epoll_create1(EPOLL_CLOEXEC));
  for (const unsigned flavour : both) {
    bool interrupted = false;
    for (int i = 0; i < 40 && !interrupted; ++i) {
      {
        raw_ring ring(flavour);
        ring.nop(1);
        CHECK(ring.hear() == "1=0");
      }
      epoll_event event{};
      interrupted = ::epoll_wait(set.get(), &event, 1, 100) == -1 && errno == EINTR;
    }
    CHECK(interrupted);
  }
}
