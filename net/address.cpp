#include <keel/net/address.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <net/if.h>
#include <iterator>

namespace keel::net {
namespace {

constexpr int mapped_prefix_size = 12;  // 10 bytes 0, 2 bytes 0xff

bool is_zero(std::byte each) noexcept { return each == std::byte{0}; }

// A copy with a terminating zero, for the C library.
template <std::size_t size>
class c_text {
 public:
  // False when it does not fit or has a zero inside, after which a C function would not look.
  bool assign(std::string_view text) noexcept {
    if (text.size() >= size || text.find('\0') != text.npos) return false;
    std::copy(text.begin(), text.end(), characters_);
    characters_[text.size()] = '\0';
    return true;
  }
  const char* get() const noexcept { return characters_; }

 private:
  char characters_[size];
};

// The scope's number; 0, which is none, when there is no such thing.
std::uint32_t parse_scope(std::string_view text) noexcept {
  std::uint32_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  if (error == std::errc() && stop == end) return number;
  c_text<IF_NAMESIZE> name;
  return name.assign(text) ? ::if_nametoindex(name.get()) : 0;
}

char* write_number(char* to, std::uint32_t number, int base) noexcept {
  constexpr int digits_max = 10;
  return std::to_chars(to, to + digits_max, number, base).ptr;
}

char* write_v4(char* to, const std::byte* bytes) noexcept {
  for (int i = 0; i < 4; ++i) {
    if (i > 0) *to++ = '.';
    to = write_number(to, std::to_integer<std::uint32_t>(bytes[i]), 10);
  }
  return to;
}

struct zero_run {
  int begin = 0;
  int size = 0;
};

zero_run longest_zero_run(const std::uint32_t (&groups)[8]) noexcept {
  zero_run best;
  zero_run current;
  for (int i = 0; i < 8; ++i) {
    current = groups[i] != 0 ? zero_run{i + 1, 0} : zero_run{current.begin, current.size + 1};
    if (current.size > best.size) best = current;
  }
  // A single group of zeros is not shortened.
  return best.size >= 2 ? best : zero_run{8, 0};
}

char* write_v6(char* to, const std::byte* bytes) noexcept {
  std::uint32_t groups[8];
  for (int i = 0; i < 8; ++i) {
    const auto high = std::to_integer<std::uint32_t>(bytes[2 * i]);
    groups[i] = (high << 8) | std::to_integer<std::uint32_t>(bytes[2 * i + 1]);
  }
  const zero_run shortened = longest_zero_run(groups);
  for (int i = 0; i < 8; ++i) {
    if (i == shortened.begin) {
      *to++ = ':';
      *to++ = ':';
      i += shortened.size - 1;
      continue;
    }
    if (i > 0 && i != shortened.begin + shortened.size) *to++ = ':';
    to = write_number(to, groups[i], 16);
  }
  return to;
}

}  // namespace

address address::v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) noexcept {
  const std::byte bytes[] = {std::byte{a}, std::byte{b}, std::byte{c}, std::byte{d}};
  return v4(bytes);
}

address address::v4(std::span<const std::byte, 4> bytes) noexcept {
  address made;
  made.family_ = family::v4;
  std::copy(bytes.begin(), bytes.end(), made.bytes_);
  return made;
}

address address::v6(std::span<const std::byte, 16> bytes, std::uint32_t scope_id) noexcept {
  address made;
  std::copy(bytes.begin(), bytes.end(), made.bytes_);
  made.scope_id_ = scope_id;
  return made;
}

address address::v6_loopback() noexcept {
  address made;
  made.bytes_[15] = std::byte{1};
  return made;
}

result<address> address::parse(std::string_view text) {
  const failure no_address(errc::bad_address, "parse an address");
  const bool is_v6 = text.find(':') != text.npos;
  const std::size_t percent = text.find('%');
  address parsed;
  c_text<INET6_ADDRSTRLEN> digits;
  if (!digits.assign(text.substr(0, percent))) return no_address;

  if (!is_v6) {
    if (percent != text.npos) return no_address;
    parsed.family_ = family::v4;
    if (::inet_pton(AF_INET, digits.get(), parsed.bytes_) != 1) return no_address;
    return parsed;
  }
  if (::inet_pton(AF_INET6, digits.get(), parsed.bytes_) != 1) return no_address;
  if (percent != text.npos) {
    parsed.scope_id_ = parse_scope(text.substr(percent + 1));
    if (parsed.scope_id_ == 0) return no_address;
  }
  return parsed;
}

std::string_view address::format(std::span<char, text_size_max> buffer) const noexcept {
  char* end = buffer.data();
  if (is_v4()) {
    end = write_v4(end, bytes_);
  } else if (is_v4_mapped()) {
    constexpr std::string_view prefix = "::ffff:";
    end = write_v4(std::copy(prefix.begin(), prefix.end(), end), bytes_ + mapped_prefix_size);
  } else {
    end = write_v6(end, bytes_);
  }
  if (scope_id_ != 0) {
    *end++ = '%';
    end = write_number(end, scope_id_, 10);
  }
  KEEL_ASSERT(end <= buffer.data() + buffer.size());
  return {buffer.data(), std::size_t(end - buffer.data())};
}

std::string address::to_string() const {
  char buffer[text_size_max];
  return std::string(format(buffer));
}

bool address::is_any() const noexcept {
  return std::all_of(std::begin(bytes_), std::end(bytes_), is_zero);
}

bool address::is_loopback() const noexcept {
  if (is_v4()) return bytes_[0] == std::byte{127};
  if (is_v4_mapped()) return unmapped().is_loopback();
  return std::all_of(bytes_, bytes_ + 15, is_zero) && bytes_[15] == std::byte{1};
}

bool address::is_v4_mapped() const noexcept {
  constexpr std::byte ones{0xff};
  return is_v6() && std::all_of(bytes_, bytes_ + 10, is_zero) && bytes_[10] == ones && bytes_[11] == ones;
}

address address::unmapped() const noexcept {
  if (!is_v4_mapped()) return *this;
  return v4(std::span<const std::byte, 4>(bytes_ + mapped_prefix_size, 4));
}

}  // namespace keel::net
