#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>
#include <keel/runtime/when_all.hpp>

#include <algorithm>
#include <array>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;
using namespace std::chrono_literals;

// Every operation has a constructor of its own: g++ 12 copies temporary aggregates bitwise into coroutine
// frames.
static_assert(!std::is_aggregate_v<net::recv_op> && !std::is_aggregate_v<net::send_op> &&
              !std::is_aggregate_v<net::receive_op> && !std::is_aggregate_v<net::connect_op>);
static_assert(std::is_trivially_destructible_v<net::send_options>);

namespace {

std::string text_of(const std::vector<std::byte>& bytes, std::size_t size) {
  return std::string(as_text(std::span(bytes).first(size)));
}

// Everything that comes, in pieces of at most `piece` bytes, by recv() or by receive().
task<std::string> drain(net::tcp_stream& from, std::size_t piece, bool by_lease) {
  std::string all;
  std::vector<std::byte> buffer(piece);
  for (;;) {
    if (by_lease) {
      const auto lease = co_await from.receive();
      CHECK(lease);
      if (!lease || lease->empty()) co_return all;
      all += lease->text();
    } else {
      const auto n = co_await from.recv(buffer);
      CHECK(n);
      if (!n || *n == 0) co_return all;
      all += text_of(buffer, *n);
    }
  }
}

task<result<void>> send_and_shut(net::tcp_stream& to, const std::string& bytes) {
  const auto sent = co_await to.send_all(as_bytes(bytes));
  CHECK(to.shutdown_send());
  co_return sent;
}

// Both sides send and receive at once.
void exchange(std::size_t bytes, std::size_t piece, bool by_lease) {
  const std::string one = test::pattern(bytes, 1);
  const std::string other = test::pattern(bytes, 2);
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_pair();
    auto [sent, sent_back, got, got_back] = co_await when_all(
        send_and_shut(pair.ours, one), send_and_shut(pair.theirs, other), drain(pair.theirs, piece, by_lease),
        drain(pair.ours, piece, by_lease));
    CHECK(sent);
    CHECK(sent_back);
    CHECK((got == one));
    CHECK((got_back == other));
  });
}

}  // namespace

TEST_CASE("send_all, recv, receive: a byte, and 64 MiB, in both directions at once") {
  for (const bool by_lease : {false, true}) {
    CAPTURE(by_lease);
    exchange(1, 16, by_lease);
    exchange(std::size_t{test::sanitized ? 8 : 64} << 20, std::size_t{1} << 20, by_lease);
  }
}

TEST_CASE("recv: gives what is there, then 0 at the end, again and again") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    std::vector<std::byte> buffer(64);
    REQUIRE(pair.theirs.send("some"));
    const auto n = co_await pair.ours.recv(buffer);
    CHECK(n.value() == 4);
    pair.theirs.close();
    for (int i = 0; i < 3; ++i) {
      const auto end = co_await pair.ours.recv(buffer);
      CHECK(end.value() == 0);
    }
  });
}

TEST_CASE("recv_exactly: waits for all bytes, however they come") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    std::vector<std::byte> buffer(6);
    auto all = spawn([](net::tcp_stream& from, std::vector<std::byte>& into) -> task<result<std::size_t>> {
      co_return co_await from.recv_exactly(into);
    }, std::ref(pair.ours), std::ref(buffer));
    for (const char* part : {"ab", "c", "defgh"}) {
      co_await test::some_turns();
      CHECK(!all.done());
      REQUIRE(pair.theirs.send(part));
    }
    const auto n = co_await std::move(all);
    CHECK(n.value() == 6);
    CHECK(text_of(buffer, 6) == "abcdef");
    const auto rest = co_await pair.ours.recv(buffer);
    CHECK(rest.value() == 2);
  });
}

TEST_CASE("recv_exactly: end_of_stream when the peer stops before") {
  test::in_runtime([]() -> task<> {
    for (const char* sent : {"", "abc"}) {
      auto pair = test::connected_to_raw();
      std::vector<std::byte> buffer(4);
      REQUIRE(pair.theirs.send(sent));
      pair.theirs.close();
      const auto n = co_await pair.ours.recv_exactly(buffer);
      CHECK(n.error() == errc::end_of_stream);
    }
    // A single byte has no middle: this is an end before the byte, too.
    auto pair = test::connected_to_raw();
    std::vector<std::byte> one(1);
    pair.theirs.close();
    const auto n = co_await pair.ours.recv_exactly(one);
    CHECK(n.error() == errc::end_of_stream);
  });
}

