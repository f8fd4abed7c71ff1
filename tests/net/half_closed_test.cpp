// A peer that has ended its side, and reads slowly: io_uring tells of the end with every poll for room.
#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <ostream>
#include <string>

#include "support/in_runtime.hpp"
#include "support/sockets.hpp"
#include "support/temporary_folder.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

constexpr std::size_t size = 8 << 20;

// While `sending` cannot go on, the scheduler sleeps; once the peer reads, all of it arrives.
task<> sleeps_and_arrives(test::socket_pair& pair, join_handle<result<void>> sending) {
  (void)co_await sleep_for(50ms);
  const auto before = scheduler::current()->counters();
  (void)co_await sleep_for(300ms);
  const auto after = scheduler::current()->counters();
  CHECK(!sending.done());
  CHECK(after.turns - before.turns < 1000);

  std::size_t received = 0;
  std::string part(1 << 16, '\0');
  while (received < size) {
    const auto n = ::recv(pair.theirs.fd(), part.data(), part.size(), MSG_DONTWAIT);
    REQUIRE(n != 0);
    if (n > 0) received += static_cast<std::size_t>(n);
    if (n < 0) (void)co_await sleep_for(1ms);
  }
  const auto sent = co_await std::move(sending);
  CHECK(sent);
}

task<result<void>> send_much(net::tcp_stream& stream) {
  const std::string much(size, 'x');
  co_return co_await stream.send_all(as_bytes(much));
}

task<result<void>> send_file(net::tcp_stream& stream, borrowed_fd file) {
  const auto sent = co_await or_return(stream.sendfile(file, 0, size));
  CHECK(sent == size);
  co_return {};
}

}  // namespace

TEST_CASE("send_all: to a half-closed peer that does not read, it sleeps until that does") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw(1 << 16);
    REQUIRE(::shutdown(pair.theirs.fd(), SHUT_WR) == 0);
    co_await sleeps_and_arrives(pair, spawn(send_much, std::ref(pair.ours)));
  });
}

TEST_CASE("sendfile: to a half-closed peer that does not read, it sleeps until that does") {
  const test::temporary_folder folder;
  const unique_fd file(::open(folder.write("much", std::string(size, 'x')).c_str(), O_RDONLY | O_CLOEXEC));
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw(1 << 16);
    REQUIRE(::shutdown(pair.theirs.fd(), SHUT_WR) == 0);
    co_await sleeps_and_arrives(pair, spawn(send_file, std::ref(pair.ours), borrowed_fd(file)));
  });
}

TEST_CASE("send_all: to a half-closed peer that does not read, it can be stopped") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw(1 << 16);
    REQUIRE(::shutdown(pair.theirs.fd(), SHUT_WR) == 0);
    auto sending = spawn(send_much, std::ref(pair.ours));
    (void)co_await sleep_for(30ms);
    sending.request_stop();
    const auto sent = co_await std::move(sending);
    CHECK(sent.error() == errc::operation_canceled);
  });
}
