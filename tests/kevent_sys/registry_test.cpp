#include <keel/kevent_sys/registry.hpp>

#include <doctest/doctest.h>

#include <map>
#include <memory>
#include <random>
#include <vector>

#include "support/seed.hpp"

using keel::kevent_sys::registration;
using keel::kevent_sys::registry;
using keel::kevent_sys::shared_queue;

namespace {

ukevent with_key(std::uint32_t type, std::uint64_t id) {
  ukevent event{};
  event.type = type;
  event.id.raw_u64 = id;
  return event;
}

// No queue is ever asked for anything here.
shared_queue& no_queue() {
  alignas(64) static char somewhere[64];
  return reinterpret_cast<shared_queue&>(somewhere);
}

std::unique_ptr<registration> made(std::uint32_t type, std::uint64_t id) {
  return std::make_unique<registration>(no_queue(), with_key(type, id));
}

}  // namespace

TEST_CASE("registry: finds by type and id, and nothing else") {
  registry all;
  CHECK(all.find(1, 2) == nullptr);
  const auto r = made(1, 2);
  REQUIRE(all.reserve());
  all.insert(*r);
  CHECK(all.find(1, 2) == r.get());
  CHECK(all.find(2, 1) == nullptr);
  CHECK(all.find(2, 2) == nullptr);
  all.erase(*r);
  CHECK(all.find(1, 2) == nullptr);
}

TEST_CASE("registry: of equal keys the oldest is found") {
  registry all;
  std::vector<std::unique_ptr<registration>> twins;
  for (int i = 0; i < 200; ++i) {
    twins.push_back(made(2, 5));
    REQUIRE(all.reserve());
    all.insert(*twins.back());
  }
  for (const auto& twin : twins) {
    CHECK(all.find(2, 5) == twin.get());
    all.erase(*twin);
  }
}

TEST_CASE("registry: does what a map does, for any inserts and erases") {
  const std::uint64_t seed = keel::test::chosen_seed();
  INFO("KEEL_SEED=" << seed);
  std::mt19937_64 random(seed);
  std::map<std::uint64_t, std::unique_ptr<registration>> model;
  registry all;
  for (int i = 0; i < 30'000; ++i) {
    // Few numbers, and addresses: both kinds of ids exist.
    const std::uint64_t id = random() % 2 == 0 ? random() % 500 : 0x7f0000000000 + random() % 500 * 64;
    const auto known = model.find(id);
    REQUIRE(all.find(9, id) == (known == model.end() ? nullptr : known->second.get()));
    if (known == model.end()) {
      REQUIRE(all.reserve());
      all.insert(*(model[id] = made(9, id)));
    } else if (random() % 2 == 0) {
      all.erase(*known->second);
      model.erase(known);
    }
    REQUIRE(all.size() == model.size());
  }
  std::size_t seen = 0;
  all.for_each([&](registration&) { ++seen; });
  CHECK(seen == model.size());
  while (registration* any = all.any()) all.erase(*any);
  CHECK(all.size() == 0);
}
