#include <doctest/doctest.h>

#include "httpd/target.hpp"

#include <array>
#include <random>
#include <string>

using namespace httpd;

namespace {

// The decoded path, or the refusal in angle brackets.
std::string decoded(std::string_view target, bool hidden = false) {
  std::array<char, 256> scratch;
  target_path result = decode_target(target, hidden, scratch);
  return result.refusal != 0 ? "<" + std::to_string(result.refusal) + ">" : std::string(result.path);
}

}  // namespace

TEST_CASE("target: plain paths lose their first slash") {
  CHECK(decoded("/") == "");
  CHECK(decoded("/a") == "a");
  CHECK(decoded("/a/b.txt") == "a/b.txt");
  CHECK(decoded("/a/b/") == "a/b/");
}

TEST_CASE("target: percent signs are decoded once") {
  CHECK(decoded("/a%20b") == "a b");
  CHECK(decoded("/%C3%A9") == "\xc3\xa9");
  CHECK(decoded("/%61%2B+") == "a++");
  CHECK(decoded("/%2561") == "%61");
  CHECK(decoded("/a%0Ab") == "a\nb");
}

TEST_CASE("target: wrong percent signs, NUL and control characters are refused") {
  for (const char* target :
       {"/%", "/%4", "/%4g", "/%g4", "/a%", "/%00", "/a%00.txt", "/a b", "/a\tb", "/a#b"}) {
    CAPTURE(target);
    CHECK(decoded(target) == "<400>");
  }
}

TEST_CASE("target: dot segments and double slashes disappear") {
  CHECK(decoded("/./a") == "a");
  CHECK(decoded("/a/./b") == "a/b");
  CHECK(decoded("/a/../b") == "b");
  CHECK(decoded("/a/b/..") == "a/");
  CHECK(decoded("/a/b/../") == "a/");
  CHECK(decoded("/a/b/../../c") == "c");
  CHECK(decoded("/a/.") == "a/");
  CHECK(decoded("/a/..") == "");
  CHECK(decoded("//a//b//") == "a/b/");
  CHECK(decoded("//example.org/x") == "example.org/x");
}

TEST_CASE("target: nothing climbs out of the folder") {
  for (const char* target :
       {"/..", "/../", "/../etc/passwd", "/%2e%2e/etc/passwd", "/.%2E/x", "/a/../../x", "/a/%2e%2e/%2e%2e/x",
        "//../x", "/./../x", "/a/./.././../x"}) {
    CAPTURE(target);
    CHECK(decoded(target) == "<400>");
    CHECK(decoded(target, true) == "<400>");
  }
}

TEST_CASE("target: encoded slashes name nothing") {
  CHECK(decoded("/..%2fetc/passwd") == "<404>");
  CHECK(decoded("/a%2Fb") == "<404>");
  CHECK(decoded("/%2fetc/passwd") == "<404>");
}

TEST_CASE("target: a backslash is a character like others") {
  CHECK(decoded("/a%5c..%5cb") == "a\\..\\b");
  CHECK(decoded("/..\\x") == "<404>");  // a hidden name, no climbing
}

TEST_CASE("target: hidden names are shown on request only") {
  CHECK(decoded("/.git/config") == "<404>");
  CHECK(decoded("/a/.b") == "<404>");
  CHECK(decoded("/%2egit/config") == "<404>");
  CHECK(decoded("/...") == "<404>");
  CHECK(decoded("/.git/config", true) == ".git/config");
  CHECK(decoded("/.../a", true) == ".../a");
}

TEST_CASE("target: the query is apart") {
  std::array<char, 64> scratch;
  target_path with = decode_target("/a%3Fb?c=%2e%2e/&d#", false, scratch);
  CHECK(with.path == "a?b");
  CHECK(with.query == "c=%2e%2e/&d#");
  CHECK(decode_target("/a", false, scratch).query.empty());
  CHECK(decode_target("/?", false, scratch).path.empty());
}

TEST_CASE("target: a whole address is cut down to its path") {
  CHECK(decoded("http://example.org/a/b") == "a/b");
  CHECK(decoded("http://example.org") == "");
  CHECK(decoded("http://example.org?x") == "");
  CHECK(decoded("http://example.org/../x") == "<400>");
  CHECK(decoded("*") == "<400>");
  CHECK(decoded("a") == "<400>");
  CHECK(decoded("") == "<400>");
}

TEST_CASE("target: whatever comes, the path has no empty and no dot segment") {
  std::mt19937 random(7);
  constexpr std::string_view pieces[] = {"/", ".",   "..",     "%2e", "%2E%2e", "a",
                                         "b", "/a/", "%2f", "//",  "/./",    "/../"};
  std::uniform_int_distribution<std::size_t> pick(0, std::size(pieces) - 1);
  int accepted = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::string target = "/";
    for (int n = 0; n < 8; ++n) target += pieces[pick(random)];
    std::array<char, 64> scratch;
    target_path result = decode_target(target, true, scratch);
    if (result.refusal != 0) continue;
    ++accepted;
    std::string fenced = "/" + std::string(result.path) + (result.names_directory() ? "" : "/");
    REQUIRE(fenced.find("/../") == fenced.npos);
    REQUIRE(fenced.find("/./") == fenced.npos);
    REQUIRE(fenced.find("//") == fenced.npos);
  }
  CHECK(accepted > 1000);
}
