// Small helpers for protocol text: ASCII, no locale, no allocation.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <string>
#include <string_view>

namespace httpd {

constexpr char ascii_lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}

// `lower` must be written in lower case already.
constexpr bool equals_ignoring_case(std::string_view text, std::string_view lower) noexcept {
  return std::ranges::equal(text, lower, [](char a, char b) { return ascii_lower(a) == b; });
}

// Without spaces and tabs at both ends: what HTTP calls optional white space.
constexpr std::string_view trimmed(std::string_view text) noexcept {
  std::size_t first = text.find_first_not_of(" \t");
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

inline void append_number(std::string& out, std::uint64_t number, int base = 10) {
  char digits[20];  // 2^64 has 20 decimal digits
  char* end = std::to_chars(digits, digits + sizeof digits, number, base).ptr;
  out.append(digits, end);
}

}  // namespace httpd
