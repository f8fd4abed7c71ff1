#include <doctest/doctest.h>

#include "httpd/range.hpp"

#include <ostream>

using namespace httpd;
using kind = byte_range::kind;

namespace {

bool is_part(byte_range range, std::uint64_t offset, std::uint64_t count) {
  return range.which == kind::part && range.offset == offset && range.count == count;
}

}  // namespace

TEST_CASE("range: the three forms") {
  CHECK(is_part(parse_range("bytes=0-499", 1000), 0, 500));
  CHECK(is_part(parse_range("bytes=500-", 1000), 500, 500));
  CHECK(is_part(parse_range("bytes=-100", 1000), 900, 100));
  CHECK(is_part(parse_range("bytes=0-0", 1000), 0, 1));
  CHECK(is_part(parse_range("bytes=999-", 1000), 999, 1));
  CHECK(is_part(parse_range("Bytes= 1-2 ", 1000), 1, 2));
}

TEST_CASE("range: the end is cut to the file") {
  CHECK(is_part(parse_range("bytes=0-1000", 1000), 0, 1000));
  CHECK(is_part(parse_range("bytes=1-99999999999999999999999", 1000), 1, 999));
  CHECK(is_part(parse_range("bytes=1-18446744073709551615", 1000), 1, 999));
  CHECK(is_part(parse_range("bytes=0-18446744073709551615", 1000), 0, 1000));
  CHECK(is_part(parse_range("bytes=-5000", 1000), 0, 1000));
  CHECK(is_part(parse_range("bytes=-99999999999999999999999", 1000), 0, 1000));
}

TEST_CASE("range: behind the end there is nothing") {
  for (const char* value : {"bytes=1000-", "bytes=1000-1001", "bytes=99999999999999999999999-", "bytes=-0"}) {
    CAPTURE(value);
    CHECK(parse_range(value, 1000).which == kind::unsatisfiable);
  }
  CHECK(parse_range("bytes=0-", 0).which == kind::unsatisfiable);
  CHECK(parse_range("bytes=-5", 0).which == kind::whole);
}

TEST_CASE("range: what a server may ignore, it ignores") {
  for (const char* value : {"", "bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=1-2,4-5",
                            "lines=1-2", "bytes=1", "bytes=--1", "bytes=+1-2", "bytes=0x1-2", "bytes=1-2-3",
                            "bytes=1-b"}) {
    CAPTURE(value);
    byte_range range = parse_range(value, 1000);
    CHECK(range.which == kind::whole);
    CHECK(range.count == 1000);
  }
}
