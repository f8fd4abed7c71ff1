#include "conditions.hpp"

#include "http_date.hpp"
#include "text.hpp"

namespace httpd {
namespace {

bool not_modified(const request_parser& request, const file_version& file) noexcept {
  std::string_view tags = request.value(header::if_none_match);
  if (request.has(header::if_none_match)) return etag_in(tags, file.etag, true);
  if (!request.has(header::if_modified_since)) return false;
  auto date = parse_http_date(request.value(header::if_modified_since));
  return date && file.modified_s <= *date;
}

bool precondition_failed(const request_parser& request, const file_version& file) noexcept {
  if (request.has(header::if_match)) return !etag_in(request.value(header::if_match), file.etag, false);
  if (!request.has(header::if_unmodified_since)) return false;
  auto date = parse_http_date(request.value(header::if_unmodified_since));
  return date && file.modified_s > *date;
}

// Whether the part that the client has is of this version, so that the range completes it.
bool range_applies(const request_parser& request, const file_version& file) noexcept {
  if (!request.is_get() || !request.has(header::range)) return false;
  if (!request.has(header::if_range)) return true;
  std::string_view validator = request.value(header::if_range);
  if (validator == file.etag) return true;
  auto date = parse_http_date(validator);
  return date && *date == file.modified_s;
}

}  // namespace

bool etag_in(std::string_view list, std::string_view etag, bool weak) noexcept {
  if (trimmed(list) == "*") return true;
  // A comma may stand inside a tag: go from quote to quote.
  for (std::size_t at = 0;;) {
    std::size_t open = list.find('"', at);
    if (open == list.npos) return false;
    std::size_t close = list.find('"', open + 1);
    if (close == list.npos) return false;
    bool is_weak = open >= at + 2 && list.substr(open - 2, 2) == "W/";
    if ((weak || !is_weak) && list.substr(open, close + 1 - open) == etag) return true;
    at = close + 1;
  }
}

selection select(const request_parser& request, const file_version& file) noexcept {
  const byte_range whole{.which = byte_range::kind::whole, .offset = 0, .count = file.size};
  const byte_range nothing;
  if (precondition_failed(request, file)) return {.status = 412, .range = nothing};
  if (not_modified(request, file)) return {.status = 304, .range = nothing};
  if (!range_applies(request, file)) return {.status = 200, .range = whole};
  byte_range range = parse_range(request.value(header::range), file.size);
  switch (range.which) {
    case byte_range::kind::part: return {.status = 206, .range = range};
    case byte_range::kind::unsatisfiable: return {.status = 416, .range = nothing};
    case byte_range::kind::whole: break;
  }
  return {.status = 200, .range = whole};
}

}  // namespace httpd
