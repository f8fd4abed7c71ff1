#include <keel/runtime/time.hpp>

#include <doctest/doctest.h>

#include <chrono>
#include <limits>

using namespace std::chrono_literals;
using keel::delay_ns;
using keel::time_point;

constexpr std::uint64_t for_ever = ~std::uint64_t{0};

TEST_CASE("time_point: arithmetic goes both ways") {
  const time_point at(1'000);
  CHECK((at + 5ns).since_boot_ns() == 1'005);
  CHECK((at + -5ns).since_boot_ns() == 995);
  CHECK(at + 5ns - at == 5ns);
  CHECK(at - (at + 5ns) == -5ns);
  CHECK(at < at + 1ns);
  CHECK(at == time_point(1'000));
}

TEST_CASE("time_point: what is beyond the ends stays at the ends") {
  CHECK(time_point(10) + -11ns == time_point(0));
  CHECK(time_point(10) + keel::duration::min() == time_point(0));
  CHECK(time_point(for_ever - 1) + 1ns == time_point::never());
  CHECK(time_point(for_ever - 1) + 2ns == time_point::never());
  CHECK(time_point::never() + 1h == time_point::never());
  CHECK(time_point::never() - time_point(0) == keel::duration::max());
  CHECK(time_point(0) - time_point::never() == -keel::duration::max());
  CHECK(later(time_point(5), 7) == time_point(12));
  CHECK(later(time_point(5), for_ever) == time_point::never());
  CHECK(later(time_point::never(), 1) == time_point::never());
}

TEST_CASE("delay_ns: durations of all kinds become nanoseconds") {
  CHECK(delay_ns(0s) == 0);
  CHECK(delay_ns(1ns) == 1);
  CHECK(delay_ns(3us) == 3'000);
  CHECK(delay_ns(2s) == 2'000'000'000);
  CHECK(delay_ns(std::chrono::duration<double>(0.5)) == 500'000'000);
  CHECK(delay_ns(std::chrono::duration<int, std::ratio<1, 3>>(3)) == 1'000'000'000);
}

TEST_CASE("delay_ns: what is negative is none, what is too long is for ever") {
  CHECK(delay_ns(-1ns) == 0);
  CHECK(delay_ns(std::chrono::hours::min()) == 0);
  CHECK(delay_ns(std::chrono::hours::max()) == for_ever);
  CHECK(delay_ns(std::chrono::seconds::max()) == for_ever);
  CHECK(delay_ns(std::chrono::duration<double>(1e30)) == for_ever);
  CHECK(delay_ns(std::chrono::duration<double>(std::numeric_limits<double>::infinity())) == for_ever);
}
