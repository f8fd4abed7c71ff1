// The head of an answer: status line, fields, empty line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace httpd {

// Empty and absent values are left out. The status decides about the rest: 405 gets Allow, 503 Retry-After,
// 206 and 416 Content-Range.
struct response_head {
  int status = 200;
  std::string_view date = {};
  bool http_1_0 = false;  // then keep-alive must be said, else close
  bool keep_alive = true;
  std::string_view content_type = {};
  std::optional<std::uint64_t> content_length = {};
  std::string_view etag = {};
  std::string_view last_modified = {};
  std::string_view location = {};
  std::uint64_t range_offset = 0;
  std::uint64_t file_size = 0;  // behind the slash of a Content-Range
};

void append_head(std::string& out, const response_head& head);

// Where append_head() puts the date of a 200: an answer that is kept for long gets a new one in place.
inline constexpr std::size_t date_offset = sizeof("HTTP/1.1 200 OK\r\nDate: ") - 1;

// "Not Found"
std::string_view reason_phrase(int status) noexcept;

// A whole answer without a file: its body is the status and the reason, for whoever looks at it.
void append_plain_response(std::string& out, response_head head, bool with_body);

}  // namespace httpd
