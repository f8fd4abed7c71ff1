#include <doctest/doctest.h>
#include <keel/net/serve.hpp>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <vector>

#include "support/descriptors.hpp"
#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

task<> echo(net::tcp_stream peer) {
  for (;;) {
    const auto chunk = co_await peer.receive();
    if (!chunk || chunk->empty()) co_return;
    const auto sent = co_await peer.send_all(*chunk);
    if (!sent) co_return;
  }
}

net::tcp_listener listening() { return net::tcp_listener::listen("127.0.0.1:0").value(); }

// What comes through `fd` without blocking, for some turns.
task<std::string> answer(net::tcp_stream& from, std::size_t size) {
  std::vector<std::byte> buffer(size);
  const auto n = co_await from.recv_exactly(buffer);
  CHECK(n);
  co_return std::string(as_text(buffer));
}

task<std::error_code> serve_end(net::tcp_listener listener) {
  const auto ended = co_await net::serve(std::move(listener), echo);
  co_return ended.error();
}

}  // namespace

TEST_CASE("serve: runs the handler for each connection") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    const auto where = listener.local();
    auto server = spawn(serve_end, std::move(listener));
    std::vector<net::tcp_stream> clients;
    for (int i = 0; i < 20; ++i) clients.push_back((co_await net::tcp_stream::connect(where)).value());
    for (auto& client : clients) {
      const auto sent = co_await client.send_all(as_bytes("hello"));
      CHECK(sent);
    }
    for (auto& client : clients) {
      const std::string got = co_await answer(client, 5);
      CHECK(got == "hello");
    }
    server.request_stop();
    const auto ended = co_await std::move(server);
    CHECK(ended == errc::operation_canceled);
    for (auto& client : clients) {
      std::vector<std::byte> buffer(1);
      const auto end = co_await client.recv(buffer);
      CHECK(end.value() == 0);
    }
  });
}

TEST_CASE("serve: a graceful stop refuses new connections, and waits for those that there are") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    const auto where = listener.local();
    auto server = spawn(serve_end, std::move(listener));
    auto client = (co_await net::tcp_stream::connect(where)).value();
    co_await test::some_turns(10);
    server.request_stop(stop_level::graceful);
    co_await test::some_turns(20);
    CHECK(!server.done());
    {
      const auto late = co_await net::tcp_stream::connect(where);
      CHECK(late.error() == std::errc::connection_refused);
    }
    const auto sent = co_await client.send_all(as_bytes("still there?"));
    CHECK(sent);
    const std::string got = co_await answer(client, 12);
    CHECK(got == "still there?");
    co_await client.close();
    const auto ended = co_await std::move(server);
    CHECK(ended == errc::operation_canceled);
  });
}

TEST_CASE("serve: an exception of a handler stops the server and leaves the co_await") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    const auto where = listener.local();
    auto server = spawn([](net::tcp_listener from) -> task<> {
      auto fails_at_once = [](net::tcp_stream) -> task<> {
        co_await test::pause(0ns);
        throw std::runtime_error("the handler gives up");
      };
      (void)co_await net::serve(std::move(from), fails_at_once);
    }, std::move(listener));
    auto client = (co_await net::tcp_stream::connect(where)).value();
    std::string caught;
    try {
      co_await std::move(server);
    } catch (const std::runtime_error& error) {
      caught = error.what();
    }
    CHECK(caught == "the handler gives up");
    std::vector<std::byte> buffer(1);
    const auto end = co_await client.recv(buffer);
    CHECK(end.value() == 0);
  });
}

TEST_CASE("serve: ends with the error of a socket that listens no more, after its connections") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    const auto where = listener.local();
    const int fd = listener.fd();
    auto server = spawn(serve_end, std::move(listener));
    auto client = (co_await net::tcp_stream::connect(where)).value();
    co_await test::some_turns(10);
    REQUIRE(::shutdown(fd, SHUT_RD) == 0);
    co_await test::some_turns(10);
    CHECK(!server.done());
    co_await client.close();
    const auto ended = co_await std::move(server);
    CHECK(ended == std::errc::invalid_argument);
  });
}

TEST_CASE("serve_tcp: a text that is no endpoint, and a port that is taken, are errors") {
  test::in_runtime([]() -> task<> {
    const auto bad = co_await net::serve_tcp("nowhere", echo);
    CHECK(bad.error() == errc::bad_address);
    test::raw_listener taken;
    const std::string where = taken.local().to_string();
    const auto refused = co_await net::serve_tcp(where, echo);
    CHECK(refused.error() == std::errc::address_in_use);
  });
}

TEST_CASE("serve: leaves no descriptor behind") {
  const std::size_t before = test::open_descriptors();
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    const auto where = listener.local();
    auto server = spawn(serve_end, std::move(listener));
    for (int i = 0; i < 50; ++i) {
      auto client = (co_await net::tcp_stream::connect(where)).value();
      const auto sent = co_await client.send_all(as_bytes("x"));
      CHECK(sent);
      if (i % 3 == 0) CHECK(client.set_reset_on_close());
    }
    server.request_stop();
    (void)co_await std::move(server);
  });
  CHECK(test::open_descriptors() == before);
}
