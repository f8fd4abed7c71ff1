#include <doctest/doctest.h>

#include "httpd/content_type.hpp"
#include "httpd/response_head.hpp"

#include <string>

using namespace httpd;

namespace {

constexpr std::string_view date = "Sun, 06 Nov 1994 08:49:37 GMT";

}  // namespace

TEST_CASE("response_head: a 200 with its fields") {
  std::string out;
  append_head(out, {.date = date, .content_type = "text/plain", .content_length = 5, .etag = "\"v\"",
                    .last_modified = date});

  CHECK(out ==
        "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/plain\r\n"
        "Content-Length: 5\r\nLast-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nETag: \"v\"\r\n"
        "Accept-Ranges: bytes\r\n\r\n");
  CHECK(out.substr(date_offset, date.size()) == date);
}

TEST_CASE("response_head: parts say where they lie") {
  std::string part, none;
  append_head(part, {.status = 206, .date = date, .content_length = 10, .range_offset = 5, .file_size = 100});
  append_head(none, {.status = 416, .date = date, .content_length = 0, .file_size = 100});

  CHECK(part.find("\r\nContent-Range: bytes 5-14/100\r\n") != part.npos);
  CHECK(none.find("\r\nContent-Range: bytes */100\r\n") != none.npos);
}

TEST_CASE("response_head: says whether the connection stays, where that is not the rule") {
  auto connection = [](bool http_1_0, bool keep_alive) {
    std::string out;
    append_head(out, {.date = date, .http_1_0 = http_1_0, .keep_alive = keep_alive});
    std::size_t at = out.find("Connection: ");
    return at == out.npos ? std::string() : out.substr(at + 12, out.find("\r\n", at) - at - 12);
  };

  CHECK(connection(false, true) == "");
  CHECK(connection(false, false) == "close");
  CHECK(connection(true, true) == "keep-alive");
  CHECK(connection(true, false) == "close");
}

TEST_CASE("response_head: plain answers have the body that their length tells") {
  for (int status : {301, 400, 403, 404, 405, 408, 412, 413, 414, 416, 431, 500, 501, 503, 505}) {
    std::string out, head_only;
    append_plain_response(out, {.status = status, .date = date}, true);
    append_plain_response(head_only, {.status = status, .date = date}, false);
    CAPTURE(out);
    std::string body = out.substr(out.find("\r\n\r\n") + 4);

    CHECK(body == std::to_string(status) + " " + std::string(reason_phrase(status)) + "\n");
    CHECK(out.find("Content-Length: " + std::to_string(body.size()) + "\r\n") != out.npos);
    CHECK(head_only + body == out);
    CHECK(reason_phrase(status) != "Unknown");
    CHECK((out.find("Allow: GET, HEAD\r\n") != out.npos) == (status == 405));
    CHECK((out.find("Retry-After: ") != out.npos) == (status == 503));
  }
}

TEST_CASE("content_type: by extension, in any case") {
  CHECK(content_type("a/b/index.html") == "text/html; charset=utf-8");
  CHECK(content_type("INDEX.HTM") == "text/html; charset=utf-8");
  CHECK(content_type("a.tar.gz") == "application/gzip");
  CHECK(content_type("x.7z") == "application/x-7z-compressed");
  CHECK(content_type("x.zst") == "application/zstd");
  CHECK(content_type("Makefile") == "text/plain; charset=utf-8");
  for (const char* unknown :
       {"a", "a.", ".html", "x/.html", "a.html/b", "a.unknown", "a.averyveryverylongextension", ""}) {
    CAPTURE(unknown);
    CHECK(content_type(unknown) == "application/octet-stream");
  }
}
