// Which answer the If-... and Range fields of a request ask for: the order is that of RFC 9110, 13.2.2.
#pragma once

#include "range.hpp"
#include "request_parser.hpp"

#include <cstdint>
#include <string_view>

namespace httpd {

// One version of a file, as HTTP tells versions apart.
struct file_version {
  std::string_view etag;       // with its quotes
  std::int64_t modified_s = 0;  // since 1970
  std::uint64_t size = 0;
};

struct selection {
  int status = 200;  // 200, 206, 304, 412 or 416
  byte_range range;  // what to send with 200 and 206
};

// For GET and HEAD. A Range field counts for GET alone.
selection select(const request_parser& request, const file_version& file) noexcept;

// Whether `etag` is in the list of an If-Match or If-None-Match field ("*" matches all). A weak comparison
// overlooks the W/ of weak tags; a strong one never matches a weak tag.
bool etag_in(std::string_view list, std::string_view etag, bool weak) noexcept;

}  // namespace httpd
