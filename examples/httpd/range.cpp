#include "range.hpp"

#include "text.hpp"

#include <limits>
#include <optional>

namespace httpd {
namespace {

// Digits only. A number that does not fit is a very large one: the range is cut to the file anyway.
std::optional<std::uint64_t> position(std::string_view digits) noexcept {
  if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos) return {};
  std::uint64_t value = 0;
  auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error == std::errc::result_out_of_range) return std::numeric_limits<std::uint64_t>::max();
  return value;
}

}  // namespace

byte_range parse_range(std::string_view value, std::uint64_t size) noexcept {
  constexpr std::string_view unit = "bytes=";
  const byte_range whole{.which = byte_range::kind::whole, .offset = 0, .count = size};
  const byte_range unsatisfiable{.which = byte_range::kind::unsatisfiable};
  if (!equals_ignoring_case(value.substr(0, unit.size()), unit)) return whole;
  value = trimmed(value.substr(unit.size()));

  std::size_t dash = value.find('-');
  if (dash == value.npos || value.find(',') != value.npos) return whole;
  auto first = position(trimmed(value.substr(0, dash)));
  auto last = position(trimmed(value.substr(dash + 1)));

  if (dash == 0) {  // the last so many bytes
    if (!last) return whole;
    if (*last == 0) return unsatisfiable;
    if (size == 0) return whole;  // all of nothing: there is no way to write it as a part
    std::uint64_t count = std::min(*last, size);
    return {.which = byte_range::kind::part, .offset = size - count, .count = count};
  }
  bool open_ended = dash + 1 == value.size();
  if (!first || (!open_ended && !last)) return whole;
  if (!open_ended && *last < *first) return whole;
  if (*first >= size) return unsatisfiable;
  std::uint64_t available = size - *first;
  std::uint64_t count = open_ended || *last - *first >= available ? available : *last - *first + 1;
  return {.which = byte_range::kind::part, .offset = *first, .count = count};
}

}  // namespace httpd
