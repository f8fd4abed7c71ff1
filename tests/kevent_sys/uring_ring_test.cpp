#include <keel/kevent_sys/uring_ring.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <ctime>
#include <thread>

#include "support/descriptors.hpp"
#include "support/in_child.hpp"

using keel::kevent_sys::uring_ring;

namespace {

constexpr std::uint64_t no_limit = ~std::uint64_t{0};

struct enabled_ring : uring_ring {
  explicit enabled_ring(std::uint32_t size = 64) {
    REQUIRE(open({.entries = size}));
    REQUIRE(enable());
  }
  void nops(int count) {
    for (int i = 0; i < count; ++i) {
      io_uring_sqe* sqe = next_sqe();
      REQUIRE(sqe != nullptr);
      sqe->opcode = IORING_OP_NOP;
      sqe->user_data = ++asked;
    }
  }
  // Takes all completions that are there, and checks that they come in order.
  void reap() {
    while (const io_uring_cqe* cqe = peek()) {
      CHECK(cqe->user_data == ++answered);
      seen();
    }
  }
  std::uint64_t asked = 0;
  std::uint64_t answered = 0;
};

std::uint32_t entries_for(std::uint32_t wanted) {
  uring_ring ring;
  REQUIRE(ring.open({.entries = wanted}));
  return ring.entries();
}

std::uint64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return std::uint64_t(now.tv_sec) * 1'000'000'000 + std::uint64_t(now.tv_nsec);
}

}  // namespace

TEST_CASE("A11: uring_ring: sizes are powers of two between 64 and 16,384") {
  CHECK(entries_for(0) == 64);
  CHECK(entries_for(65) == 128);
  CHECK(entries_for(256) == 256);
  CHECK(entries_for(1u << 20) <= 16384);
}

TEST_CASE("uring_ring: nothing can be handed over before enable()") {
  uring_ring ring;
  REQUIRE(ring.open({.entries = 64}));
  CHECK_FALSE(ring.enabled());
  CHECK(ring.enter(0, 0) == -EBADFD);
  REQUIRE(ring.enable());
  CHECK(ring.enabled());
  CHECK(ring.enter(0, 0) == 0);
}

TEST_CASE("B1: uring_ring: a full submission queue says so, and is free again after an enter") {
  enabled_ring ring;
  ring.nops(64);
  CHECK(ring.unsubmitted() == 64);
  CHECK(ring.next_sqe() == nullptr);
  CHECK(ring.enter(0, 0) == 0);
  CHECK(ring.unsubmitted() == 0);
  ring.nops(1);
  CHECK(ring.enter(1, no_limit) == 0);
  ring.reap();
  CHECK(ring.answered == 65);
}

TEST_CASE("uring_ring: an entry is cleared before it is used again") {
  enabled_ring ring;
  for (int i = 0; i < 64; ++i) {
    io_uring_sqe* sqe = ring.next_sqe();
    sqe->opcode = IORING_OP_NOP;
    sqe->user_data = 7;
    sqe->buf_group = 9;
  }
  CHECK(ring.enter(0, 0) == 0);
  const io_uring_sqe* again = ring.next_sqe();
  CHECK(again->user_data == 0);
  CHECK(again->buf_group == 0);
}

TEST_CASE("B6: uring_ring: completions beyond the queue are announced, and none is lost or out of order") {
  enabled_ring ring;
  for (int i = 0; i < 10; ++i) {
    ring.nops(64);
    REQUIRE(ring.enter(0, 0) == 0);
  }
  CHECK(ring.ready() == 256);
  CHECK(ring.overflowed());
  CHECK(ring.work_pending());
  for (int i = 0; i < 10 && ring.answered < 640; ++i) {
    ring.reap();
    REQUIRE(ring.enter(0, 0) == 0);
  }
  CHECK(ring.answered == 640);
  CHECK_FALSE(ring.overflowed());
}

TEST_CASE("B3: uring_ring: a broken entry does not stop those behind it") {
  enabled_ring ring;
  ring.next_sqe()->opcode = 255;
  ring.nops(3);
  CHECK(ring.enter(0, 0) == 0);
  CHECK(ring.unsubmitted() == 0);
  REQUIRE(ring.peek() != nullptr);
  CHECK(ring.peek()->res == -EINVAL);
  ring.seen();
  ring.reap();
  CHECK(ring.answered == 3);
}

TEST_CASE("uring_ring: a wait ends at its time limit, and not before it") {
  enabled_ring ring;
  const std::uint64_t start = now_ns();
  CHECK(ring.enter(1, 3'000'000) == -ETIME);
  CHECK(now_ns() - start >= 3'000'000);
}

TEST_CASE("B13: uring_ring: another thread is refused") {
  enabled_ring ring;
  ring.nops(1);
  int answer = 0;
  std::thread([&] { answer = ring.enter(1, 1'000'000); }).join();
  CHECK(answer < 0);
  CHECK(answer != -ETIME);
  CHECK(ring.enter(1, no_limit) == 0);
  ring.reap();
  CHECK(ring.answered == 1);
}

TEST_CASE("I3: uring_ring: a forked child has no access to the rings of its parent") {
  enabled_ring ring;
  CHECK(keel::test::in_child([&] { return int(ring.unsubmitted()); }).signal == SIGSEGV);
  CHECK(keel::test::in_child([&] { return int(ring.raw()->sq.sqes[0].opcode); }).signal == SIGSEGV);
  ring.nops(1);
  CHECK(ring.enter(1, no_limit) == 0);
  ring.reap();
  CHECK(ring.answered == 1);
}

TEST_CASE("D7: uring_ring: its descriptor is CLOEXEC and closed at the end") {
  const std::size_t before = keel::test::open_descriptors();
  {
    enabled_ring ring;
    CHECK(keel::test::is_close_on_exec(ring.fd()));
    CHECK(keel::test::open_descriptors() == before + 1);
  }
  CHECK(keel::test::open_descriptors() == before);
}
