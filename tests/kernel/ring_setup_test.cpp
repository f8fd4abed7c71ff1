// Making a ring, and whose it is: threads, forks, limits.

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/resource.h>
#include <csignal>
#include <functional>
#include <memory>
#include <thread>

#include "kernel/raw_ring.hpp"
#include "support/build.hpp"
#include "support/fd_pairs.hpp"
#include "support/forbid_io_uring.hpp"
#include "support/in_child.hpp"

using namespace keel::test;

namespace {

constexpr std::uint8_t no_such_opcode = 250;

template <class Action>
void in_thread(Action action) {
  std::thread(action).join();
}

}  // namespace

TEST_CASE("B13: setup: a ring with a single issuer answers EEXIST to other threads") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  ring.nop(1);
  int answer = 0;
  in_thread([&] { answer = ring.submit(); });
  CHECK(answer == -EEXIST);
  in_thread([&] { answer = io_uring_get_events(ring.raw()); });
  CHECK(answer == -EEXIST);
  CHECK(ring.hear() == "1=0");
}

TEST_CASE(
    "I3: setup: a forked child cannot use a ring with a single issuer, but a plain one is shared with it") {
  if (!can_use_rings()) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    const child_end child = in_child([&] {
      ring.nop(7);
      const int answer = ring.submit();
      return answer < 0 ? -answer : 100 + answer;
    });
    CHECK(child.exit_code == (flavour == owned ? EEXIST : 101));
    // The child moved the tails that both share.
    if (flavour == shared) CHECK(ring.hear(1) == "7=0");
  }
}

TEST_CASE("setup: a disabled ring takes nothing until it is enabled, and then belongs to who enabled it") {
  if (!can_use_rings()) return;
  raw_ring ring(owned, 64, 0, false);
  ring.nop(1);
  CHECK(ring.submit() == -EBADFD);
  int enabled = -1;
  int enabled_again = 0;
  int submitted = 0;
  in_thread([&] {
    enabled = ring.enable();
    enabled_again = ring.enable();
    submitted = ring.submit();
    io_uring_get_events(ring.raw());
  });
  CHECK(enabled == 0);
  CHECK(enabled_again == -EBADFD);
  CHECK(submitted == 1);
  CHECK(ring.take().size() == 1);
  ring.nop(2);
  CHECK(ring.submit() == -EEXIST);
}

TEST_CASE("C10: setup: a request of a thread that has ended answers ECANCELED when it would have fired") {
  if (!can_use_rings()) return;
  raw_ring ring(shared);
  const fd_pair pair = unix_pair();
  in_thread([&] {
    ring.poll(1, pair.ours.get(), POLLIN);
    ring.submit();
  });
  std::string heard = ring.hear();
  if (heard.empty()) {
    pair.put("x");
    heard = ring.hear(1);
  }
  CHECK(heard == "1=ECANCELED");
}

TEST_CASE("B3: setup: a bad entry stops the batch, unless SUBMIT_ALL is set") {
  if (!can_use_rings()) return;
  for (const bool all : {false, true}) {
    raw_ring ring(owned | (all ? unsigned{IORING_SETUP_SUBMIT_ALL} : 0u));
    ring.ask(1, no_such_opcode, -1);
    ring.nop(2);
    CHECK(ring.submit() == (all ? 2 : 1));
    CHECK(io_uring_sq_ready(ring.raw()) == (all ? 0u : 1u));
    CHECK(ring.hear() == "1=EINVAL 2=0");
  }
}

TEST_CASE("A9: setup: where new rings are forbidden later, those that exist go on") {
  if (!can_use_rings()) return;
  const child_end child = in_child([] {
    raw_ring before(owned);
    if (!forbid_io_uring({.setup = true}, EPERM)) return 99;
    if (raw_ring(owned).error() != -EPERM) return 1;
    before.nop(1);
    return before.hear(1) == "1=0" ? 0 : 2;
  });
  if (child.exit_code == 99) return skip("seccomp filters are refused here");
  CHECK(child.exit_code == 0);
}

