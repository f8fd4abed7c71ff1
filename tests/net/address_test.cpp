#include <doctest/doctest.h>
#include <keel/net/address.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <cstdlib>
#include <net/if.h>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

using keel::net::address;

namespace {

std::string round_trip(std::string_view text) { return address::parse(text).value().to_string(); }

bool refused(std::string_view text) { return address::parse(text).error() == keel::errc::bad_address; }

}  // namespace

// g++ 12 copies temporaries of other kinds bitwise into coroutine frames.
static_assert(std::is_trivially_destructible_v<address> && !std::is_aggregate_v<address>);

TEST_CASE("address: IPv4 is read and written as four decimal numbers") {
  for (const char* text : {"0.0.0.0", "127.0.0.1", "192.0.2.255", "255.255.255.255"}) {
    CHECK(round_trip(text) == text);
    CHECK(address::parse(text)->is_v4());
  }
  CHECK(*address::parse("192.0.2.1") == address::v4(192, 0, 2, 1));
}

TEST_CASE("address: IPv6 is written as RFC 5952 wants it") {
  const std::pair<const char*, const char*> cases[] = {
      {"::", "::"},
      {"::1", "::1"},
      {"1::", "1::"},
      {"2001:DB8::A", "2001:db8::a"},
      {"2001:0db8:0000:0000:0000:0000:0000:0001", "2001:db8::1"},
      {"2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
      {"2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1"},
      {"2001:0:0:1:0:0:0:1", "2001:0:0:1::1"},
      {"2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"},
      {"1:2:3:4:5:6:0:0", "1:2:3:4:5:6::"},
      {"0:0:3:4:5:6:7:8", "::3:4:5:6:7:8"},
      {"::ffff:192.0.2.1", "::ffff:192.0.2.1"},
      {"::ffff:c000:201", "::ffff:192.0.2.1"},
      {"::192.0.2.1", "::c000:201"},
      {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
  };
  for (const auto& [text, canonical] : cases) {
    CAPTURE(text);
    CHECK(round_trip(text) == canonical);
    CHECK(round_trip(canonical) == canonical);
    CHECK(address::parse(text)->is_v6());
  }
}

TEST_CASE("address: any IPv6 address is read back from its text, and the C library reads the same") {
  const char* given = std::getenv("KEEL_SEED");
  const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 0) : std::random_device()();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  for (int i = 0; i < 10'000; ++i) {
    std::byte bytes[16] = {};
    // Many zeros, so that there is something to shorten.
    for (std::byte& each : bytes) each = std::byte(random() % 3 == 0 ? random() & 0xff : 0);
    const address original = address::v6(bytes, std::uint32_t(random() % 2 == 0 ? random() : 0));
    const std::string text = original.to_string();
    CAPTURE(text);

    REQUIRE(address::parse(text).value() == original);

    std::byte by_c[16];
    REQUIRE(::inet_pton(AF_INET6, text.substr(0, text.find('%')).c_str(), by_c) == 1);
    REQUIRE(std::equal(by_c, by_c + 16, bytes));
  }
}

TEST_CASE("address: a scope is a number or the name of an interface, and written as a number") {
  CHECK(round_trip("fe80::1%2") == "fe80::1%2");
  CHECK(address::parse("fe80::1%4294967295")->scope_id() == 4294967295);
  const unsigned loopback = ::if_nametoindex("lo");
  if (loopback != 0) CHECK(address::parse("fe80::1%lo")->scope_id() == loopback);

  for (const char* bad : {
      "fe80::1%", "fe80::1%0", "fe80::1%4294967296", "fe80::1%-1", "fe80::1%no_such_if0", "fe80::1%2 ",
      "fe80::1%1%1", "%1", "127.0.0.1%1", "fe80::1%an_interface_name_of_any_length",
  }) {
    CAPTURE(bad);
    CHECK(refused(bad));
  }
}

TEST_CASE("address: what is no address is refused") {
  for (const char* bad : {
      "", " ", "localhost", "1", "1.2", "1.2.3", "1.2.3.", ".1.2.3", "1..2.3", "1.2.3.4.", "1.2.3.4.5",
      "256.0.0.1", "1.2.3.256", "01.2.3.4", "1.2.3.04", "0x7f.0.0.1", "1.2.3.4 ", " 1.2.3.4", "+1.2.3.4",
      "-1.2.3.4", "1.2.3.4/8", "1,2,3,4", "1.2.3.4\n", "999999999999.1.1.1", ":", ":::", "::1::",
      "1::2::3", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8::", "12345::", "g::", "::1 ",
      "[::1]", "::1.2.3", "::256.1.1.1", "::1.2.3.4:5", "::ffff:01.2.3.4", "1:", ":1", "127.0.0.1:80",
  }) {
    CAPTURE(bad);
    CHECK(refused(bad));
  }
  using namespace std::string_view_literals;
  CHECK(refused("127.0.0.1\0"sv));
  CHECK(refused("127.0.0.1\0.5"sv));
  CHECK(refused("::1\0"sv));
  CHECK(refused("fe80::1%lo\0"sv));
  CHECK(refused(std::string(100'000, '1')));
  CHECK(refused(std::string(100'000, ':')));
}

TEST_CASE("address: the error says what was tried") {
  CHECK_THROWS_WITH(address::parse("300.1.1.1").value(), doctest::Contains("parse an address"));
}

TEST_CASE("address: the special addresses are what they say") {
  CHECK(address() == address::v6_any());
  CHECK(address::v4_any().to_string() == "0.0.0.0");
  CHECK(address::v6_any().to_string() == "::");
  CHECK(address::v4_loopback().to_string() == "127.0.0.1");
  CHECK(address::v6_loopback().to_string() == "::1");

  for (const char* any : {"0.0.0.0", "::"}) CHECK(address::parse(any)->is_any());
  for (const char* loopback : {"127.0.0.1", "127.255.0.9", "::1", "::1%1", "::ffff:127.0.0.1"}) {
    CAPTURE(loopback);
    CHECK(address::parse(loopback)->is_loopback());
    CHECK_FALSE(address::parse(loopback)->is_any());
  }
  for (const char* other : {"128.0.0.1", "::2", "1::1", "::ffff:128.0.0.1"}) {
    CHECK_FALSE(address::parse(other)->is_loopback());
  }
}

TEST_CASE("address: an IPv4 peer of an IPv6 socket can be had as IPv4") {
  const address mapped = *address::parse("::ffff:192.0.2.1");
  CHECK(mapped.is_v4_mapped());
  CHECK(mapped.unmapped() == address::v4(192, 0, 2, 1));
  CHECK(mapped != mapped.unmapped());

  const address other = *address::parse("fe80::1%3");
  CHECK_FALSE(other.is_v4_mapped());
  CHECK(other.unmapped() == other);
  CHECK(address::v4_any().unmapped() == address::v4_any());
}

TEST_CASE("address: bytes are in network order, and make the same address again") {
  const address four = address::v4(1, 2, 3, 4);
  REQUIRE(four.bytes().size() == 4);
  CHECK(four.bytes()[0] == std::byte{1});
  CHECK(address::v4(four.bytes().first<4>()) == four);

  const address six = *address::parse("2001:db8::2%7");
  REQUIRE(six.bytes().size() == 16);
  CHECK(six.bytes()[0] == std::byte{0x20});
  CHECK(address::v6(six.bytes().first<16>(), six.scope_id()) == six);
}

TEST_CASE("address: IPv4 sorts before IPv6, then by bytes, then by scope") {
  std::vector<address> sorted;
  for (const char* text : {
      "0.0.0.0", "1.0.0.2", "2.0.0.1", "255.255.255.255", "::", "::1", "::1%1", "::1%2", "fe80::",
  }) {
    sorted.push_back(*address::parse(text));
  }

  for (std::size_t i = 0; i < sorted.size(); ++i) {
    for (std::size_t j = 0; j < sorted.size(); ++j) {
      CHECK((sorted[i] < sorted[j]) == (i < j));
      CHECK((sorted[i] == sorted[j]) == (i == j));
    }
  }
}
