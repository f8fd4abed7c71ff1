// Waiting on a word of memory: through a ring, and with futex_waitv for kernels whose ring cannot.

#include <doctest/doctest.h>

#include <linux/futex.h>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <thread>

#include "kernel/raw_ring.hpp"

using namespace keel::test;

namespace {

constexpr int size_u32 = 2;  // FUTEX2_SIZE_U32
constexpr int whole_process = size_u32 | FUTEX_PRIVATE_FLAG;
constexpr long syscall_futex_waitv = 449;

void wait(raw_ring& ring, std::uint64_t number, const std::atomic<std::uint32_t>& word, std::uint32_t value) {
  auto& sqe = ring.ask(number, op_futex_wait, whole_process, &word);
  sqe.off = value;
  sqe.addr3 = FUTEX_BITSET_MATCH_ANY;
}

long wake(const std::atomic<std::uint32_t>& word, int count) {
  return ::syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
}

long wait_for_any(const std::vector<futex_waitv>& words, unsigned flags = 0) {
  timespec past{};
  ::clock_gettime(CLOCK_MONOTONIC, &past);
  return ::syscall(syscall_futex_waitv, words.data(), words.size(), flags, &past, CLOCK_MONOTONIC);
}

std::vector<futex_waitv> entries(const std::atomic<std::uint32_t>& word, std::size_t count,
                                 std::uint32_t value) {
  return std::vector<futex_waitv>(
      count, futex_waitv{value, reinterpret_cast<std::uintptr_t>(&word), unsigned{whole_process}, 0});
}

}  // namespace

TEST_CASE("futex: a wake of k completes exactly k waiters, the oldest first") {
  if (!can_use_opcode(op_futex_wait)) return;
  for (const unsigned flavour : both) {
    raw_ring ring(flavour);
    const std::atomic<std::uint32_t> word{7};
    for (std::uint64_t i = 1; i <= 5; ++i) wait(ring, i, word, 7);
    CHECK(ring.hear() == "");
    CHECK(wake(word, 2) == 2);
    CHECK(ring.hear() == "1=0 2=0");
    CHECK(wake(word, 1) == 1);
    CHECK(ring.hear() == "3=0");
    CHECK(wake(word, INT_MAX) == 2);
    CHECK(ring.hear() == "4=0 5=0");
    CHECK(wake(word, 1) == 0);
  }
}

TEST_CASE("futex: a word with another value answers EAGAIN") {
  if (!can_use_opcode(op_futex_wait)) return;
  raw_ring ring(owned);
  const std::atomic<std::uint32_t> word{7};
  wait(ring, 1, word, 8);
  CHECK(ring.hear() == "1=EAGAIN");
}

TEST_CASE("futex: a wait can be cancelled, and takes no token then") {
  if (!can_use_opcode(op_futex_wait)) return;
  raw_ring ring(owned);
  const std::atomic<std::uint32_t> word{7};
  wait(ring, 1, word, 7);
  wait(ring, 2, word, 7);
  ring.hear();
  ring.cancel(3, 1);
  // Other cancels by number answer 0.
  CHECK(ring.hear() == "1=ECANCELED 3=1");
  CHECK(wake(word, 1) == 1);
  CHECK(ring.hear() == "2=0");
}

TEST_CASE("futex: a token that a waiter has taken is not lost by a cancel") {
  if (!can_use_opcode(op_futex_wait)) return;
  raw_ring ring(owned);
  const std::atomic<std::uint32_t> word{7};
  wait(ring, 1, word, 7);
  ring.hear();
  CHECK(wake(word, 1) == 1);
  ring.cancel(2, 1);
  const std::string heard = ring.hear();
  CHECK((heard == "1=0 2=ENOENT" || heard == "1=0 2=EALREADY"));
}

TEST_CASE("futex: rings and threads wait in one line") {
  if (!can_use_opcode(op_futex_wait)) return;
  raw_ring first(owned);
  raw_ring last(owned);
  const std::atomic<std::uint32_t> word{7};
  wait(first, 1, word, 7);
  first.hear();
  std::atomic<pid_t> thread{0};
  std::thread waiter([&] {
    thread = static_cast<pid_t>(::syscall(SYS_gettid));
    ::syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 7, nullptr, nullptr, 0);
  });
  CHECK(until([&] { return thread != 0 && sleeps(thread); }));
  wait(last, 2, word, 7);
  last.hear();
  CHECK(wake(word, 1) == 1);
  CHECK(first.hear() == "1=0");
  CHECK(wake(word, 1) == 1);
  waiter.join();
  CHECK(last.hear() == "");
  CHECK(wake(word, 1) == 1);
  CHECK(last.hear() == "2=0");
}

TEST_CASE("futex_waitv: it takes 1 to 128 words") {
  const std::atomic<std::uint32_t> word{7};
  if (wait_for_any(entries(word, 1, 7)) == -1 && errno == ENOSYS) return skip("no futex_waitv (Linux 5.16)");
  CHECK((wait_for_any(entries(word, 1, 7)) == -1 && errno == ETIMEDOUT));
  CHECK((wait_for_any(entries(word, 128, 7)) == -1 && errno == ETIMEDOUT));
  CHECK((wait_for_any(entries(word, 129, 7)) == -1 && errno == EINVAL));
  CHECK((wait_for_any({}) == -1 && errno == EINVAL));
  CHECK((wait_for_any(entries(word, 1, 7), 1) == -1 && errno == EINVAL));
}

TEST_CASE("futex_waitv: a word with another value is EAGAIN, and a wake tells which word it was") {
  const std::atomic<std::uint32_t> first{7};
  const std::atomic<std::uint32_t> second{7};
  std::vector<futex_waitv> words = entries(first, 1, 7);
  words.push_back(entries(second, 1, 8).front());
  if (wait_for_any(words) == -1 && errno == ENOSYS) return skip("no futex_waitv (Linux 5.16)");
  CHECK((wait_for_any(words) == -1 && errno == EAGAIN));
  words.back().val = 7;
  long answer = -1;
  std::thread waiter([&] {
    answer = ::syscall(syscall_futex_waitv, words.data(), words.size(), 0, nullptr, CLOCK_MONOTONIC);
  });
  CHECK(until([&] { return wake(second, 1) == 1; }));
  waiter.join();
  CHECK(answer == 1);
}
