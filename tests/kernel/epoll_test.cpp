// epoll, which the other engine is made of.

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <ctime>
#include <thread>

#include "kernel/raw_ring.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

struct epoll_set {
  epoll_set() : fd(::epoll_create1(EPOLL_CLOEXEC)) { REQUIRE(fd); }
  // 0 or an error number.
  int control(int action, int watched, unsigned mask) const {
    epoll_event event{};
    event.events = mask;
    event.data.fd = watched;
    return ::epoll_ctl(fd.get(), action, watched, &event) == 0 ? 0 : errno;
  }
  int add(int watched, unsigned mask) const { return control(EPOLL_CTL_ADD, watched, mask); }
  int change(int watched, unsigned mask) const { return control(EPOLL_CTL_MOD, watched, mask); }
  int ready() const {
    epoll_event events[8];
    return ::epoll_wait(fd.get(), events, 8, 0);
  }
  keel::unique_fd fd;
};

long long now_ns() {
  timespec at{};
  ::clock_gettime(CLOCK_MONOTONIC, &at);
  return at.tv_sec * 1'000'000'000ll + at.tv_nsec;
}

}  // namespace

TEST_CASE("D6: epoll: a descriptor that is closed is forgotten without a word") {
  const epoll_set set;
  fd_pair pair = unix_pair();
  const int number = pair.ours.get();
  pair.put("x");
  REQUIRE(set.add(number, EPOLLIN) == 0);
  CHECK(set.ready() == 1);
  pair.ours.reset();
  CHECK(set.ready() == 0);
  CHECK(set.change(number, EPOLLIN) == EBADF);
}

TEST_CASE("D6: epoll: a descriptor that is closed and lives on as a duplicate is still reported, for ever") {
  const epoll_set set;
  fd_pair pair = unix_pair();
  const int number = pair.ours.get();
  const keel::unique_fd duplicate(::fcntl(number, F_DUPFD_CLOEXEC, 0));
  REQUIRE(set.add(number, EPOLLIN) == 0);
  pair.ours.reset();
  pair.put("x");
  CHECK(set.ready() == 1);
  CHECK(set.control(EPOLL_CTL_DEL, number, 0) == EBADF);
  CHECK(set.control(EPOLL_CTL_DEL, duplicate.get(), 0) == ENOENT);
  CHECK(set.ready() == 1);
}

TEST_CASE("epoll: a regular file cannot be watched") {
  const epoll_set set;
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(set.add(file.get(), EPOLLIN) == EPERM);
}

TEST_CASE("epoll: EPOLLEXCLUSIVE is for ADD, with few other bits, and stays as it is") {
  const epoll_set set;
  const fd_pair pair = unix_pair();
  const int fd = pair.ours.get();
  constexpr unsigned exclusive = EPOLLEXCLUSIVE;
  CHECK(set.add(fd, exclusive | EPOLLIN | EPOLLONESHOT) == EINVAL);
  CHECK(set.add(fd, exclusive | EPOLLIN | EPOLLRDHUP) == EINVAL);
  CHECK(set.add(fd, exclusive | EPOLLIN | EPOLLPRI) == EINVAL);
  CHECK(set.add(fd, exclusive | EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP | EPOLLET | EPOLLWAKEUP) == 0);
  CHECK(set.change(fd, EPOLLIN) == EINVAL);
  CHECK(set.change(fd, exclusive | EPOLLIN) == EINVAL);
  CHECK(set.control(EPOLL_CTL_DEL, fd, 0) == 0);
  CHECK(set.add(fd, EPOLLIN) == 0);
  CHECK(set.change(fd, exclusive | EPOLLIN) == EINVAL);

  const epoll_set other;
  CHECK(set.add(other.fd.get(), exclusive | EPOLLIN) == EINVAL);
  CHECK(set.add(other.fd.get(), EPOLLIN) == 0);
}

TEST_CASE("epoll: of two threads that sleep in sets with EPOLLEXCLUSIVE one hears") {
  const fd_pair pair = unix_pair();
  const keel::unique_fd end(::eventfd(0, EFD_CLOEXEC));
  struct sleeper {
    explicit sleeper(int watched, int end) : thread([this] { run(); }) {
      REQUIRE(set.add(watched, EPOLLIN | EPOLLEXCLUSIVE) == 0);
      REQUIRE(set.add(end, EPOLLIN) == 0);
      ready = true;
    }
    void run() {
      CHECK(until([&] { return ready.load(); }));
      id = static_cast<pid_t>(::syscall(SYS_gettid));
      epoll_event event{};
      if (::epoll_wait(set.fd.get(), &event, 1, int(patience_s) * 1000) == 1) heard = event.data.fd;
    }
    epoll_set set;
    std::atomic<bool> ready{false};
    std::atomic<pid_t> id{0};
    std::atomic<int> heard{-1};
    std::thread thread;
  };
  sleeper a(pair.ours.get(), end.get());
  sleeper b(pair.ours.get(), end.get());
  CHECK(until([&] { return a.id != 0 && sleeps(a.id) && b.id != 0 && sleeps(b.id); }));
  pair.put("x");
  CHECK(until([&] { return a.heard != -1 || b.heard != -1; }));
  REQUIRE(::eventfd_write(end.get(), 1) == 0);
  a.thread.join();
  b.thread.join();
  CHECK((a.heard == pair.ours.get()) != (b.heard == pair.ours.get()));
}

