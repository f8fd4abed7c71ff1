#include <keel/runtime/fifo.hpp>

#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <ostream>
#include <random>
#include <stdexcept>

#include "support/seed.hpp"
#include "support/tracked.hpp"

using keel::fifo;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

// The address of the value that moves; throws when told to.
struct stays {
  explicit stays(int number) : value(number) {}
  stays(stays&& other) : value(other.value) {
    if (value < 0) throw std::runtime_error("a move");
    ++moves;
  }
  int value;
  static inline int moves = 0;
};

template <class T>
void compare_with_deque(std::size_t room) {
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  CAPTURE(room);
  std::mt19937_64 random(seed);
  fifo<T> queue;
  queue.reserve(room);
  std::deque<int> model;
  int next = 0;
  std::size_t most = 40;
  for (int step = 0; step < 20'000; ++step) {
    if (step % 1000 == 0) most = room != 0 ? room : random() % 500 + 1;
    if (model.size() < most && random() % 2 == 0) {
      queue.push(T(next));
      model.push_back(next++);
    } else if (!model.empty()) {
      REQUIRE(queue.front().value == model.front());
      queue.pop();
      model.pop_front();
    }
    REQUIRE(queue.size() == model.size());
    REQUIRE(queue.empty() == model.empty());
  }
}

struct alignas(64) wide {
  explicit wide(int number) : value(number) {}
  int value;
};

}  // namespace

TEST_CASE("fifo: what goes in comes out in the same order, whatever the room") {
  const tracked_balance balance;
  for (const std::size_t room : {0u, 1u, 2u, 7u, 8u, 9u, 64u, 65u, 200u}) {
    compare_with_deque<tracked>(room);
    compare_with_deque<wide>(room);
  }
}

TEST_CASE("fifo: it grows without moving what is in it") {
  fifo<stays> queue;
  stays::moves = 0;
  for (int i = 0; i < 1000; ++i) queue.push(stays(i));
  CHECK(stays::moves == 1000);
  for (int i = 0; i < 1000; ++i, queue.pop()) CHECK(queue.front().value == i);
}

TEST_CASE("fifo: a move that throws changes nothing") {
  for (int before = 0; before < 200; ++before) {
    fifo<stays> queue;
    for (int i = 0; i < before; ++i) queue.push(stays(i));
    CHECK_THROWS_AS(queue.push(stays(-1)), std::runtime_error);
    CHECK(queue.size() == std::size_t(before));
    queue.push(stays(before));
    for (int i = 0; i <= before; ++i, queue.pop()) REQUIRE(queue.front().value == i);
    CHECK(queue.empty());
  }
}

TEST_CASE("fifo: values are aligned") {
  fifo<wide> queue;
  for (int i = 0; i < 20; ++i) queue.push(wide(i));
  CHECK(reinterpret_cast<std::uintptr_t>(&queue.front()) % 64 == 0);
}
