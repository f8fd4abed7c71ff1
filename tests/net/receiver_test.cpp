#include <doctest/doctest.h>
#include <keel/net/receiver.hpp>
#include <keel/net/tcp.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/spawn.hpp>

#include <array>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

kevent_sys::buffer_pool& pool() { return scheduler::current()->queue().buffers(); }

runtime_options few_buffers(std::uint32_t buffers, std::uint32_t limit, std::uint32_t bytes) {
  runtime_options options;
  options.buffers = buffers;
  options.buffers_limit = limit;
  options.buffer_bytes = bytes;
  return options;
}

// Waits until `n` buffers are with readers.
task<> until_away(std::uint32_t n) {
  while (pool().away() < n) co_await test::some_turns(1);
}

// receive() until the end of the stream.
task<std::string> receive_all(net::tcp_stream& from) {
  std::string all;
  for (;;) {
    const auto lease = co_await from.receive();
    CHECK(lease);
    if (!lease || lease->empty()) co_return all;
    all += lease->text();
  }
}

}  // namespace

TEST_CASE("receive: gives what has come, then an empty lease at the end, again and again") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    REQUIRE(pair.theirs.send("hello"));
    {
      const auto lease = co_await pair.ours.receive();
      CHECK(lease.value().text() == "hello");
      CHECK(pool().away() == 1);
    }
    CHECK(pool().away() == 0);
    pair.theirs.close();
    for (int i = 0; i < 3; ++i) {
      const auto end = co_await pair.ours.receive();
      REQUIRE(end);
      CHECK(end->empty());
    }
  });
}

TEST_CASE("receive: bytes that came before the end, or before a reset, come first") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    REQUIRE(pair.theirs.send("last words"));
    pair.theirs.close();
    co_await test::some_turns();
    const auto lease = co_await pair.ours.receive();
    CHECK(lease.value().text() == "last words");
    const auto end = co_await pair.ours.receive();
    CHECK(end.value().empty());

    auto other = test::connected_to_raw();
    const auto nothing = co_await with_timeout(1ms, other.ours.receive());
    CHECK(nothing.error() == errc::timed_out);
    REQUIRE(other.theirs.send("hang on"));
    co_await until_away(2);
    other.theirs.reset();
    co_await test::some_turns();
    {
      const auto first = co_await other.ours.receive();
      CHECK(first.value().text() == "hang on");
    }
    for (int i = 0; i < 2; ++i) {
      const auto error = co_await other.ours.receive();
      CHECK(error.error() == std::errc::connection_reset);
    }
  });
}

TEST_CASE("receive: more than a buffer's worth comes in several leases, in order") {
  const std::string sent = test::pattern(1000);
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    REQUIRE(pair.theirs.send(sent));
    pair.theirs.close();
    const std::string got = co_await receive_all(pair.ours);
    CHECK(got == sent);
  }, few_buffers(8, 64, 64));
}

TEST_CASE("recv after receive: drains the buffers that wait first, in pieces of any size") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    REQUIRE(pair.theirs.send("0123456789"));
    {
      const auto lease = co_await pair.ours.receive();
      CHECK(lease.value().text() == "0123456789");
    }
    REQUIRE(pair.theirs.send("abcdefgh"));
    co_await until_away(1);
    REQUIRE(pair.theirs.send("ijkl"));
    co_await until_away(2);

    std::array<std::byte, 3> three;
    const auto abc = co_await pair.ours.recv(three);
    CHECK(as_text(std::span(three).first(abc.value())) == "abc");
    std::array<std::byte, 7> seven;
    const auto n = co_await pair.ours.recv_exactly(seven);
    CHECK(as_text(std::span(seven).first(n.value())) == "defghij");
    {
      const auto rest = co_await pair.ours.receive();
      CHECK(rest.value().text() == "kl");
    }
    pair.theirs.close();
    const auto end = co_await pair.ours.recv(three);
    CHECK(end.value() == 0);
    const auto early = co_await pair.ours.recv_exactly(three);
    CHECK(early.error() == errc::end_of_stream);
  });
}

TEST_CASE("receive: cancelled, it ends at once, and what comes later is not lost") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    for (int i = 0; i < 3; ++i) {
      auto waiting = spawn([](net::tcp_stream& from) -> task<std::error_code> {
        const auto lease = co_await from.receive();
        co_return lease.error();
      }, std::ref(pair.ours));
      co_await test::some_turns();
      waiting.request_stop();
      const auto error = co_await std::move(waiting);
      CHECK(error == errc::operation_canceled);
    }
    REQUIRE(pair.theirs.send("patience"));
    const auto lease = co_await pair.ours.receive();
    CHECK(lease.value().text() == "patience");
  });
}

TEST_CASE("receive: a stream that nobody reads holds a few buffers only, and then goes on where it was") {
  const std::string sent = test::pattern(40 * 64);
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    const auto nothing = co_await with_timeout(1ms, pair.ours.receive());
    CHECK(nothing.error() == errc::timed_out);
    // Buffer by buffer, so that the kernel cannot fill many before it hears that it is enough.
    for (std::size_t at = 0; at < sent.size(); at += 64) {
      REQUIRE(pair.theirs.send(std::string_view(sent).substr(at, 64)));
      co_await test::some_turns();
    }
    CHECK(pool().away() >= net::receiver::queued_max);
    CHECK(pool().away() <= net::receiver::queued_max + 1);
    pair.theirs.close();
    const std::string got = co_await receive_all(pair.ours);
    CHECK(got == sent);
    CHECK(pool().away() == 0);
  }, few_buffers(64, 64, 64));
}

