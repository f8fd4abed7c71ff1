#include <doctest/doctest.h>
#include <keel/base/assert.hpp>

#include "support/death_test.hpp"

namespace {

int calls = 0;

bool count_and_return(bool value) {
  ++calls;
  return value;
}

struct truth {
  explicit operator bool() const { return true; }
};

}  // namespace

TEST_CASE("assert: a condition that holds is evaluated once, and nothing else happens") {
  calls = 0;
  KEEL_ASSERT(count_and_return(true));
  KEEL_ASSERT(count_and_return(true), "never read");
  CHECK(calls == 2);
}

TEST_CASE("assert: a condition that does not hold aborts and says where, what and why") {
  const auto seen = keel::test::death_of([] { KEEL_ASSERT(1 + 1 == 3, "learn to count"); });

  CHECK(seen.aborted);
  for (const char* part : {"keel: ", "assert_test.cpp:", "assertion failed: 1 + 1 == 3: learn to count\n"}) {
    CAPTURE(part);
    CHECK(seen.said.find(part) != std::string::npos);
  }
}

TEST_CASE("assert: without a reason the line ends with the condition") {
  CHECK_DEATH(KEEL_ASSERT(count_and_return(false)), "assertion failed: count_and_return(false)\n");
}

TEST_CASE("assert: anything that is a condition in an if may be asserted, also within an expression") {
  KEEL_ASSERT(truth());
  const int* pointer = &calls;
  KEEL_ASSERT(pointer);
  const int value = (KEEL_ASSERT(true), 5);
  CHECK(value == 5);
}
