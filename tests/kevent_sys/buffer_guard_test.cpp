#include <keel/kevent_sys/buffer_guard.hpp>

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "support/death_test.hpp"

using namespace keel::kevent_sys;

namespace {

request to_receive(std::byte* data, std::size_t size) {
  return {.code = opcode::recv, .size_bytes = static_cast<std::uint32_t>(size), .data = data};
}
request to_send(const std::byte* data, std::size_t size) {
  return {.code = opcode::send, .size_bytes = static_cast<std::uint32_t>(size), .data = data};
}

}  // namespace

#if KEEL_ADDRESS_SANITIZER

TEST_CASE("C1: a receive buffer is forbidden while the kernel may write into it, and allowed afterwards") {
  alignas(8) std::array<std::byte, 64> buffer{};
  const request asked = to_receive(buffer.data(), buffer.size());

  guard_buffer(asked);
  CHECK(keel::is_forbidden(buffer.data(), buffer.size()));
  release_buffer(asked);

  CHECK_FALSE(keel::is_forbidden(buffer.data(), buffer.size()));
}

TEST_CASE("C1: bytes beside a receive buffer stay allowed, however it lies in memory") {
  alignas(8) std::array<std::byte, 64> memory{};
  for (std::size_t begin = 0; begin < 16; ++begin) {
    for (std::size_t size = 1; size < 24; ++size) {
      CAPTURE(begin);
      CAPTURE(size);
      const request asked = to_receive(memory.data() + begin, size);
      guard_buffer(asked);
      CHECK_FALSE(keel::is_forbidden(memory.data(), begin));
      CHECK_FALSE(keel::is_forbidden(memory.data() + begin + size, memory.size() - begin - size));
      release_buffer(asked);
      CHECK_FALSE(keel::is_forbidden(memory.data(), memory.size()));
    }
  }
}

TEST_CASE("C1: a buffer that is freed is refused at submission, for both directions") {
  auto freed = std::make_unique<std::byte[]>(64);
  std::byte* const data = freed.get();
  freed.reset();
  CHECK_DEATH(guard_buffer(to_receive(data, 64)), "a buffer that is freed");
  CHECK_DEATH(guard_buffer(to_send(data, 64)), "a buffer that is freed");
}

TEST_CASE("C1: a send buffer that was freed in flight is found out at the end") {
  auto bytes = std::make_unique<std::byte[]>(64);
  const request asked = to_send(bytes.get(), 64);
  guard_buffer(asked);
  bytes.reset();
  CHECK_DEATH(release_buffer(asked), "a buffer was freed while the kernel read from it");
}

TEST_CASE("sending one buffer twice at a time is fine; receiving into one twice is not") {
  std::array<std::byte, 64> buffer{};
  guard_buffer(to_send(buffer.data(), buffer.size()));
  guard_buffer(to_send(buffer.data(), buffer.size()));
  release_buffer(to_send(buffer.data(), buffer.size()));
  release_buffer(to_send(buffer.data(), buffer.size()));

  const request asked = to_receive(buffer.data(), buffer.size());
  guard_buffer(asked);
  CHECK_DEATH(guard_buffer(asked), "in use by another operation");
  release_buffer(asked);
}

#else

TEST_CASE("without the address sanitizer nothing is watched") {
  std::array<std::byte, 64> buffer{};
  const request asked = to_receive(buffer.data(), buffer.size());
  guard_buffer(asked);
  buffer[5] = std::byte{1};
  release_buffer(asked);
  guard_buffer(to_send(buffer.data(), buffer.size()));
  CHECK_FALSE(keel::is_forbidden(buffer.data(), buffer.size()));
}

#endif
