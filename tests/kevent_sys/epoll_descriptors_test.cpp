#include <keel/kevent_sys/epoll_descriptors.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>

#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using keel::unique_fd;
using keel::kevent_sys::epoll_set;
using keel::kevent_sys::watched_descriptor;
using keel::test::fd_pair;
using keel::test::unix_pair;

namespace {

constexpr std::uint64_t ms = 1'000'000;
constexpr std::uint64_t no_limit = ~std::uint64_t{0};

struct open_set : epoll_set {
  open_set() { REQUIRE(open()); }

  watched_descriptor& at(int fd) {
    watched_descriptor* d = get(fd);
    REQUIRE(d != nullptr);
    return *d;
  }
  enrolled enroll_in(int fd, bool exclusive = false) { return enroll(at(fd), EPOLLIN, exclusive); }
  // The number of edges there are, and the descriptor of the last one.
  int edges() {
    epoll_event events[8];
    const int n = wait(events, 8, 0);
    last = n > 0 ? of(events[n - 1]) : nullptr;
    return n;
  }

  watched_descriptor* last = nullptr;
};

std::uint64_t clock_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::uint64_t(now.tv_sec) * 1'000'000'000 + std::uint64_t(now.tv_nsec);
}

}  // namespace

TEST_CASE("epoll_set: what is ready already is an edge, and so is each change, once") {
  open_set set;
  const fd_pair pair = unix_pair();
  pair.put("x");
  CHECK(set.enroll_in(pair.ours.get()).error == 0);
  CHECK(set.edges() == 1);
  CHECK(set.last == set.find(pair.ours.get()));
  CHECK(set.edges() == 0);
  pair.put("y");
  CHECK(set.edges() == 1);
  CHECK(set.edges() == 0);
  CHECK(set.enroll_in(pair.ours.get()).error == 0);
  CHECK(set.edges() == 1);
}

TEST_CASE("epoll_set: a number that was never seen is unknown, and any may be got") {
  open_set set;
  CHECK(set.find(-1) == nullptr);
  CHECK(set.find(3) == nullptr);
  for (const int fd : {0, 63, 64, 100'000, INT_MAX}) {
    watched_descriptor* d = set.get(fd);
    if (d == nullptr) {
      CHECK(fd == INT_MAX);  // its table is large
      continue;
    }
    CHECK(d->fd == fd);
    CHECK(set.find(fd) == d);
  }
  CHECK(set.find(65) == set.find(64) + 1);
}

TEST_CASE("epoll_set: files that are always ready, and numbers that name nothing, are refused") {
  open_set set;
  const keel::test::temporary_folder folder;
  const unique_fd file(::open(folder.write("file", "contents").c_str(), O_RDONLY | O_CLOEXEC));
  CHECK(set.enroll_in(file.get()).error == -EPERM);
  CHECK(set.enroll_in(9999).error == -EBADF);
  CHECK(set.enroll_in(set.fd()).error == -EINVAL);
}

TEST_CASE("D2: epoll_set: the next enroll finds out that a number names another file") {
  open_set set;
  fd_pair first = unix_pair();
  const int number = first.ours.get();
  CHECK(!set.enroll_in(number).new_file);
  fd_pair second = unix_pair();
  REQUIRE(::dup2(second.ours.get(), number) == number);
  const auto enrolled = set.enroll_in(number);
  CHECK(enrolled.error == 0);
  CHECK(enrolled.new_file);
  second.put("x");
  CHECK(set.edges() == 1);
  CHECK(set.last == set.find(number));
}

TEST_CASE("D6: epoll_set: events of a file that lives on under another number are told apart") {
  open_set set;
  fd_pair first = unix_pair();
  const int number = first.ours.get();
  set.enroll_in(number);
  const unique_fd kept(::dup(number));
  fd_pair second = unix_pair();
  REQUIRE(::dup2(second.ours.get(), number) == number);
  CHECK(set.enroll_in(number).new_file);
  first.put("to the file that was");
  CHECK(set.edges() == 1);
  CHECK(set.last == nullptr);

  // The file of the past comes back to its number: nothing stands in its way.
  set.withdraw(set.at(number));
  REQUIRE(::dup2(kept.get(), number) == number);
  CHECK(set.enroll_in(number).error == 0);
  CHECK(set.edges() == 1);
  CHECK(set.last == set.find(number));
}

TEST_CASE(
    "epoll_set: a registration that was withdrawn has no events, and withdrawing again changes nothing") {
  open_set set;
  fd_pair pair = unix_pair();
  set.enroll_in(pair.ours.get());
  pair.put("x");
  set.withdraw(set.at(pair.ours.get()));
  set.withdraw(set.at(pair.ours.get()));
  CHECK(set.edges() == 0);
  const auto again = set.enroll_in(pair.ours.get());
  CHECK(again.error == 0);
  CHECK(!again.new_file);
  CHECK(set.edges() == 1);
}

TEST_CASE("epoll_set: a registration becomes exclusive and back, and where that is impossible it is not") {
  open_set set;
  fd_pair pair = unix_pair();
  const int fd = pair.ours.get();
  for (const bool exclusive : {false, true, true, false, true}) {
    CHECK(set.enroll_in(fd, exclusive).error == 0);
    CHECK(set.at(fd).exclusive == exclusive);
    pair.put("x");
    CHECK(set.edges() == 1);
    CHECK(set.last == set.find(fd));
  }
  CHECK(set.enroll(set.at(fd), EPOLLIN | EPOLLRDHUP, true).error == 0);
  CHECK(!set.at(fd).exclusive);
  const unique_fd inner(::epoll_create1(EPOLL_CLOEXEC));
  CHECK(set.enroll_in(inner.get(), true).error == 0);
  CHECK(!set.at(inner.get()).exclusive);
}

TEST_CASE("G4: epoll_set: waits are not early, with whole milliseconds neither") {
  for (const bool whole : {false, true}) {
    open_set set;
    if (whole) set.use_milliseconds();
    for (const std::uint64_t limit_ns : {std::uint64_t{1}, ms / 3, ms, 2 * ms + 1}) {
      epoll_event event{};
      const std::uint64_t start = clock_ns();
      CHECK(set.wait(&event, 1, limit_ns) == 0);
      CHECK(clock_ns() >= start + limit_ns);
    }
  }
  CHECK(epoll_set::milliseconds(0) == 0);
  CHECK(epoll_set::milliseconds(1) == 1);
  CHECK(epoll_set::milliseconds(ms) == 1);
  CHECK(epoll_set::milliseconds(ms + 1) == 2);
  CHECK(epoll_set::milliseconds(no_limit - 1) == INT_MAX);
  CHECK(epoll_set::milliseconds(no_limit) == -1);
}
