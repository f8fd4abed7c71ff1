#include <doctest/doctest.h>
#include <keel/base/result.hpp>

#include <cerrno>
#include <memory>
#include <ostream>
#include <string>
#include <system_error>
#include <type_traits>
#include <utility>

#include "support/death_test.hpp"

using keel::errc;
using keel::failure;
using keel::result;

namespace {

// Counts its living objects.
struct counted {
  static inline int alive = 0;
  explicit counted(int given) : value(given) { ++alive; }
  counted(const counted& other) : value(other.value) { ++alive; }
  counted(counted&& other) noexcept : value(std::exchange(other.value, -1)) { ++alive; }
  ~counted() { --alive; }
  int value;
};

result<std::string> named(bool good) {
  if (!good) return errc::closed;
  return "a name";
}

}  // namespace

static_assert(keel::is_result<result<int>> && keel::is_result<result<void>> && !keel::is_result<int>);
static_assert(!std::is_copy_constructible_v<std::unique_ptr<int>> &&
              std::is_nothrow_move_constructible_v<result<std::unique_ptr<int>>>);
static_assert(!std::is_convertible_v<result<int>, bool>, "a result is tested, never counted");

TEST_CASE("result: holds the value it was given") {
  result<int> number = 42;

  CHECK(number.has_value());
  CHECK(bool(number));
  CHECK(*number == 42);
  CHECK(number.value() == 42);
  CHECK_FALSE(number.error());
  *number = 43;
  CHECK(std::as_const(number).value() == 43);
}

TEST_CASE("result: holds the error that took the value's place") {
  const result<int> code = errc::timed_out;
  const result<int> kernel = keel::kernel_error(ECONNRESET);
  const result<int> explained = failure(errc::closed, "recv");

  for (const auto* each : {&code, &kernel, &explained}) {
    CHECK_FALSE(each->has_value());
    CHECK_FALSE(bool(*each));
    CHECK(bool(each->error()));
  }
  CHECK(code.error() == errc::timed_out);
  CHECK(kernel.error() == std::errc::connection_reset);
  CHECK(explained.why().code == errc::closed);
  CHECK(std::string(explained.why().doing) == "recv");
  CHECK(code.why().doing == nullptr);
}

TEST_CASE("result: a function returns a value, what makes a value, or an error") {
  CHECK(*named(true) == "a name");
  CHECK(named(false).error() == errc::closed);
  CHECK(named(true)->size() == 6);
}

TEST_CASE("result: value() throws a system_error that says what was being tried") {
  result<int> failed = failure(keel::kernel_error(ECONNRESET), "recv");
  CHECK_THROWS_WITH_AS(failed.value(), "recv: Connection reset by peer", std::system_error);
  CHECK_THROWS_AS(std::as_const(failed).value(), std::system_error);
  CHECK_THROWS_AS(std::move(failed).value(), std::system_error);
  CHECK_THROWS_WITH_AS(result<void>(failure(errc::closed, "send")).value(), doctest::Contains("send: "),
                       std::system_error);
  CHECK_NOTHROW(result<void>().value());
}

TEST_CASE("result: value_or gives the value, or what was offered instead") {
  CHECK(result<int>(1).value_or(2) == 1);
  CHECK(result<int>(errc::closed).value_or(2) == 2);
  CHECK(named(false).value_or("nobody") == "nobody");
}

TEST_CASE("result: a value that can only move, moves") {
  result<std::unique_ptr<int>> made = std::make_unique<int>(7);
  result<std::unique_ptr<int>> moved = std::move(made);
  const std::unique_ptr<int> taken = *std::move(moved);
  CHECK(*taken == 7);
}

TEST_CASE("result: every value is destroyed once, whatever is assigned to what") {
  REQUIRE(counted::alive == 0);
  {
    result<counted> value = counted(1);
    const result<counted> other = counted(2);
    result<counted> error = errc::closed;
    CHECK(counted::alive == 2);

    error = other;
    CHECK(error->value == 2);
    value = errc::timed_out;
    CHECK(value.error() == errc::timed_out);
    CHECK(counted::alive == 2);
    value = std::move(error);
    CHECK(value->value == 2);
    value = std::as_const(value);
    CHECK(value->value == 2);
    const result<counted> copy = value;
    CHECK(copy->value == 2);
    CHECK(counted::alive == 4);
    value = result<counted>(errc::closed);
    value = result<counted>(errc::timed_out);
    CHECK(value.error() == errc::timed_out);
  }
  CHECK(counted::alive == 0);
}

TEST_CASE("result: a result of nothing is good unless it holds an error") {
  const result<void> good;
  CHECK(good.has_value());
  CHECK_FALSE(good.error());
  *good;

  const result<void> bad = errc::closed;
  CHECK_FALSE(bool(bad));
  CHECK(bad.error() == errc::closed);
  CHECK(bad.why().code == errc::closed);
}

TEST_CASE("result: who uses a value that is not there, or asks a success why it failed, is told") {
  result<int> failed = errc::closed;
  result<std::string> failed_text = errc::closed;
  const result<int> good = 1;
  CHECK_DEATH(*failed, "look at the result before you use its value");
  CHECK_DEATH(*std::move(failed), "look at the result before you use its value");
  CHECK_DEATH(failed_text->size(), "look at the result before you use its value");
  CHECK_DEATH(*result<void>(errc::closed), "look at the result before you use its value");
  CHECK_DEATH(good.why(), "a result with a value has no failure");
}

TEST_CASE("result: an error that is no error is refused") {
  CHECK_DEATH(result<int>(std::error_code()), "assertion failed: code");
  CHECK_DEATH(failure(std::error_code(), "recv"), "assertion failed: code");
  CHECK_DEATH(result<void>(std::error_code()), "assertion failed: code");
  CHECK_DEATH(result<void>().why(), "assertion failed: code");
}
