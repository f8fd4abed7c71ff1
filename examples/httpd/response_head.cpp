#include "response_head.hpp"

#include "text.hpp"

namespace httpd {
namespace {

void append_field(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(value).append("\r\n");
}

void append_content_range(std::string& out, const response_head& head) {
  out.append("Content-Range: bytes ");
  if (head.status == 416) {
    out.push_back('*');
  } else {
    append_number(out, head.range_offset);
    out.push_back('-');
    append_number(out, head.range_offset + head.content_length.value_or(1) - 1);
  }
  out.push_back('/');
  append_number(out, head.file_size);
  out.append("\r\n");
}

}  // namespace

std::string_view reason_phrase(int status) noexcept {
  switch (status) {
    case 100: return "Continue";
    case 200: return "OK";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 304: return "Not Modified";
    case 400: return "Bad Request";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 408: return "Request Timeout";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 416: return "Range Not Satisfiable";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 503: return "Service Unavailable";
    case 505: return "HTTP Version Not Supported";
    default: return "Unknown";
  }
}

void append_head(std::string& out, const response_head& head) {
  out.append("HTTP/1.1 ");
  append_number(out, static_cast<std::uint64_t>(head.status));
  out.push_back(' ');
  append_field(out, reason_phrase(head.status), "");
  append_field(out, "Date: ", head.date);
  if (!head.content_type.empty()) append_field(out, "Content-Type: ", head.content_type);
  if (head.content_length) {
    out.append("Content-Length: ");
    append_number(out, *head.content_length);
    out.append("\r\n");
  }
  if (!head.last_modified.empty()) append_field(out, "Last-Modified: ", head.last_modified);
  if (!head.etag.empty()) {
    append_field(out, "ETag: ", head.etag);
    append_field(out, "Accept-Ranges: ", "bytes");
  }
  if (head.status == 206 || head.status == 416) append_content_range(out, head);
  if (!head.location.empty()) append_field(out, "Location: ", head.location);
  if (head.status == 405) append_field(out, "Allow: ", "GET, HEAD");
  if (head.status == 503) append_field(out, "Retry-After: ", "1");
  if (!head.keep_alive) append_field(out, "Connection: ", "close");
  if (head.keep_alive && head.http_1_0) append_field(out, "Connection: ", "keep-alive");
  out.append("\r\n");
}

void append_plain_response(std::string& out, response_head head, bool with_body) {
  std::string_view reason = reason_phrase(head.status);
  head.content_type = "text/plain; charset=utf-8";
  head.content_length = reason.size() + 5;
  append_head(out, head);
  if (!with_body) return;
  append_number(out, static_cast<std::uint64_t>(head.status));
  out.append(" ").append(reason).append("\n");
}

}  // namespace httpd