TEST_CASE("leases outlive their stream and their runtime, and are given back by any thread") {
  std::vector<kevent_sys::buffer_lease> kept;
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    for (const char* text : {"one", "two", "three"}) {
      REQUIRE(pair.theirs.send(text));
      auto lease = co_await pair.ours.receive();
      REQUIRE(lease);
      kept.push_back(*std::move(lease));
    }
    co_await pair.ours.close();
    CHECK(pool().away() == 3);
    std::thread([lease = std::move(kept[1])] {}).join();
    while (pool().away() != 2) co_await test::some_turns(1);
  });
  CHECK(kept[0].text() == "one");
  CHECK(kept[2].text() == "three");
  std::thread([lease = std::move(kept[0])] {}).join();
}

TEST_CASE("receive: stopped by its cap at the moment when the buffers run out, it is not an error") {
  // Eight answers fill the ring of events; the kernel's "no buffers" is looked at only after the cap has
  // asked the receive to end.
  runtime_options options = few_buffers(net::receiver::queued_max, net::receiver::queued_max, 64);
  options.ring_events = 4;
  const std::string sent = test::pattern(64 * (net::receiver::queued_max + 3));
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    REQUIRE(pair.theirs.send(sent));
    pair.theirs.close();
    {
      const auto lease = co_await pair.ours.receive();
      CHECK(lease.value().text() == sent.substr(0, 64));
      co_await test::some_turns(20);
    }
    const std::string rest = co_await receive_all(pair.ours);
    CHECK(rest == sent.substr(64));
  }, options);
}

namespace {

task<> echo(net::tcp_stream& peer) {
  for (;;) {
    const auto chunk = co_await peer.receive();
    if (!chunk || chunk->empty()) co_return;
    const auto sent = co_await peer.send_all(*chunk);
    if (!sent) co_return;
  }
}

// Sends a word through the echo of each of `count` connections, and expects it back.
task<> clients_are_served(std::size_t count) {
  std::vector<test::socket_pair> pairs;
  pairs.reserve(count);
  for (std::size_t i = 0; i < count; ++i) pairs.push_back(test::connected_to_raw());
  auto serve_all = [&](scope& children) -> task<> {
    for (auto& pair : pairs) children.spawn(echo, std::ref(pair.ours));
    for (int round = 0; round < 3; ++round) {
      for (auto& pair : pairs) REQUIRE(pair.theirs.send("knock knock"));
      for (auto& pair : pairs) {
        std::string answer;
        while (answer.size() < 11) {
          answer += pair.theirs.receive_ready(11 - answer.size());
          co_await test::some_turns(1);
        }
        CHECK(answer == "knock knock");
      }
    }
    for (auto& pair : pairs) pair.theirs.close();
  };
  co_await scope(serve_all);
}

}  // namespace

TEST_CASE("buffers: many connections share a few, without an error and without a spin") {
  test::in_runtime([]() -> task<> {
    co_await clients_are_served(100);
    CHECK(pool().away() == 0);
    CHECK(pool().size() == 4);
  }, few_buffers(4, 4, 64));
}

TEST_CASE("buffers: a hoarder of leases does not make 100 others deaf") {
  test::in_runtime([]() -> task<> {
    auto hoarder = test::connected_to_raw();
    std::vector<kevent_sys::buffer_lease> hoard;
    std::string hoarded;
    for (int i = 0; i < 100; ++i) {
      REQUIRE(hoarder.theirs.send("mine!"));
      auto lease = co_await with_timeout(5s, hoarder.ours.receive());
      REQUIRE(lease);
      hoard.push_back(*std::move(lease));
      hoarded += hoard.back().text();
    }
    CHECK(hoarded.size() == 500);
    co_await clients_are_served(100);
    for (const auto& lease : hoard) CHECK(lease.text() == "mine!");
  }, few_buffers(4, 16, 64));
}

TEST_CASE("buffers: 100 streams full of bytes that nobody reads do not make others deaf") {
  const std::string much = test::pattern(64 * 20);
  test::in_runtime([&]() -> task<> {
    std::vector<test::socket_pair> stalled;
    stalled.reserve(100);
    for (int i = 0; i < 100; ++i) {
      stalled.push_back(test::connected_to_raw());
      const auto nothing = co_await with_timeout(1us, stalled.back().ours.receive());
      CHECK(nothing.error() == errc::timed_out);
      REQUIRE(stalled.back().theirs.send(much));
      stalled.back().theirs.shutdown_send();
    }
    co_await test::some_turns(200);
    co_await clients_are_served(100);
    for (auto& pair : stalled) {
      const std::string got = co_await receive_all(pair.ours);
      CHECK(got == much);
    }
  }, few_buffers(4, 32, 64));
}
