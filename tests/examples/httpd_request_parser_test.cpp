#include <doctest/doctest.h>

#include "httpd/limits.hpp"
#include "httpd/request_parser.hpp"

#include <string>
#include <vector>

using namespace httpd;
using progress = request_parser::progress;

namespace {

// 0 for a complete request, -1 for an incomplete one, else the refusal.
int verdict(std::string_view message) {
  request_parser parser;
  switch (parser.parse(message)) {
    case progress::complete: return 0;
    case progress::incomplete: return -1;
    case progress::refused: return parser.refusal();
  }
  return -2;
}

std::string get(std::string_view fields) {
  return "GET / HTTP/1.1\r\nHost: x\r\n" + std::string(fields) + "\r\n";
}

}  // namespace

TEST_CASE("request_parser: tells what was asked") {
  request_parser parser;
  REQUIRE(parser.parse("GET /a?b HTTP/1.1\r\nhOsT: example.org \r\nRange:bytes=0-1\r\nX: y\r\n\r\n") ==
          progress::complete);

  CHECK(parser.is_get());
  CHECK(!parser.is_head());
  CHECK(parser.target() == "/a?b");
  CHECK(parser.value(header::host) == "example.org");
  CHECK(parser.value(header::range) == "bytes=0-1");
  CHECK(parser.is_conditional());
  CHECK(!parser.has(header::if_range));
  CHECK(parser.keep_alive());
  CHECK(!parser.http_1_0());
  CHECK(parser.request_line() == "GET /a?b HTTP/1.1");
}

TEST_CASE("request_parser: stops at the end of a request, however many follow") {
  std::string two = get("") + "HEAD /b HTTP/1.1\r\nHost: x\r\n\r\n";
  request_parser parser;
  REQUIRE(parser.parse(two) == progress::complete);
  CHECK(parser.size() == get("").size());

  std::string_view rest = std::string_view(two).substr(parser.size());
  parser.start();
  REQUIRE(parser.parse(rest) == progress::complete);
  CHECK(parser.is_head());
  CHECK(parser.target() == "/b");
  CHECK(parser.size() == rest.size());
}

TEST_CASE("request_parser: pieces of any size give the same request") {
  const std::string message =
      "\r\nPOST /some/where HTTP/1.1\r\nHost: example.org\r\nIf-None-Match: \"a\", \"b\"\r\nEmpty:\r\n"
      "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nHost: a trailer\r\n\r\n";
  for (std::size_t first = 1; first < message.size(); ++first) {
    for (std::size_t step : {std::size_t(1), std::size_t(7), message.size()}) {
      request_parser parser;
      progress state = progress::incomplete;
      std::string copy;  // lies elsewhere at each call
      for (std::size_t end = first; state == progress::incomplete; end += step) {
        copy = std::string(message, 0, end);
        state = parser.parse(copy);
        REQUIRE((state == progress::complete || end < message.size()));
      }
      REQUIRE(state == progress::complete);
      REQUIRE(parser.target() == "/some/where");
      REQUIRE(parser.value(header::host) == "example.org");
      REQUIRE(parser.value(header::if_none_match) == "\"a\", \"b\"");
      REQUIRE(parser.size() == message.size());
    }
  }
}

