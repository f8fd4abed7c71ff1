// Bytes as spans, and the way between them and text.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace keel {

using byte_span = std::span<std::byte>;
using const_byte_span = std::span<const std::byte>;

inline const_byte_span as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

inline std::string_view as_text(const_byte_span bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace keel
