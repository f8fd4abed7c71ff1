#include <doctest/doctest.h>
#include <keel/base/bytes.hpp>

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

TEST_CASE("bytes: text and its bytes are the same memory") {
  const std::string text = "keel";
  const keel::const_byte_span bytes = keel::as_bytes(text);

  CHECK(bytes.size() == 4);
  CHECK(static_cast<const void*>(bytes.data()) == static_cast<const void*>(text.data()));
  CHECK(bytes[0] == std::byte{'k'});
  CHECK(keel::as_text(bytes) == text);
  CHECK(keel::as_text(bytes).data() == text.data());
}

TEST_CASE("bytes: zeros and bytes above 127 are bytes like others") {
  using namespace std::string_view_literals;
  const std::string_view text = "a\0\xff"sv;
  CHECK(keel::as_bytes(text).size() == 3);
  CHECK(keel::as_bytes(text)[2] == std::byte{0xff});
  CHECK(keel::as_text(keel::as_bytes(text)) == text);
}

TEST_CASE("bytes: nothing stays nothing") {
  CHECK(keel::as_bytes({}).empty());
  CHECK(keel::as_text({}).empty());
}

TEST_CASE("bytes: a buffer that can be written reads as text, too") {
  std::array<std::byte, 2> buffer = {std::byte{'o'}, std::byte{'k'}};
  const keel::byte_span target = buffer;
  CHECK(keel::as_text(target) == "ok");
}
