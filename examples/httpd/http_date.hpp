// Dates as HTTP writes them: "Sun, 06 Nov 1994 08:49:37 GMT".
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace httpd {

inline constexpr std::size_t http_date_size = 29;

using http_date = std::array<char, http_date_size>;

inline std::string_view text_of(const http_date& date) noexcept {
  return {date.data(), date.size()};
}

// The date of a count of seconds since 1970. Years outside 0 to 9999 are held at the nearest end.
http_date format_http_date(std::int64_t unix_seconds) noexcept;

// "06/Nov/1994:08:49:37 +0000": the same moment, as access logs write it.
inline constexpr std::size_t log_date_size = 26;
using log_date = std::array<char, log_date_size>;
log_date format_log_date(std::int64_t unix_seconds) noexcept;

// Understands the three forms that RFC 9110 asks a recipient to accept:
//
//     Sun, 06 Nov 1994 08:49:37 GMT     what everybody sends
//     Sunday, 06-Nov-94 08:49:37 GMT    RFC 850
//     Sun Nov  6 08:49:37 1994          C's asctime
std::optional<std::int64_t> parse_http_date(std::string_view text) noexcept;

}  // namespace httpd
