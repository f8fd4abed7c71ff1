// IP addresses as values.
#pragma once

#include <keel/base/result.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace keel::net {

// An IPv4 or IPv6 address; an IPv6 address may name the interface on which it is meant (its scope). A value.
//
// Order: IPv4 before IPv6, then by bytes, then by scope.
// INVARIANT: an IPv4 address has scope 0 and uses only the first 4 bytes.
// Thread safety: as an int.
class address {
 public:
  // The longest text, with room to spare: 45 characters, '%' and a 32-bit number.
  static constexpr std::size_t text_size_max = 64;

  // :: , the same as v6_any().
  address() noexcept {}

  static address v4(std::uint8_t a, std::uint8_t b, std::uint8_t c, std::uint8_t d) noexcept;
  // In network order, as bytes() gives them.
  static address v4(std::span<const std::byte, 4> bytes) noexcept;
  static address v6(std::span<const std::byte, 16> bytes, std::uint32_t scope_id = 0) noexcept;

  static address v4_any() noexcept { return v4(0, 0, 0, 0); }
  static address v6_any() noexcept { return {}; }
  static address v4_loopback() noexcept { return v4(127, 0, 0, 1); }
  static address v6_loopback() noexcept;

  // "127.0.0.1", "::1", "fe80::1%2", "fe80::1%eth0": digits, not host names, and nothing around them. The
  // name of an interface is looked up in this machine's table (a system call).
  //
  // Errors: errc::bad_address, also for an interface that does not exist, and for IPv4 in any spelling but
  //         four decimal numbers without leading zeros (elsewhere 010.1 may mean 8.0.0.1).
  static result<address> parse(std::string_view text);

  // As RFC 5952 says: lower case, the longest run of zeros shortened; a scope as a number.
  std::string to_string() const;
  // Writes the text, without a terminating zero, to the beginning of `buffer`, and gives it back.
  std::string_view format(std::span<char, text_size_max> buffer) const noexcept;

  bool is_v4() const noexcept { return family_ == family::v4; }
  bool is_v6() const noexcept { return family_ == family::v6; }
  bool is_any() const noexcept;
  bool is_loopback() const noexcept;
  // An IPv4 address in IPv6 clothes, ::ffff:192.0.2.1: so a listener for both sees its IPv4 peers.
  bool is_v4_mapped() const noexcept;
  // The IPv4 address of a mapped one; any other unchanged.
  address unmapped() const noexcept;

  // 4 or 16 bytes in network order. Lifetime: until *this ends or is assigned to.
  std::span<const std::byte> bytes() const noexcept { return {bytes_, std::size_t(is_v4() ? 4 : 16)}; }
  // The index of the interface, or 0 for none.
  std::uint32_t scope_id() const noexcept { return scope_id_; }

  friend bool operator==(const address&, const address&) noexcept = default;
  friend std::strong_ordering operator<=>(const address&, const address&) noexcept = default;

 private:
  enum class family : std::uint8_t { v4, v6 };

  family family_ = family::v6;
  std::byte bytes_[16] = {};
  std::uint32_t scope_id_ = 0;
};

}  // namespace keel::net
