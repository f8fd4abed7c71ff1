#include <doctest/doctest.h>
#include <keel/base/chrono.hpp>

#include <cstdint>
#include <type_traits>

// The names are those of the standard: a user's own <chrono> fits.
static_assert(std::is_same_v<keel::nanoseconds, std::chrono::nanoseconds>);
static_assert(std::is_same_v<keel::nanoseconds::period, std::nano>);
static_assert(sizeof(keel::nanoseconds::rep) == sizeof(std::int64_t));

TEST_CASE("chrono: longer units become shorter ones by themselves") {
  const keel::nanoseconds from_seconds = keel::seconds(2);
  const keel::nanoseconds from_milliseconds = keel::milliseconds(3);
  CHECK(from_seconds.count() == 2'000'000'000);
  CHECK(from_milliseconds.count() == 3'000'000);
}

TEST_CASE("chrono: shorter units become longer ones only by a cast, which says that it rounds") {
  CHECK_FALSE(std::is_convertible_v<keel::nanoseconds, keel::milliseconds>);
  CHECK(std::chrono::duration_cast<keel::milliseconds>(keel::nanoseconds(1'999'999)).count() == 1);
}
