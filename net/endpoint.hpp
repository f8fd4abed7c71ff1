// Where a socket is: an address with a port, or a path.
#pragma once

#include <keel/base/result.hpp>
#include <keel/net/address.hpp>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace keel::net {

// An IP address and a port, or a Unix socket's path. A value of 112 bytes, without allocations.
//
// INVARIANT: what is not used of the path is not compared; an endpoint with a path has port 0.
// Thread safety: as an int.
class endpoint {
 public:
  // The longest path that a Unix socket can have, and the longest abstract name.
  static constexpr std::size_t unix_path_size_max = 107;
  // The longest text, with room to spare.
  static constexpr std::size_t text_size_max = 128;
  // Enough for every socket address of the kernel.
  static constexpr std::size_t sockaddr_size_max = 128;

  // [::]:0 : every address, IPv4 too, and any free port.
  endpoint() noexcept : endpoint(address(), 0) {}
  endpoint(const address& where, std::uint16_t port) noexcept : port_(port), address_(where) {}

  // A Unix socket in the file system, or, with `name`, in the abstract namespace of Linux.
  //
  // Errors: errc::bad_address when empty, longer than unix_path_size_max, or with a zero inside.
  static result<endpoint> unix_path(std::string_view path);
  static result<endpoint> unix_abstract(std::string_view name);

  // "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "unix:/path" and, abstract, "unix:@name". ":80" and
  // "*:80" are [::]:80; "localhost:80" is 127.0.0.1:80; other names need a resolver.
  //
  // Errors: errc::bad_address, also for a port beyond 65535 or with leading zeros, for an IPv6 address
  //         without its brackets, and for what unix_path() refuses.
  static result<endpoint> parse(std::string_view text);

  // What parse() reads, except for abstract names with zeros inside: these become '@'. "unix:" is a Unix
  // socket without a name, as most clients are.
  std::string to_string() const;
  // Writes the text, without a terminating zero, to the beginning of `buffer`, and gives it back.
  std::string_view format(std::span<char, text_size_max> buffer) const noexcept;

  bool is_ip() const noexcept { return kind_ == kind::ip; }
  bool is_unix() const noexcept { return kind_ == kind::unix_socket; }
  // REQUIRES: is_ip()
  const address& host() const noexcept {
    KEEL_ASSERT(is_ip(), "a Unix socket has no IP address");
    return address_;
  }
  // 0 for a Unix socket.
  std::uint16_t port() const noexcept { return port_; }
  // REQUIRES: is_ip()
  endpoint with_port(std::uint16_t port) const noexcept { return endpoint(host(), port); }
  // A path, or an abstract name after a zero; empty for a socket without a name. Lifetime: that of *this.
  // REQUIRES: is_unix()
  std::string_view unix_name() const noexcept {
    KEEL_ASSERT(is_unix());
    return {path_, path_size_};
  }

  friend bool operator==(const endpoint& a, const endpoint& b) noexcept {
    if (a.kind_ != b.kind_) return false;
    return a.is_ip() ? a.port_ == b.port_ && a.address_ == b.address_ : a.unix_name() == b.unix_name();
  }

  // For calls of the kernel: the family (AF_INET, AF_INET6, AF_UNIX), and the address as it wants it.
  int family() const noexcept;
  // Returns how many bytes it wrote.
  std::size_t to_sockaddr(std::span<std::byte, sockaddr_size_max> storage) const noexcept;
  // endpoint() when `bytes` are no address of a family that we know, as after a receive from a connected
  // peer.
  static endpoint from_sockaddr(std::span<const std::byte> bytes) noexcept;

 private:
  enum class kind : std::uint8_t { ip, unix_socket };

  // The bytes of a sun_path: an abstract name begins with a zero.
  // REQUIRES: bytes.size() <= 108
  static endpoint unix_bytes(std::string_view bytes) noexcept;

  kind kind_ = kind::ip;
  std::uint8_t path_size_ = 0;
  std::uint16_t port_ = 0;
  union {
    address address_;
    char path_[unix_path_size_max + 1];
  };
};

}  // namespace keel::net