TEST_CASE("send: gives how many bytes the kernel took") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    const std::string bytes = test::pattern(100);
    const auto n = co_await pair.ours.send(as_bytes(bytes));
    REQUIRE(n);
    CHECK(*n >= 1);
    CHECK(pair.theirs.receive(*n) == bytes.substr(0, *n));
    const auto more = co_await pair.ours.send(as_bytes("held back "), {.more = true});
    CHECK(more.value() == 10);
    const auto rest = co_await pair.ours.send(as_bytes("for a moment"));
    CHECK(rest.value() == 12);
    CHECK(pair.theirs.receive(22) == "held back for a moment");
  });
}

TEST_CASE("send_all: of nothing, it is done at once") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    const auto sent = co_await pair.ours.send_all({});
    CHECK(sent);
  });
}

TEST_CASE("a reset by the peer ends what waits, on both sides, and what comes after") {
  test::in_runtime([]() -> task<> {
    for (const int way : {0, 1, 2}) {
      CAPTURE(way);
      auto pair = test::connected_to_raw();
      auto reader = spawn([](net::tcp_stream& from, int how) -> task<std::error_code> {
        std::vector<std::byte> buffer(8);
        if (how == 0) co_return (co_await from.recv(buffer)).error();
        if (how == 1) co_return (co_await from.recv_exactly(buffer)).error();
        co_return (co_await from.receive()).error();
      }, std::ref(pair.ours), way);
      const std::string much(std::size_t{32} << 20, 'x');
      auto writer = spawn([](net::tcp_stream& to, const std::string& bytes) -> task<std::error_code> {
        co_return (co_await to.send_all(as_bytes(bytes))).error();
      }, std::ref(pair.ours), std::cref(much));
      co_await test::some_turns(20);
      pair.theirs.reset();
      // The kernel tells one of the two that the connection was reset; the other finds it broken.
      const auto read = co_await std::move(reader);
      const auto written = co_await std::move(writer);
      CHECK((read == std::errc::connection_reset || read == errc::end_of_stream || !read));
      CHECK((written == std::errc::connection_reset || written == std::errc::broken_pipe));
      CHECK((read == std::errc::connection_reset || written == std::errc::connection_reset));
      const auto after = co_await pair.ours.send(as_bytes("x"));
      CHECK(after.error() == std::errc::broken_pipe);
    }
  });
}

TEST_CASE("operations of a task that was stopped before do not begin") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    REQUIRE(pair.theirs.send("unread"));
    auto stopped = spawn([](net::tcp_stream& stream) -> task<> {
      std::vector<std::byte> buffer(8);
      const auto recv = co_await stream.recv(buffer);
      CHECK(recv.error() == errc::operation_canceled);
      const auto exactly = co_await stream.recv_exactly(buffer);
      CHECK(exactly.error() == errc::operation_canceled);
      const auto lease = co_await stream.receive();
      CHECK(lease.error() == errc::operation_canceled);
      const auto sent = co_await stream.send(as_bytes("x"));
      CHECK(sent.error() == errc::operation_canceled);
      const auto all = co_await stream.send_all(as_bytes("x"));
      CHECK(all.error() == errc::operation_canceled);
      const auto connected = co_await net::tcp_stream::connect("127.0.0.1:1");
      CHECK(connected.error() == errc::operation_canceled);
    }, std::ref(pair.ours));
    stopped.request_stop();
    co_await std::move(stopped);
    pair.theirs.shutdown_send();
    const std::string rest = co_await drain(pair.ours, 8, false);
    CHECK(rest == "unread");
  });
}

namespace {

// Reads with timeouts that fire at random moments, by whatever way `generate` chooses, until the stream ends.
task<std::string> read_with_cancels(net::tcp_stream& from, std::mt19937& generate, bool with_leases,
                                    unsigned& cancels) {
  std::string all;
  for (;;) {
    const auto patience = std::chrono::microseconds(generate() % 300);
    std::error_code error;
    std::size_t got = 0;
    if (with_leases && generate() % 2 == 0) {
      const auto lease = co_await with_timeout(patience, from.receive());
      error = lease.error();
      if (lease) all += lease->text();
      got = lease ? lease->size() : 0;
    } else {
      std::vector<std::byte> buffer(1 + generate() % 5000);
      const auto n = co_await with_timeout(patience, from.recv(buffer));
      error = n.error();
      got = n ? *n : 0;
      if (n) all += text_of(buffer, got);
    }
    CHECK((!error || error == errc::timed_out));
    cancels += error ? 1 : 0;
    if (!error && got == 0) co_return all;
  }
}

// Sends in pieces; some of the sends are cancelled, and what they did not send follows. Pauses, at times
// until the reader has been cancelled for want of bytes.
task<> write_with_cancels(net::tcp_stream& to, const std::string& bytes, std::mt19937& generate,
                          const unsigned& reader_cancels) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const std::size_t size = std::min(bytes.size() - sent, std::size_t{1 + generate() % 50'000});
    const auto patience = std::chrono::microseconds(generate() % 300);
    const auto n = co_await with_timeout(patience, to.send(as_bytes(bytes).subspan(sent, size)));
    CHECK((n || n.error() == errc::timed_out));
    sent += n ? *n : 0;
    const unsigned seen = reader_cancels;
    if (generate() % 8 == 0) {
      while (reader_cancels == seen) co_await test::pause(100us);
    } else if (generate() % 2 == 0) {
      co_await test::pause(std::chrono::microseconds(generate() % 300));
    }
  }
  CHECK(to.shutdown_send());
}

}  // namespace

