#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <cerrno>
#include <fcntl.h>
#include <type_traits>
#include <unistd.h>
#include <utility>

#include "support/death_test.hpp"

using keel::borrowed_fd;
using keel::unique_fd;

namespace {

int opened() {
  const int fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  REQUIRE(fd >= 0);
  return fd;
}

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) != -1; }

int number_of(borrowed_fd fd) { return fd.get(); }

}  // namespace

static_assert(!std::is_copy_constructible_v<unique_fd> && std::is_nothrow_move_constructible_v<unique_fd>);
static_assert(!std::is_convertible_v<int, unique_fd>, "owning a descriptor is said aloud");
static_assert(!std::is_convertible_v<unique_fd, int> && !std::is_convertible_v<unique_fd, bool>);

TEST_CASE("unique_fd: the descriptor is closed with its owner") {
  const int fd = opened();
  {
    const unique_fd owner(fd);
    CHECK(owner);
    CHECK(owner.get() == fd);
    CHECK(is_open(fd));
  }
  CHECK_FALSE(is_open(fd));
}

TEST_CASE("unique_fd: one that owns nothing is false, and closes nothing") {
  unique_fd nothing;
  CHECK_FALSE(nothing);
  CHECK(nothing.get() == -1);
  nothing.reset();
  CHECK(nothing.release() == -1);
}

TEST_CASE("unique_fd: a move hands the descriptor over") {
  const int fd = opened();
  unique_fd first(fd);
  unique_fd second = std::move(first);
  CHECK(second.get() == fd);

  unique_fd third(opened());
  const int replaced = third.get();
  third = std::move(second);

  CHECK(third.get() == fd);
  CHECK_FALSE(is_open(replaced));
  CHECK(is_open(fd));
}

TEST_CASE("unique_fd: assigned to itself it keeps its descriptor") {
  const int fd = opened();
  unique_fd owner(fd);
  unique_fd& same = owner;
  owner = std::move(same);
  CHECK(owner.get() == fd);
  CHECK(is_open(fd));
}

TEST_CASE("unique_fd: release gives the descriptor away, reset takes another") {
  unique_fd owner(opened());
  const int given_away = owner.release();
  CHECK_FALSE(owner);
  CHECK(is_open(given_away));

  owner.reset(given_away);
  const int other = opened();
  owner.reset(other);
  CHECK(owner.get() == other);
  CHECK_FALSE(is_open(given_away));
}

TEST_CASE("unique_fd: closing leaves errno alone") {
  unique_fd owner(opened());
  errno = ENOTTY;
  owner.reset();
  CHECK(errno == ENOTTY);
}

TEST_CASE("unique_fd: a descriptor that was closed behind its owner's back is noticed") {
  const auto close_twice = [] {
    unique_fd owner(opened());
    ::close(owner.get());
  };
  CHECK_DEATH(close_twice(), "the descriptor was closed behind its owner's back");
}

TEST_CASE("unique_fd: it can be lent, and comes back open") {
  const unique_fd owner(opened());
  CHECK(number_of(owner) == owner.get());
  CHECK(number_of(borrowed_fd(7)) == 7);
  CHECK(is_open(owner.get()));
}