TEST_CASE("request_parser: who stays and who goes") {
  auto stays = [](std::string_view message) {
    request_parser parser;
    REQUIRE(parser.parse(message) == progress::complete);
    return parser.keep_alive();
  };

  CHECK(stays("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  CHECK(!stays("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
  CHECK(!stays("GET / HTTP/1.0\r\n\r\n"));
  CHECK(stays("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
}

TEST_CASE("request_parser: bodies are passed over") {
  const std::string with_body = get("Content-Length: 3\r\n") + "abc";
  request_parser parser;
  REQUIRE(parser.parse(with_body + "GET") == progress::complete);
  CHECK(parser.size() == with_body.size());
  CHECK(verdict(get("Content-Length: 3\r\n")) == -1);
  CHECK(verdict(get("Connection: Upgrade\r\nUpgrade: h2c\r\n") + "GET / HTTP/1.1") == 0);
}

TEST_CASE("request_parser: a body that is too large is refused, announced or not") {
  const std::string big = std::to_string(body_bytes_max + 1);
  CHECK(verdict(get("Content-Length: " + big + "\r\n")) == 413);
  CHECK(verdict("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + big + "\r\n\r\n") == 405);
  std::string chunks = get("Transfer-Encoding: chunked\r\n");
  while (chunks.size() <= head_bytes_max + body_bytes_max) chunks += "5\r\nabcde\r\n";
  CHECK(verdict(chunks) == 413);
}

TEST_CASE("request_parser: waits for 100 Continue until the body has come") {
  const std::string head = get("Content-Length: 3\r\nExpect: 100-Continue\r\n");
  request_parser parser;
  CHECK(parser.parse(head.substr(0, 30)) == progress::incomplete);
  CHECK(!parser.waits_for_continue());
  CHECK(parser.parse(head) == progress::incomplete);
  CHECK(parser.waits_for_continue());
  CHECK(parser.parse(head + "abc") == progress::complete);
  CHECK(!parser.waits_for_continue());
}

TEST_CASE("request_parser: 400 for what is no HTTP") {
  for (std::string_view message :
       {"\x16\x03\x01\x02 hello\r\n\r\n", "get / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n",
        "GET / HTTP/1.1 \r\n\r\n", "GET / HTTP/1.10\r\n\r\n", "GET / FTP/1.1\r\n\r\n",
        " GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n", "\r\n\r\nHello\r\n\r\n"}) {
    CAPTURE(message);
    CHECK(verdict(message) == 400);
  }
}

TEST_CASE("request_parser: 400 for fields that others may read differently") {
  for (std::string_view field :
       {"X Y: z\r\n", "X : z\r\n", " X: z\r\n", "X: a\r\n b\r\n", "X:\r\n b\r\n", ": x\r\n", "X: a\rb\r\n",
        "Content-Length: -3\r\n", "Content-Length: 3\r\nContent-Length: 3\r\n", "Content-Length: 3 4\r\n",
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", "Transfer-Encoding: gzip\r\n"}) {
    CAPTURE(field);
    CHECK(verdict(get(field)) == 400);
  }
  using namespace std::string_view_literals;
  CHECK(verdict(get("X: a\0b\r\n"sv)) == 400);
}

TEST_CASE("request_parser: 501 and 505 for HTTP that we do not speak") {
  CHECK(verdict("BREW /pot HTTP/1.1\r\nHost: x\r\n\r\n") == 501);
  CHECK(verdict(get("Transfer-Encoding: gzip, chunked\r\n")) == 501);
  CHECK(verdict("GET / HTTP/2.0\r\nHost: x\r\n\r\n") == 505);
  CHECK(verdict("GET / HTTP/2\r\nHost: x\r\n\r\n") == 505);
  CHECK(verdict("GET / HTTP/0.9\r\nHost: x\r\n\r\n") == 505);
}

TEST_CASE("request_parser: 414 and 431 for what is too long, complete or not") {
  const std::string target(target_bytes_max, 'a');
  CHECK(verdict("GET /" + target + " HTTP/1.1\r\nHost: x\r\n\r\n") == 414);
  CHECK(verdict("GET /" + target) == 414);
  CHECK(verdict("GET " + target.substr(1) + " HTTP/1.1\r\n") == 400);
  CHECK(verdict("GET /" + target.substr(1) + " HTTP/1.1\r\nHost: x\r\n\r\n") == 0);

  const std::string value(head_bytes_max, 'a');
  CHECK(verdict(get("X: " + value + "\r\n")) == 431);
  CHECK(verdict("GET / HTTP/1.1\r\nX: " + value) == 431);
  CHECK(verdict("GET / HTTP/1.1\r\n" + value) == 431);
  CHECK(verdict(get("X: " + value.substr(100) + "\r\n")) == 0);
  CHECK(verdict(std::string(head_bytes_max + 1, '\n')) == 431);
}
