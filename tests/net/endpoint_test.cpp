#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>
#include <keel/net/endpoint.hpp>

#include <array>
#include <cstring>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <type_traits>
#include <unistd.h>

using keel::net::address;
using keel::net::endpoint;

using namespace std::string_view_literals;

namespace {

std::string round_trip(std::string_view text) { return endpoint::parse(text).value().to_string(); }

bool refused(std::string_view text) { return endpoint::parse(text).error() == keel::errc::bad_address; }

// Through the kernel's form and back.
endpoint through_sockaddr(const endpoint& original) {
  std::array<std::byte, endpoint::sockaddr_size_max> storage;
  const std::size_t size_bytes = original.to_sockaddr(storage);
  return endpoint::from_sockaddr(std::span(storage).first(size_bytes));
}

// What the kernel says after a bind to `wanted`.
endpoint bound_name(const endpoint& wanted) {
  const keel::unique_fd fd(::socket(wanted.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  REQUIRE(fd);
  std::array<std::byte, endpoint::sockaddr_size_max> storage;
  auto size_bytes = socklen_t(wanted.to_sockaddr(storage));
  REQUIRE(::bind(fd.get(), reinterpret_cast<const sockaddr*>(storage.data()), size_bytes) == 0);
  size_bytes = socklen_t(storage.size());
  REQUIRE(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(storage.data()), &size_bytes) == 0);
  return endpoint::from_sockaddr(std::span(storage).first(size_bytes));
}

}  // namespace

// g++ 12 copies temporaries of other kinds bitwise into coroutine frames.
static_assert(std::is_trivially_destructible_v<endpoint> && !std::is_aggregate_v<endpoint>);
static_assert(sizeof(endpoint) <= 128);

TEST_CASE("endpoint: host and port are read and written") {
  for (const char* text : {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80", "[::]:0",
                           "[2001:db8::1]:443", "[fe80::1%2]:80", "[::ffff:192.0.2.1]:1"}) {
    CHECK(round_trip(text) == text);
  }
  const endpoint web = *endpoint::parse("192.0.2.1:8080");
  CHECK(web.is_ip());
  CHECK(web.host() == address::v4(192, 0, 2, 1));
  CHECK(web.port() == 8080);
  CHECK(web == endpoint(address::v4(192, 0, 2, 1), 8080));
}

TEST_CASE("endpoint: no host and '*' mean every address, localhost means 127.0.0.1") {
  CHECK(round_trip(":80") == "[::]:80");
  CHECK(round_trip("*:80") == "[::]:80");
  CHECK(round_trip("localhost:80") == "127.0.0.1:80");
  CHECK(endpoint::parse(":0").value() == endpoint());
}

TEST_CASE("endpoint: what is no endpoint is refused") {
  for (const char* bad : {
      "", ":", "80", "*", "localhost", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536",
      "127.0.0.1:99999999999999999999", "127.0.0.1:-1", "127.0.0.1:+1", "127.0.0.1: 80", "127.0.0.1:80 ",
      " 127.0.0.1:80", "127.0.0.1:080", "127.0.0.1:00", "127.0.0.1:http", "127.0.0.1:0x50",
      "127.0.0.1:80:80", "127.0.0.1:80/tcp", "127.0.0.01:80", "256.0.0.1:80", "::1:80", "::80", "[::1]",
      "[::1]80", "[::1]:", "[::1:80", "::1]:80", "[]:80", "[:80", "]:80", "[127.0.0.1]:80",
      "[localhost]:80", "[[::1]]:80", "[::1] :80", "[::1]]:80", "[fe80::1%]:80", "example.org:80",
      "**:80", "Localhost:80", "unix:", "unix:@", "UNIX:/x", "http://127.0.0.1:80",
  }) {
    CAPTURE(bad);
    CHECK(refused(bad));
  }
  CHECK(refused("127.0.0.1:80\0"sv));
  CHECK(refused("127.0.0.1:8\0000"sv));
  CHECK(refused("127.0.0.1\0:80"sv));
  CHECK(refused("unix:/tmp/\0x"sv));
  CHECK(refused("unix:@a\0b"sv));
  CHECK(refused(std::string(100'000, '[')));
}

TEST_CASE("endpoint: Unix sockets have a path or an abstract name") {
  const endpoint path = *endpoint::parse("unix:/run/keel.sock");
  CHECK(path.is_unix());
  CHECK_FALSE(path.is_ip());
  CHECK(path.unix_name() == "/run/keel.sock");
  CHECK(path.port() == 0);
  CHECK(path.to_string() == "unix:/run/keel.sock");
  CHECK(path == endpoint::unix_path("/run/keel.sock").value());

  const endpoint abstract = *endpoint::parse("unix:@keel");
  CHECK(abstract.unix_name() == "\0keel"sv);
  CHECK(abstract.to_string() == "unix:@keel");
  CHECK(abstract == endpoint::unix_abstract("keel").value());
  CHECK(abstract != path);
}

TEST_CASE("endpoint: a path may have 107 bytes and no more") {
  const std::string longest(107, 'x');
  for (const char* prefix : {"unix:", "unix:@"}) {
    CHECK(round_trip(prefix + longest) == prefix + longest);
    CHECK(through_sockaddr(*endpoint::parse(prefix + longest)) == *endpoint::parse(prefix + longest));
    CHECK(refused(prefix + longest + "x"));
  }
}

TEST_CASE("endpoint: a file called @name is not the abstract name") {
  const endpoint file = endpoint::unix_path("@name").value();
  CHECK(file.to_string() == "unix:./@name");
  CHECK(file != endpoint::unix_abstract("name").value());
  CHECK(endpoint::parse(file.to_string())->unix_name() == "./@name");
}

TEST_CASE("endpoint: endpoints of different kinds, addresses, ports and paths differ") {
  const char* const texts[] = {"127.0.0.1:80", "127.0.0.1:81", "127.0.0.2:80",      "[::1]:80", "[::1%1]:80",
                               "unix:/a",      "unix:/ab",     "unix:@a",           "unix:a",   "[::]:0",
                               "0.0.0.0:0",    "unix:@ab",     "[::ffff:7f00:1]:80"};
  for (const char* a : texts) {
    for (const char* b : texts) {
      CAPTURE(a);
      CAPTURE(b);
      CHECK((*endpoint::parse(a) == *endpoint::parse(b)) == (a == b));
    }
  }
}

TEST_CASE("endpoint: with_port changes the port alone") {
  const endpoint any = *endpoint::parse("[fe80::1%2]:0");
  CHECK(any.with_port(443).to_string() == "[fe80::1%2]:443");
  CHECK(any.port() == 0);
}

TEST_CASE("endpoint: the kernel's form and back is the same endpoint") {
  for (const char* text : {
      "127.0.0.1:80", "[2001:db8::1]:65535", "[fe80::1%2]:1", "unix:/run/keel.sock", "unix:relative",
      "unix:@keel",
  }) {
    CHECK(through_sockaddr(*endpoint::parse(text)) == *endpoint::parse(text));
  }
  CHECK(endpoint::parse("127.0.0.1:0")->family() == AF_INET);
  CHECK(endpoint::parse(":0")->family() == AF_INET6);
  CHECK(endpoint::parse("unix:x")->family() == AF_UNIX);
}

TEST_CASE("endpoint: the kernel understands it, and we understand the kernel") {
  const endpoint loopback = bound_name(*endpoint::parse("localhost:0"));
  CHECK(loopback.host() == address::v4_loopback());
  CHECK(loopback.port() != 0);

  const std::string unique = "keel-test-" + std::to_string(::getpid());
  const endpoint abstract = endpoint::unix_abstract(unique).value();
  CHECK(bound_name(abstract) == abstract);

  const endpoint path = endpoint::unix_path("/tmp/" + unique).value();
  CHECK(bound_name(path) == path);
  ::unlink(("/tmp/" + unique).c_str());
}

TEST_CASE("endpoint: a Unix socket without a name, and a path of all 108 bytes, come from the kernel") {
  int fds[2];
  REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) == 0);
  const keel::unique_fd ours(fds[0]);
  const keel::unique_fd theirs(fds[1]);
  sockaddr_un native = {};
  socklen_t size_bytes = sizeof native;
  REQUIRE(::getpeername(ours.get(), reinterpret_cast<sockaddr*>(&native), &size_bytes) == 0);

  const endpoint unnamed = endpoint::from_sockaddr(std::as_bytes(std::span(&native, 1)).first(size_bytes));
  CHECK(unnamed.is_unix());
  CHECK(unnamed.unix_name().empty());
  CHECK(unnamed.to_string() == "unix:");
  CHECK(through_sockaddr(unnamed) == unnamed);

  std::memset(native.sun_path, 'x', sizeof native.sun_path);
  const endpoint full = endpoint::from_sockaddr(std::as_bytes(std::span(&native, 1)));
  CHECK(full.unix_name() == std::string(108, 'x'));
  CHECK(full.to_string() == "unix:" + std::string(108, 'x'));
  CHECK(through_sockaddr(full) == full);
}

TEST_CASE("endpoint: bytes that are no known address give the empty endpoint") {
  std::array<std::byte, endpoint::sockaddr_size_max> storage = {};
  CHECK(endpoint::from_sockaddr({}) == endpoint());
  CHECK(endpoint::from_sockaddr(std::span(storage).first(1)) == endpoint());
  CHECK(endpoint::from_sockaddr(storage) == endpoint());
  const std::size_t size_bytes = endpoint::parse("127.0.0.1:80")->to_sockaddr(storage);
  CHECK(endpoint::from_sockaddr(std::span(storage).first(size_bytes - 1)) == endpoint());
}
