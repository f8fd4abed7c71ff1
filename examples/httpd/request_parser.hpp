// One request: http_parser does the grammar, this class the limits and what we want to remember.
#pragma once

#include "text.hpp"

#include <http_parser.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace httpd {

// The header fields that httpd looks at. All others are skipped.
enum class header : std::uint8_t {
  expect,
  host,
  if_match,
  if_modified_since,
  if_none_match,
  if_range,
  if_unmodified_since,
  range,
  transfer_encoding,
  count,  // also means: a field that we do not look at
};

// Parses one request after the other. It keeps offsets, not copies: the caller keeps the bytes.
//
// Life: parse() until it says complete or refused; then read the request; then start() for the next.
// Thread safety: as an int.
class request_parser {
 public:
  enum class progress : std::uint8_t {
    incomplete,  // call again when more bytes have come
    complete,    // size() bytes were this request; what follows belongs to the next one
    refused,     // answer with refusal() and close: where the next request begins is not known
  };

  request_parser() noexcept { start(); }

  // Forgets the request, ready for the next one.
  void start() noexcept;

  // Goes on parsing. `message` is all that has come of this request so far, from its first byte on:
  // it may lie elsewhere at each call, but must begin with the bytes of the call before.
  progress parse(std::string_view message) noexcept;

  // Valid after `refused`: 400, 405, 413, 414, 431, 501 or 505.
  int refusal() const noexcept { return refusal_; }

  // Valid after `complete`. The views point into the last `message` given to parse().
  std::size_t size() const noexcept { return parsed_; }
  bool is_get() const noexcept { return parser_.method == HTTP_GET; }
  bool is_head() const noexcept { return parser_.method == HTTP_HEAD; }
  bool http_1_0() const noexcept { return parser_.http_minor == 0; }
  bool keep_alive() const noexcept { return keep_alive_; }
  std::string_view target() const noexcept { return view(target_); }
  std::string_view value(header which) const noexcept { return trimmed(view(values_[index(which)])); }
  bool has(header which) const noexcept { return (present_ & bit(which)) != 0; }
  // Any of the fields that choose between 200 and 206, 304, 412 or 416.
  bool is_conditional() const noexcept;

  // Valid at any time. The client waits for "100 Continue" before it sends its body.
  bool waits_for_continue() const noexcept { return head_complete_ && !complete_ && expects_continue(); }
  // "GET /x HTTP/1.1", or as much of it as there is: for the log.
  std::string_view request_line() const noexcept;

 private:
  struct span {
    std::uint32_t offset = 0;
    std::uint32_t size = 0;
  };

  static std::size_t index(header which) noexcept { return static_cast<std::size_t>(which); }
  static unsigned bit(header which) noexcept { return 1u << static_cast<unsigned>(which); }
  static request_parser& self(http_parser* parser) { return *static_cast<request_parser*>(parser->data); }
  static const http_parser_settings& callbacks() noexcept;
  static int on_target(http_parser* parser, const char* at, std::size_t size);
  static int on_name(http_parser* parser, const char* at, std::size_t size);
  static int on_value(http_parser* parser, const char* at, std::size_t size);
  static int on_head_complete(http_parser* parser);
  static int on_complete(http_parser* parser);

  std::string_view view(span where) const noexcept { return message_.substr(where.offset, where.size); }
  void extend(span& where, const char* at, std::size_t size) const noexcept;
  bool begin_value(std::size_t offset, std::size_t size) noexcept;
  bool expects_continue() const noexcept;
  int check_head() const noexcept;
  int check_size() const noexcept;
  int refusal_of_grammar() const noexcept;
  progress refuse(int status) noexcept;

  http_parser parser_;
  std::string_view message_;
  std::size_t parsed_;
  std::array<span, static_cast<std::size_t>(header::count)> values_;
  span target_;
  span name_;
  std::size_t value_end_;
  unsigned present_;
  int refusal_;
  header current_;
  bool in_value_;
  bool head_complete_;
  bool complete_;
  bool keep_alive_;
};

}  // namespace httpd
