// The seed of a test's random data: random, printed with what fails, and accepted as KEEL_SEED.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <random>

namespace keel::test {

inline std::uint64_t chosen_seed() {
  const char* text = std::getenv("KEEL_SEED");
  return text != nullptr ? std::strtoull(text, nullptr, 0) : std::random_device()();
}

}  // namespace keel::test