// So sets share an object's events only while somebody sleeps in each of them. A ring has no such exception.
TEST_CASE("epoll: of two sets with EPOLLEXCLUSIVE in which nobody sleeps both hear") {
  const fd_pair pair = unix_pair();
  const epoll_set a;
  const epoll_set b;
  REQUIRE(a.add(pair.ours.get(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLET) == 0);
  REQUIRE(b.add(pair.ours.get(), EPOLLIN | EPOLLEXCLUSIVE | EPOLLET) == 0);
  pair.put("x");
  CHECK(a.ready() == 1);
  CHECK(b.ready() == 1);
}

TEST_CASE("epoll: an edge is told once, and MOD tells again of what is ready") {
  const epoll_set set;
  const fd_pair pair = unix_pair();
  REQUIRE(set.add(pair.ours.get(), EPOLLIN | EPOLLET) == 0);
  pair.put("x");
  CHECK(set.ready() == 1);
  CHECK(set.ready() == 0);
  pair.put("y");
  CHECK(set.ready() == 1);
  CHECK(set.ready() == 0);
  CHECK(set.change(pair.ours.get(), EPOLLIN | EPOLLET) == 0);
  CHECK(set.ready() == 1);
}

TEST_CASE("epoll: an eventfd that nobody reads is an edge with each write") {
  const epoll_set set;
  const keel::unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  REQUIRE(set.add(event.get(), EPOLLIN | EPOLLET) == 0);
  for (int i = 0; i < 10; ++i) {
    REQUIRE(::eventfd_write(event.get(), 1) == 0);
    CHECK(set.ready() == 1);
    CHECK(set.ready() == 0);
  }
}

TEST_CASE("G4: epoll: epoll_pwait2 counts in nanoseconds, and is never early") {
  const epoll_set set;
  epoll_event event{};
  const timespec none{};
  if (::epoll_pwait2(set.fd.get(), &event, 1, &none, nullptr) == -1 && errno == ENOSYS)
    return skip("no epoll_pwait2 (Linux 5.11)");
  long long shortest_ns = 1'000'000'000;
  // In a thread that never used a ring: the end of a ring interrupts, too (interruption_test.cpp).
  std::thread([&] {
    for (int i = 0; i < 20; ++i) {
      const timespec limit{0, 200'000};
      const long long start = now_ns();
      CHECK(::epoll_pwait2(set.fd.get(), &event, 1, &limit, nullptr) == 0);
      const long long took = now_ns() - start;
      CHECK(took >= limit.tv_nsec);
      shortest_ns = std::min(shortest_ns, took);
    }
  }).join();
  // A call that counts in milliseconds would take a whole one.
  CHECK(shortest_ns < 1'000'000);
}

TEST_CASE("timerfd: it is readable from its time until it is read or set again") {
  for (const bool by_setting : {false, true}) {
    CAPTURE(by_setting);
    const keel::unique_fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    const epoll_set set;
    REQUIRE(set.add(timer.get(), EPOLLIN) == 0);
    CHECK(set.ready() == 0);
    itimerspec value{};
    value.it_value.tv_nsec = 1;
    REQUIRE(::timerfd_settime(timer.get(), 0, &value, nullptr) == 0);
    CHECK(until([&] { return set.ready() == 1; }));
    CHECK(set.ready() == 1);
    if (by_setting) {
      value.it_value = {3600, 0};
      REQUIRE(::timerfd_settime(timer.get(), 0, &value, nullptr) == 0);
    } else {
      std::uint64_t count = 0;
      REQUIRE(::read(timer.get(), &count, sizeof count) == sizeof count);
      CHECK(count == 1);
    }
    CHECK(set.ready() == 0);
  }
}

TEST_CASE("timerfd: an absolute time that has passed fires at once") {
  const keel::unique_fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  itimerspec value{};
  value.it_value.tv_nsec = 1;
  REQUIRE(::timerfd_settime(timer.get(), TFD_TIMER_ABSTIME, &value, nullptr) == 0);
  pollfd one{timer.get(), POLLIN, 0};
  CHECK(::poll(&one, 1, int(patience_s) * 1000) == 1);
}