TEST_CASE(
    "L3: setup: a ring can be restricted to some operations before it is enabled, and not widened after") {
  if (!can_use_rings()) return;
  raw_ring ring(owned, 64, 0, false);
  io_uring_restriction allowed[2]{};
  allowed[0].opcode = IORING_RESTRICTION_SQE_OP;
  allowed[0].sqe_op = IORING_OP_NOP;
  allowed[1].opcode = IORING_RESTRICTION_REGISTER_OP;
  allowed[1].register_op = IORING_REGISTER_ENABLE_RINGS;
  REQUIRE(ring.registering(IORING_REGISTER_RESTRICTIONS, allowed, 2) == 0);
  REQUIRE(ring.enable() == 0);
  ring.nop(1);
  ring.ask(2, IORING_OP_OPENAT, AT_FDCWD, "/dev/null");
  CHECK(ring.hear() == "1=0 2=EACCES");
  CHECK(ring.registering(IORING_REGISTER_RESTRICTIONS, allowed, 2) == -EACCES);
}

TEST_CASE("A6: setup: flags that the kernel does not know are EINVAL") {
  if (!can_use_rings()) return;
  CHECK(raw_ring(1u << 31).error() == -EINVAL);
  CHECK(raw_ring(IORING_SETUP_DEFER_TASKRUN).error() == -EINVAL);
}

TEST_CASE("setup: the kernel keeps completions that find no room, and takes a time limit with an enter") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  CHECK((ring.raw()->features & IORING_FEAT_NODROP) != 0);
  CHECK((ring.raw()->features & IORING_FEAT_EXT_ARG) != 0);
  CHECK((ring.raw()->features & IORING_FEAT_SINGLE_MMAP) != 0);
}

TEST_CASE("A4: setup: rings of an unprivileged user count against RLIMIT_MEMLOCK") {
  if (!can_use_rings()) return;
  if (::getuid() != 0) return skip("it takes root to become another user");
  if (sanitized) return skip("a sanitizer's memory does not fit under the limit");
  const child_end child = in_child([] {
    const rlimit little{65536, 65536};
    if (::setrlimit(RLIMIT_MEMLOCK, &little) != 0 || ::setuid(65534) != 0) return 99;
    std::vector<std::unique_ptr<raw_ring>> rings;
    for (int i = 0; i < 50; ++i) {
      rings.push_back(std::make_unique<raw_ring>(owned, 256));
      const int error = rings.back()->error();
      if (error != 0) return error == -ENOMEM ? i : 98;
    }
    return 97;
  });
  CHECK(child.exit_code <= 8);
}

TEST_CASE("setup: a request with a bad address answers EFAULT, and never raises a signal") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const fd_pair pair = unix_pair();
  pair.put("x");
  ring.ask(1, IORING_OP_RECV, pair.ours.get(), reinterpret_cast<void*>(8), 1);
  ring.ask(2, IORING_OP_WRITE, pair.ours.get(), reinterpret_cast<void*>(8), 1);
  ring.ask(3, IORING_OP_RECV, -1, nullptr, 1);
  ring.ask(4, IORING_OP_POLL_ADD, 1 << 30);
  CHECK(ring.hear() == "1=EFAULT 2=EFAULT 3=EBADF 4=EBADF");
}

TEST_CASE("D7: setup: the descriptor of a ring has close-on-exec set") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  CHECK((::fcntl(ring.fd(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("D7: setup: an open through the ring is closed by exec only if asked") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  for (const int flags : {0, O_CLOEXEC}) {
    auto& sqe = ring.ask(1, IORING_OP_OPENAT, AT_FDCWD, "/dev/null");
    sqe.open_flags = std::uint32_t(O_RDONLY | flags);
    const auto answers = ring.collect(1);
    REQUIRE(answers.size() == 1);
    const keel::unique_fd file(answers[0].res);
    REQUIRE(file);
    CHECK(((::fcntl(file.get(), F_GETFD) & FD_CLOEXEC) != 0) == (flags != 0));
  }
}
