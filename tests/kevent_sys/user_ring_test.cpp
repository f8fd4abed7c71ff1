#include <keel/kevent_sys/user_ring.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <cstring>
#include <random>
#include <vector>

#include "support/seed.hpp"

using keel::kevent_sys::user_ring;

namespace {

// A ring of `n` entries, and its producer.
struct ringed {
  explicit ringed(std::uint32_t n) : memory(1 + 5 * n), ring(header(), n) {}
  kevent_ring* header() { return reinterpret_cast<kevent_ring*>(memory.data()); }
  const ukevent& entry(std::uint32_t i) { return reinterpret_cast<ukevent*>(header() + 1)[i]; }
  void push(std::uint64_t id) {
    ukevent event{};
    event.id.raw_u64 = id;
    ring.push(event);
  }

  std::vector<std::uint64_t> memory;
  user_ring ring;
};

}  // namespace

TEST_CASE("user_ring: entries stand where the index said the next one would") {
  ringed r(4);
  r.push(7);
  CHECK(r.header()->ring_kidx == 1);
  CHECK(r.entry(0).id.raw_u64 == 7);
  for (const auto id : {8u, 9u, 10u}) r.push(id);
  CHECK(r.header()->ring_kidx == 0);
  CHECK(r.ring.room() == 0);
  CHECK(r.entry(3).id.raw_u64 == 10);
}

TEST_CASE("user_ring: a full ring takes two commits, and the second one counts the wrap") {
  ringed r(4);
  for (const auto id : {1u, 2u, 3u, 4u}) r.push(id);
  CHECK(r.ring.commit(0, 0) == 0);
  CHECK(r.ring.commit(3, 0) == 3);
  CHECK(r.ring.commit(0, 0) == 1);
  CHECK(r.header()->ring_over == 1);
  CHECK(r.ring.commit(2, 0) == -EOVERFLOW);
  CHECK(r.ring.room() == 4);
}

TEST_CASE("K8: user_ring: no commit goes backward, or beyond what was produced") {
  ringed r(4);
  r.push(1);
  r.push(2);
  CHECK(r.ring.commit(4, 0) == -EINVAL);
  CHECK(r.ring.commit(3, 0) == -EINVAL);
  CHECK(r.ring.commit(2, 1) == -EOVERFLOW);
  CHECK(r.ring.commit(2, 0) == 2);
  CHECK(r.ring.commit(2, 0) == 0);
  CHECK(r.ring.commit(1, 0) == -EINVAL);
  CHECK(r.ring.consumer_index() == 2);
}

TEST_CASE("user_ring: never frees more than was pushed, whatever is committed") {
  const std::uint64_t seed = keel::test::chosen_seed();
  INFO("KEEL_SEED=" << seed);
  std::mt19937_64 random(seed);
  for (const std::uint32_t n : {2u, 3u, 5u, 64u}) {
    ringed r(n);
    std::uint64_t pushed = 0;
    std::uint64_t freed = 0;
    for (int i = 0; i < 20'000; ++i) {
      if (r.ring.room() > 0 && random() % 2 == 0) {
        r.push(++pushed);
      } else {
        const int answer = r.ring.commit(std::uint32_t(random() % (n + 1)),
                                         r.header()->ring_over + std::uint32_t(random() % 2));
        if (answer > 0) freed += std::uint64_t(answer);
      }
      REQUIRE(freed <= pushed);
      REQUIRE(pushed - freed == n - r.ring.room());
      REQUIRE(r.header()->ring_kidx == pushed % n);
      REQUIRE(r.header()->ring_over == freed / n);
    }
  }
}
