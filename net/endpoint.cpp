#include <keel/net/endpoint.hpp>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <type_traits>

namespace keel::net {
namespace {

constexpr std::string_view unix_prefix = "unix:";

// g++ 12 copies temporaries of other kinds bitwise into coroutine frames.
static_assert(std::is_trivially_destructible_v<endpoint> && std::is_trivially_copyable_v<endpoint>);
static_assert(!std::is_aggregate_v<endpoint> && !std::is_aggregate_v<address>);
static_assert(sizeof(endpoint) == 112);
static_assert(sizeof(sockaddr_un::sun_path) == endpoint::unix_path_size_max + 1);
static_assert(sizeof(sockaddr_storage) == endpoint::sockaddr_size_max);

failure no_endpoint() noexcept { return {errc::bad_address, "parse an endpoint"}; }

result<std::uint16_t> parse_port(std::string_view text) {
  const bool has_leading_zero = text.size() > 1 && text[0] == '0';
  std::uint16_t port = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, port);
  if (error != std::errc() || stop != end || has_leading_zero) return no_endpoint();
  return port;
}

result<address> parse_host(std::string_view text) {
  if (text.empty() || text == "*") return address::v6_any();
  if (text == "localhost") return address::v4_loopback();
  if (text.front() != '[') {
    // Which of its colons would stand before the port?
    if (text.find(':') != text.npos) return no_endpoint();
    return address::parse(text);
  }
  if (text.back() != ']') return no_endpoint();
  const auto inner = address::parse(text.substr(1, text.size() - 2));
  if (!inner || !inner->is_v6()) return no_endpoint();
  return inner;
}

bool is_unix_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= endpoint::unix_path_size_max && name.find('\0') == name.npos;
}

char* append(char* to, std::string_view text) noexcept { return std::copy(text.begin(), text.end(), to); }

}  // namespace

endpoint endpoint::unix_bytes(std::string_view bytes) noexcept {
  KEEL_ASSERT(bytes.size() <= sizeof path_);
  endpoint made;
  made.kind_ = kind::unix_socket;
  made.path_size_ = std::uint8_t(bytes.size());
  std::memset(made.path_, 0, sizeof made.path_);
  std::copy(bytes.begin(), bytes.end(), made.path_);
  return made;
}

result<endpoint> endpoint::unix_path(std::string_view path) {
  if (!is_unix_name(path)) return failure(errc::bad_address, "make a Unix socket's path");
  return unix_bytes(path);
}

result<endpoint> endpoint::unix_abstract(std::string_view name) {
  if (!is_unix_name(name)) return failure(errc::bad_address, "make a Unix socket's abstract name");
  char bytes[unix_path_size_max + 1] = {};
  std::copy(name.begin(), name.end(), bytes + 1);
  return unix_bytes({bytes, name.size() + 1});
}

result<endpoint> endpoint::parse(std::string_view text) {
  if (text.substr(0, unix_prefix.size()) == unix_prefix) {
    const std::string_view name = text.substr(unix_prefix.size());
    if (!name.empty() && name.front() == '@') return unix_abstract(name.substr(1));
    return unix_path(name);
  }
  const std::size_t colon = text.rfind(':');
  if (colon == text.npos) return no_endpoint();
  const auto host = parse_host(text.substr(0, colon));
  if (!host) return host.why();
  const auto port = parse_port(text.substr(colon + 1));
  if (!port) return port.why();
  return endpoint(*host, *port);
}

std::string_view endpoint::format(std::span<char, text_size_max> buffer) const noexcept {
  char* end = buffer.data();
  if (is_unix()) {
    end = append(end, unix_prefix);
    const std::string_view name = unix_name();
    // A file called "@..." must not read as an abstract name.
    if (!name.empty() && name.front() == '@') end = append(end, "./");
    end = std::replace_copy(name.begin(), name.end(), end, '\0', '@');
  } else {
    char digits[address::text_size_max];
    const std::string_view host = address_.format(digits);
    if (address_.is_v6()) *end++ = '[';
    end = append(end, host);
    if (address_.is_v6()) *end++ = ']';
    *end++ = ':';
    end = std::to_chars(end, buffer.data() + buffer.size(), port_).ptr;
  }
  KEEL_ASSERT(end <= buffer.data() + buffer.size());
  return {buffer.data(), std::size_t(end - buffer.data())};
}

std::string endpoint::to_string() const {
  char buffer[text_size_max];
  return std::string(format(buffer));
}

int endpoint::family() const noexcept {
  if (is_unix()) return AF_UNIX;
  return address_.is_v4() ? AF_INET : AF_INET6;
}

std::size_t endpoint::to_sockaddr(std::span<std::byte, sockaddr_size_max> storage) const noexcept {
  if (is_unix()) {
    sockaddr_un native = {};
    native.sun_family = AF_UNIX;
    std::memcpy(native.sun_path, path_, path_size_);
    // A path counts its terminating zero, an abstract name has none, and no name is just the family.
    const bool is_path = path_size_ > 0 && path_[0] != '\0';
    const std::size_t size_bytes = offsetof(sockaddr_un, sun_path) + path_size_ + (is_path ? 1 : 0);
    std::memcpy(storage.data(), &native, std::min(size_bytes, sizeof native));
    return std::min(size_bytes, sizeof native);
  }
  if (address_.is_v4()) {
    sockaddr_in native = {};
    native.sin_family = AF_INET;
    native.sin_port = htons(port_);
    std::memcpy(&native.sin_addr, address_.bytes().data(), sizeof native.sin_addr);
    std::memcpy(storage.data(), &native, sizeof native);
    return sizeof native;
  }
  sockaddr_in6 native = {};
  native.sin6_family = AF_INET6;
  native.sin6_port = htons(port_);
  native.sin6_scope_id = address_.scope_id();
  std::memcpy(&native.sin6_addr, address_.bytes().data(), sizeof native.sin6_addr);
  std::memcpy(storage.data(), &native, sizeof native);
  return sizeof native;
}

endpoint endpoint::from_sockaddr(std::span<const std::byte> bytes) noexcept {
  sa_family_t family = AF_UNSPEC;
  if (bytes.size() >= sizeof family) std::memcpy(&family, bytes.data(), sizeof family);
  if (family == AF_INET && bytes.size() >= sizeof(sockaddr_in)) {
    sockaddr_in native;
    std::memcpy(&native, bytes.data(), sizeof native);
    const auto digits = std::as_bytes(std::span(&native.sin_addr, 1));
    return endpoint(address::v4(digits.first<4>()), ntohs(native.sin_port));
  }
  if (family == AF_INET6 && bytes.size() >= sizeof(sockaddr_in6)) {
    sockaddr_in6 native;
    std::memcpy(&native, bytes.data(), sizeof native);
    const auto digits = std::as_bytes(std::span(&native.sin6_addr, 1));
    return endpoint(address::v6(digits.first<16>(), native.sin6_scope_id), ntohs(native.sin6_port));
  }
  if (family == AF_UNIX) {
    const auto path = bytes.subspan(offsetof(sockaddr_un, sun_path));
    std::string_view name(reinterpret_cast<const char*>(path.data()), path.size());
    // A path ends at its zero; the kernel may count that, and with a path of 108 bytes one beyond.
    if (!name.empty() && name.front() != '\0') name = name.substr(0, name.find('\0'));
    return unix_bytes(name.substr(0, sizeof path_));
  }
  return endpoint();
}

}  // namespace keel::net