TEST_CASE("cancelled receives and sends lose no byte, and invent none") {
  for (const unsigned seed : {1u, 2u, 3u, 4u}) {
    for (const bool with_leases : {false, true}) {
      CAPTURE(seed);
      CAPTURE(with_leases);
      const std::string sent = test::pattern(std::size_t{4} << 20, seed);
      unsigned cancels = 0;
      test::in_runtime([&]() -> task<> {
        std::mt19937 reads(seed);
        std::mt19937 writes(seed + 1000);
        auto pair = test::connected_pair();
        auto [received, nothing] =
            co_await when_all(read_with_cancels(pair.ours, reads, with_leases, cancels),
                              write_with_cancels(pair.theirs, sent, writes, cancels));
        CHECK(received.size() == sent.size());
        CHECK((received == sent));
      });
      CHECK(cancels > 10);
    }
  }
}

TEST_CASE("send_all: stopped in the middle, it says so, and the peer has a beginning of the bytes") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    const std::string bytes = test::pattern(std::size_t{32} << 20);
    const auto sent = co_await with_timeout(20ms, pair.ours.send_all(as_bytes(bytes)));
    CHECK(sent.error() == errc::timed_out);
    CHECK(pair.ours.shutdown_send());
    const std::string got = pair.theirs.receive(bytes.size());
    CHECK(!got.empty());
    CHECK(got.size() < bytes.size());
    CHECK((bytes.compare(0, got.size(), got) == 0));
  });
}

TEST_CASE("recv_exactly: stopped in the middle, what had come is in the target, and the rest is not lost") {
  test::in_runtime([]() -> task<> {
    for (const bool with_receiver : {false, true}) {
      auto pair = test::connected_to_raw();
      if (with_receiver) {
        const auto nothing = co_await with_timeout(1ms, pair.ours.receive());
        CHECK(nothing.error() == errc::timed_out);
      }
      std::vector<std::byte> buffer(8);
      REQUIRE(pair.theirs.send("abc"));
      const auto n = co_await with_timeout(5ms, pair.ours.recv_exactly(buffer));
      CHECK(n.error() == errc::timed_out);
      CHECK(text_of(buffer, 3) == "abc");
      REQUIRE(pair.theirs.send("def"));
      const auto rest = co_await pair.ours.recv(buffer);
      CHECK(rest.value() == 3);
      CHECK(text_of(buffer, 3) == "def");
    }
  });
}

namespace {

task<> recv_quietly(net::tcp_stream& from) {
  std::array<std::byte, 4> buffer;
  (void)co_await from.recv(buffer);
}
task<> receive_quietly(net::tcp_stream& from) { (void)co_await from.receive(); }
task<> send_much(net::tcp_stream& to) {
  const std::string much(std::size_t{32} << 20, 'x');
  (void)co_await to.send_all(as_bytes(much));
}
task<> send_little(net::tcp_stream& to) { (void)co_await to.send(as_bytes("x")); }

void both(task<> (*first)(net::tcp_stream&), task<> (*second)(net::tcp_stream&)) {
  test::in_runtime([=]() -> task<> {
    auto pair = test::connected_to_raw();
    auto one = spawn(first, std::ref(pair.ours));
    co_await test::some_turns(10);
    auto other = spawn(second, std::ref(pair.ours));
    co_await test::some_turns(10);
    one.request_stop();
    other.request_stop();
    co_await std::move(one);
    co_await std::move(other);
  });
}

}  // namespace

TEST_CASE("two readers, or two writers, at a time are a bug that is found") {
  CHECK_DEATH(both(recv_quietly, recv_quietly), "one reader and one writer at a time");
  CHECK_DEATH(both(recv_quietly, receive_quietly), "one reader at a time");
  CHECK_DEATH(both(receive_quietly, recv_quietly), "one reader at a time");
  CHECK_DEATH(both(receive_quietly, receive_quietly), "one reader at a time");
  CHECK_DEATH(both(send_much, send_little), "one reader and one writer at a time");
}

TEST_CASE("one reader and one writer at a time are welcome") {
  both(recv_quietly, send_much);
  both(receive_quietly, send_much);
}

TEST_CASE("a receive without room, and a send without bytes, are bugs that are found") {
  CHECK_DEATH(test::connected_to_raw().ours.recv({}), "a receive needs room for at least one byte");
  CHECK_DEATH(test::connected_to_raw().ours.send({}), "a send needs at least one byte");
}
