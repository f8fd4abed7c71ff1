// What the C interface cannot ask for: a shared queue whose engine has next to no room.

#include <keel/kevent_sys/shared_queue.hpp>

#include <doctest/doctest.h>

#include <unistd.h>
#include <vector>

#include "support/fd_pairs.hpp"

using keel::kevent_sys::shared_queue;
using keel::kevent_sys::time_limit;
using keel::kevent_sys::user_ring;
using keel::test::fd_pair;
using keel::test::pipe_pair;

TEST_CASE("B6, W14: no event is lost with 32 completions, two events at a time and a ring of two") {
  constexpr std::uint32_t count = 500;
  std::vector<std::uint64_t> memory(1 + 5 * 2);
  auto* header = reinterpret_cast<kevent_ring*>(memory.data());
  const auto* entries = reinterpret_cast<const ukevent*>(header + 1);
  int error = 0;
  shared_queue* queue = shared_queue::create(
      user_ring(header, 2), {.engine = {.entries = 8, .completions = 32}, .events = 2}, error);
  REQUIRE(queue != nullptr);
  std::vector<fd_pair> pipes;
  for (std::uint32_t i = 0; i < count; ++i) {
    pipes.push_back(pipe_pair(O_NONBLOCK));
    ukevent entry{};
    entry.id.raw[0] = std::uint32_t(pipes.back().ours.get());
    entry.type = KEVENT_PIPE;
    entry.event = KEVENT_SOCKET_RECV;
    entry.req_flags = KEVENT_REQ_ET;
    entry.user[0] = i;
    REQUIRE(queue->add(&entry, 1) == 0);
  }

  for (int round = 0; round < 3; ++round) {
    for (const fd_pair& pipe : pipes) pipe.put("x");
    std::vector<int> seen(count);
    time_limit patience;
    REQUIRE(time_limit::parse({20, 0}, false, patience));
    std::uint32_t index = queue->ring().consumer_index();
    for (std::uint32_t got = 0; got < count;) {
      const int n = queue->wait(1, index, &patience);
      REQUIRE(n == 1);
      const ukevent event = entries[index];
      // A poll that the kernel had to drop looks again when it is begun anew, and may tell what is told
      // already: so the reader does not block.
      char byte = 0;
      if (::read(int(event.id.raw[0]), &byte, 1) == 1) {
        ++seen[event.user[0]];
        ++got;
      }
      const std::uint32_t over = header->ring_over;
      index = (index + 1) % 2;
      REQUIRE(queue->commit(index, over) == 1);
    }
    for (const int times : seen) CHECK(times == 1);
  }
  queue->close();
  delete queue;
}
