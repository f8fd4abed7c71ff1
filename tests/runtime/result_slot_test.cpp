#include <keel/runtime/result_slot.hpp>

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>

#include "support/death_test.hpp"
#include "support/tracked.hpp"

using keel::result_slot;
using keel::test::tracked;
using keel::test::tracked_balance;

TEST_CASE("result_slot: it is empty, then has a value, which is moved out") {
  const tracked_balance objects;
  result_slot<tracked> slot;
  CHECK(slot.empty());
  CHECK(!slot.has_value());
  CHECK(!slot.failed());
  slot.emplace(tracked(7));
  CHECK(slot.has_value());
  CHECK(slot.value().value == 7);
  const tracked taken = slot.take();
  CHECK(taken.value == 7);
}

TEST_CASE("result_slot: an exception is thrown by take(), and kept until then") {
  result_slot<std::string> slot;
  slot.fail(std::make_exception_ptr(std::runtime_error("why")));
  CHECK(slot.failed());
  CHECK(slot.error() != nullptr);
  CHECK_THROWS_AS(slot.take(), std::runtime_error);
}

TEST_CASE("result_slot: take_error leaves the slot empty") {
  result_slot<tracked> slot;
  slot.fail(std::make_exception_ptr(1));
  CHECK(slot.take_error() != nullptr);
  CHECK(slot.empty());
}

TEST_CASE("result_slot: void is a value, too") {
  result_slot<void> slot;
  CHECK(slot.empty());
  slot.emplace();
  CHECK(slot.has_value());
  slot.take();
}

TEST_CASE("result_slot: whatever it holds goes with it") {
  const tracked_balance objects;
  {
    result_slot<tracked> nothing;
    result_slot<tracked> value;
    value.emplace(1);
    result_slot<tracked> error;
    error.fail(std::make_exception_ptr(tracked(2)));
  }
}

TEST_CASE("result_slot: taking too early, filling twice and moving late are bugs") {
  CHECK_DEATH(result_slot<int>().take(), "a result was taken before there is one");
  CHECK_DEATH(
      [] {
        result_slot<int> slot;
        slot.emplace(1);
        slot.emplace(2);
      }(),
      "empty()");
  CHECK_DEATH(
      [] {
        result_slot<int> slot;
        slot.emplace(1);
        const result_slot<int> elsewhere(std::move(slot));
      }(),
      "a task that has started was moved");
}
