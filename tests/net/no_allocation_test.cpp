// A program of its own: it counts and fails what everybody asks of operator new.

#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <array>
#include <string>
#include <thread>

#include "support/counting_new.hpp"
#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;
using keel::test::allocations;
using keel::test::no_memory;

namespace {

constexpr int warm_up_rounds = 100;
constexpr int rounds = 10'000;

// Answers what it receives, by leases.
task<> echo_by_lease(net::tcp_stream& peer) {
  for (;;) {
    const auto chunk = co_await peer.receive();
    if (!chunk || chunk->empty()) co_return;
    const auto sent = co_await peer.send_all(*chunk);
    if (!sent) co_return;
  }
}

task<> echo_by_copy(net::tcp_stream& peer) {
  std::array<std::byte, 256> buffer;
  for (;;) {
    const auto n = co_await peer.recv(buffer);
    if (!n || *n == 0) co_return;
    const auto sent = co_await peer.send(std::span(buffer).first(*n));
    if (!sent) co_return;
  }
}

task<> ask(net::tcp_stream& peer, int times) {
  std::array<std::byte, 64> answer;
  for (int i = 0; i < times; ++i) {
    const auto sent = co_await peer.send_all(std::span(answer));
    REQUIRE(sent);
    const auto n = co_await peer.recv_exactly(answer);
    REQUIRE(n);
  }
}

struct cost {
  std::uint64_t allocations = 0;
  std::uint64_t fresh_frames = 0;
};

// What 10,000 warm rounds cost.
cost cost_of(task<> (*echo)(net::tcp_stream&)) {
  cost seen;
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_pair();
    auto server = spawn(echo, std::ref(pair.ours));
    co_await ask(pair.theirs, warm_up_rounds);
    const std::uint64_t allocated = allocations.load();
    const std::uint64_t fresh = this_thread_frames().fresh;
    co_await ask(pair.theirs, rounds);
    seen = {allocations.load() - allocated, this_thread_frames().fresh - fresh};
    CHECK(pair.theirs.shutdown_send());
    co_await std::move(server);
  });
  return seen;
}

}  // namespace

TEST_CASE("the count counts: what allocates is seen") {
  const std::uint64_t before = allocations.load();
  ::operator delete(::operator new(1));
  CHECK(allocations.load() == before + 1);
}

TEST_CASE("receive and send_all: 10,000 warm rounds allocate nothing") {
  const cost seen = cost_of(echo_by_lease);
  CHECK(seen.allocations == 0);
  CHECK(seen.fresh_frames == 0);
}

TEST_CASE("recv and send: 10,000 warm rounds allocate nothing") {
  const cost seen = cost_of(echo_by_copy);
  CHECK(seen.allocations == 0);
  CHECK(seen.fresh_frames == 0);
}

TEST_CASE("receive: too little memory for its first use is bad_alloc, and the next one works") {
  // On a thread of its own: no memory has been recycled there.
  std::thread([] {
    test::in_runtime([]() -> task<> {
      auto pair = test::connected_to_raw();
      REQUIRE(pair.theirs.send("hello"));
      bool thrown = false;
      try {
        no_memory = true;
        const auto lease = co_await pair.ours.receive();
      } catch (const std::bad_alloc&) {
        thrown = true;
      }
      no_memory = false;
      CHECK(thrown);
      const auto lease = co_await pair.ours.receive();
      CHECK(lease.value().text() == "hello");
    });
  }).join();
}
