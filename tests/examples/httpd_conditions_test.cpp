#include <doctest/doctest.h>

#include "httpd/conditions.hpp"

#include <string>

using namespace httpd;

namespace {

constexpr std::string_view modified = "Sun, 06 Nov 1994 08:49:37 GMT";
constexpr std::string_view before = "Sun, 06 Nov 1994 08:49:36 GMT";
constexpr file_version file{.etag = "\"v1\"", .modified_s = 784'111'777, .size = 1000};

selection selected(const std::string& fields, const std::string& method = "GET") {
  std::string message = method + " / HTTP/1.1\r\nHost: x\r\n" + fields + "\r\n";
  request_parser parser;
  REQUIRE(parser.parse(message) == request_parser::progress::complete);
  return select(parser, file);
}

int status_for(const std::string& name, std::string_view value) {
  return selected(name + ": " + std::string(value) + "\r\n").status;
}

}  // namespace

TEST_CASE("conditions: without any, the whole file") {
  selection choice = selected("");

  CHECK(choice.status == 200);
  CHECK(choice.range.offset == 0);
  CHECK(choice.range.count == 1000);
}

TEST_CASE("conditions: If-None-Match") {
  CHECK(status_for("If-None-Match", "\"v1\"") == 304);
  CHECK(status_for("If-None-Match", "W/\"v1\"") == 304);
  CHECK(status_for("If-None-Match", "\"a,b\", \"v1\"") == 304);
  CHECK(status_for("If-None-Match", "*") == 304);
  CHECK(status_for("If-None-Match", "\"v2\"") == 200);
  CHECK(status_for("If-None-Match", "v1") == 200);
  CHECK(status_for("If-None-Match", "\"v1") == 200);
}

TEST_CASE("conditions: If-Modified-Since") {
  CHECK(status_for("If-Modified-Since", modified) == 304);
  CHECK(status_for("If-Modified-Since", before) == 200);
  CHECK(status_for("If-Modified-Since", "Sun, 06 Nov 2094 08:49:37 GMT") == 304);
  CHECK(status_for("If-Modified-Since", "nonsense") == 200);
}

TEST_CASE("conditions: If-None-Match beats If-Modified-Since") {
  std::string since = "If-Modified-Since: " + std::string(modified) + "\r\n";

  CHECK(selected(since + "If-None-Match: \"v2\"\r\n").status == 200);
}

TEST_CASE("conditions: If-Match and If-Unmodified-Since") {
  CHECK(status_for("If-Match", "\"v1\"") == 200);
  CHECK(status_for("If-Match", "*") == 200);
  CHECK(status_for("If-Match", "\"v2\"") == 412);
  CHECK(status_for("If-Match", "W/\"v1\"") == 412);
  CHECK(status_for("If-Unmodified-Since", modified) == 200);
  CHECK(status_for("If-Unmodified-Since", before) == 412);
}

TEST_CASE("conditions: ranges") {
  selection part = selected("Range: bytes=10-19\r\n");
  CHECK(part.status == 206);
  CHECK(part.range.offset == 10);
  CHECK(part.range.count == 10);

  CHECK(selected("Range: bytes=1000-\r\n").status == 416);
  CHECK(selected("Range: bytes=1-2,3-4\r\n").status == 200);
  CHECK(selected("Range: bytes=10-19\r\n", "HEAD").status == 200);
  CHECK(selected("Range: bytes=10-19\r\nIf-None-Match: \"v1\"\r\n").status == 304);
}

TEST_CASE("conditions: If-Range gives the part of the same version only") {
  const std::string range = "Range: bytes=10-19\r\nIf-Range: ";

  CHECK(selected(range + "\"v1\"\r\n").status == 206);
  CHECK(selected(range + "\"v2\"\r\n").status == 200);
  CHECK(selected(range + "W/\"v1\"\r\n").status == 200);
  CHECK(selected(range + std::string(modified) + "\r\n").status == 206);
  CHECK(selected(range + std::string(before) + "\r\n").status == 200);
}
