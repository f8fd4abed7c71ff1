#include <doctest/doctest.h>

#include "httpd/http_date.hpp"

#include <ctime>
#include <random>
#include <string>

using namespace httpd;

TEST_CASE("http_date: writes the example of the RFC") {
  http_date date = format_http_date(784'111'777);

  CHECK(text_of(date) == "Sun, 06 Nov 1994 08:49:37 GMT");
}

TEST_CASE("http_date: agrees with strftime over 9000 years, and reads back what it wrote") {
  std::mt19937_64 random(1994);
  std::uniform_int_distribution<std::int64_t> seconds(-30'000'000'000, 253'402'300'799);
  for (int i = 0; i < 20'000; ++i) {
    std::int64_t moment = i < 2 ? -i : seconds(random);
    tm parts{};
    gmtime_r(&moment, &parts);
    char expected[64];
    std::size_t size = std::strftime(expected, sizeof expected, "%a, %d %b %Y %H:%M:%S GMT", &parts);

    http_date date = format_http_date(moment);

    REQUIRE(text_of(date) == std::string_view(expected, size));
    REQUIRE(parse_http_date(text_of(date)) == moment);
  }
}

TEST_CASE("http_date: years outside 0 to 9999 stay four digits long") {
  CHECK(text_of(format_http_date(INT64_MAX)) == "Fri, 31 Dec 9999 23:59:59 GMT");
  CHECK(text_of(format_http_date(INT64_MIN)) == "Sat, 01 Jan 0000 00:00:00 GMT");
}

TEST_CASE("http_date: reads all three forms of the RFC") {
  CHECK(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT") == 784'111'777);
  CHECK(parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT") == 784'111'777);
  CHECK(parse_http_date("Sun Nov  6 08:49:37 1994") == 784'111'777);
}

TEST_CASE("http_date: refuses what is no date") {
  for (const char* text : {"", "yesterday", "Sun, 06 Nov 1994 08:49:37", "Sun, 06 Nov 1994 08:49:37 CET",
                           "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 00 Nov 1994 08:49:37 GMT",
                           "Sun, 06 Nov 1994 24:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
                           "Sun, 06 nov 1994 08:49:37 GMT", "Sun, 06 ovD 1994 08:49:37 GMT",
                           "Sun, 6x Nov 1994 08:49:37 GMT", "Sun, 06 Nov 19944 08:49:37 GMT",
                           "Sun, 06 Nov 1994 08:49:37 GMT GMT"}) {
    CAPTURE(text);
    CHECK(!parse_http_date(text));
  }
}

TEST_CASE("http_date: leap days exist in leap years only") {
  CHECK(parse_http_date("Thu, 29 Feb 2024 00:00:00 GMT") == 1'709'164'800);
  CHECK(!parse_http_date("Wed, 29 Feb 2023 00:00:00 GMT"));
  CHECK(!parse_http_date("Thu, 29 Feb 1900 00:00:00 GMT"));
}

TEST_CASE("log_date: the form of access logs") {
  log_date date = format_log_date(784'111'777);

  CHECK(std::string_view(date.data(), date.size()) == "06/Nov/1994:08:49:37 +0000");
}
