// A program of its own: it counts what everybody asks of operator new.

#include <doctest/doctest.h>
#include <keel/kevent_sys/kevent.h>

#include <array>
#include <unistd.h>
#include <vector>

#include "support/counting_new.hpp"
#include "support/fd_pairs.hpp"

using keel::test::allocations;
using keel::test::fd_pair;
using keel::test::pipe_pair;

namespace {

constexpr timespec patience{20, 0};

ukevent entry_of(std::uint32_t type, std::uint32_t first, std::uint32_t second = 0) {
  ukevent entry{};
  entry.id.raw[0] = first;
  entry.id.raw[1] = second;
  entry.type = type;
  entry.event = 1;
  entry.req_flags = KEVENT_REQ_ET;
  return entry;
}

}  // namespace

TEST_CASE("W14: no event allocates: pipes, timers and notifications, into a buffer and a ring") {
  constexpr std::uint32_t count = 64;
  std::vector<std::uint64_t> ring_memory(1 + 5 * 8);
  const int queue = ::kevent_init(reinterpret_cast<kevent_ring*>(ring_memory.data()), 8, 0);
  REQUIRE(queue >= 0);
  std::vector<fd_pair> pipes;
  for (std::uint32_t i = 0; i < count; ++i) {
    pipes.push_back(pipe_pair());
    ukevent entry = entry_of(KEVENT_PIPE, std::uint32_t(pipes.back().ours.get()));
    REQUIRE(::kevent_ctl(queue, KEVENT_CTL_ADD, 1, &entry) == 0);
    entry = entry_of(KEVENT_UNOTIFY, i);
    REQUIRE(::kevent_ctl(queue, KEVENT_CTL_ADD, 1, &entry) == 0);
  }
  ukevent timer = entry_of(KEVENT_TIMER, 0, 1'000'000);
  REQUIRE(::kevent_ctl(queue, KEVENT_CTL_ADD, 1, &timer) == 0);

  const auto once_around = [&] {
    std::array<ukevent, 2 * count + 1> events{};
    std::array<char, 8> bytes{};
    for (std::uint32_t i = 0; i < count; ++i) {
      REQUIRE(::write(pipes[i].theirs.get(), "x", 1) == 1);
      events[i] = entry_of(KEVENT_UNOTIFY, i);
    }
    REQUIRE(::kevent_ctl(queue, KEVENT_CTL_READY, count, events.data()) == int(count));
    for (std::uint32_t got = 0; got < 2 * count + 1;) {
      const int n = ::kevent_get_events(queue, 1, unsigned(events.size()), patience, events.data(), 0);
      REQUIRE(n > 0);
      for (int i = 0; i < n; ++i) {
        if (events[std::size_t(i)].type == KEVENT_PIPE)
          REQUIRE(::read(int(events[std::size_t(i)].id.raw[0]), bytes.data(), 8) == 1);
      }
      got += std::uint32_t(n);
    }
  };
  once_around();
  const std::uint64_t before = allocations.load();
  for (int i = 0; i < 20; ++i) once_around();
  CHECK(allocations.load() == before);
  CHECK(::kevent_close(queue) == 0);
}
