// The Range field: "bytes=0-499", "bytes=500-", "bytes=-500".
#pragma once

#include <cstdint>
#include <string_view>

namespace httpd {

struct byte_range {
  enum class kind : std::uint8_t {
    whole,          // no range, or one that a server may ignore: several ranges, other units, nonsense
    part,           // `offset` and `count` lie inside the file
    unsatisfiable,  // a valid range that begins behind the end
  };
  kind which = kind::whole;
  std::uint64_t offset = 0;
  std::uint64_t count = 0;
};

// Reads the value of a Range field for a file of `size` bytes. The last byte of a range may lie behind
// the end of the file; the first may not.
byte_range parse_range(std::string_view value, std::uint64_t size) noexcept;

}  // namespace httpd
