#include <doctest/doctest.h>
#include <keel/net/serve.hpp>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <atomic>
#include <netinet/tcp.h>
#include <optional>
#include <string>
#include <sys/socket.h>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

task<std::error_code> accept_end(net::tcp_listener& listener) {
  const auto peer = co_await listener.accept();
  co_return peer.error();
}

net::tcp_listener listening() { return net::tcp_listener::listen("127.0.0.1:0").value(); }

}  // namespace

TEST_CASE("listen: a free port, told by local()") {
  test::in_runtime([]() -> task<> {
    for (const char* at : {"127.0.0.1:0", "[::1]:0", "[::]:0", "localhost:0", ":0"}) {
      CAPTURE(at);
      auto listener = net::tcp_listener::listen(at);
      REQUIRE(listener);
      CHECK(listener->local().port() != 0);
      CHECK(test::is_close_on_exec(listener->fd()));
      auto client =
          co_await net::tcp_stream::connect("localhost:" + std::to_string(listener->local().port()));
      CHECK((client || std::string_view(at) == "[::1]:0"));
    }
  });
}

TEST_CASE("listen: errors, without a descriptor left") {
  test::in_runtime([]() -> task<> {
    test::raw_listener taken;
    const std::size_t before = test::open_descriptors();
    CHECK(net::tcp_listener::listen(taken.local()).error() == std::errc::address_in_use);
    CHECK(net::tcp_listener::listen(taken.local(), {.shared = true}).error() == std::errc::address_in_use);
    CHECK(net::tcp_listener::listen("192.0.2.1:0").error() == std::errc::address_not_available);
    for (const char* text : {"", "nowhere", "127.0.0.1", "127.0.0.1:x"})
      CHECK(net::tcp_listener::listen(text).error() == errc::bad_address);
    {
      const test::descriptor_limit limit(0);
      CHECK(net::tcp_listener::listen("127.0.0.1:0").error() == std::errc::too_many_files_open);
    }
    CHECK(test::open_descriptors() == before);
    co_return;
  });
}

TEST_CASE("listen: a second server on the same port is refused, shared or not") {
  test::in_runtime([]() -> task<> {
    for (const bool first_shared : {false, true}) {
      auto first = net::tcp_listener::listen("127.0.0.1:0", {.shared = first_shared}).value();
      const auto where = first.local();
      // The same runtime knows who belongs together; another server is another runtime.
      std::thread([&] {
        test::in_runtime([&]() -> task<> {
          for (const bool shared : {false, true})
            CHECK(net::tcp_listener::listen(where, {.shared = shared}).error() == std::errc::address_in_use);
          co_return;
        });
      }).join();
    }
    co_return;
  });
}

TEST_CASE("accept: gives connections, CLOEXEC, O_NONBLOCK and with no_delay as asked") {
  test::in_runtime([]() -> task<> {
    for (const bool no_delay : {false, true}) {
      auto listener = net::tcp_listener::listen("127.0.0.1:0", {.no_delay = no_delay}).value();
      auto theirs = test::raw_socket::connected_to(listener.local().port());
      auto ours = co_await listener.accept();
      REQUIRE(ours);
      CHECK(test::is_close_on_exec(ours->fd()));
      CHECK(test::is_nonblocking(ours->fd()));
      int value = -1;
      socklen_t size = sizeof value;
      REQUIRE(::getsockopt(ours->fd(), IPPROTO_TCP, TCP_NODELAY, &value, &size) == 0);
      CHECK((value != 0) == no_delay);
      CHECK(ours->peer().value() == theirs.local());
    }
  });
}

TEST_CASE("accept: connections that came before, and many at once, in order") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    std::vector<test::raw_socket> clients;
    for (int i = 0; i < 200; ++i) clients.push_back(test::raw_socket::connected_to(listener.local().port()));
    for (auto& client : clients) {
      auto ours = co_await listener.accept();
      REQUIRE(ours);
      CHECK(ours->peer().value() == client.local());
    }
  });
}

TEST_CASE("accept: a connection that was reset already is accepted, and tells so when it is used") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    test::raw_socket::connected_to(listener.local().port()).reset();
    auto ours = co_await listener.accept();
    REQUIRE(ours);
    const auto lease = co_await ours->receive();
    CHECK(lease.error() == std::errc::connection_reset);
  });
}

TEST_CASE("accept: ends at a graceful stop; no connection is lost") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    for (const stop_level level : {stop_level::graceful, stop_level::hard}) {
      auto waiting = spawn(accept_end, std::ref(listener));
      co_await test::some_turns();
      CHECK(!waiting.done());
      waiting.request_stop(level);
      const auto error = co_await std::move(waiting);
      CHECK(error == errc::operation_canceled);
    }
    auto stopped_before = spawn(accept_end, std::ref(listener));
    stopped_before.request_stop(stop_level::graceful);
    const auto error = co_await std::move(stopped_before);
    CHECK(error == errc::operation_canceled);

    auto client = test::raw_socket::connected_to(listener.local().port());
    const auto late = co_await listener.accept();
    CHECK(late);
  });
}

TEST_CASE("accept: cancels that race with connections lose none of them") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    int taken = 0;
    for (int i = 0; i < 100; ++i) {
      auto client = test::raw_socket::connected_to(listener.local().port());
      const auto peer = co_await with_timeout(std::chrono::microseconds(i % 50), listener.accept());
      CHECK((peer || peer.error() == errc::timed_out));
      taken += peer ? 1 : 0;
    }
    for (; taken < 100; ++taken) {
      const auto peer = co_await with_timeout(10s, listener.accept());
      REQUIRE(peer);
    }
    const auto none = co_await with_timeout(5ms, listener.accept());
    CHECK(none.error() == errc::timed_out);
  });
}

TEST_CASE("accept: a socket that listens no more is an error, to the next accept, too") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    auto waiting = spawn(accept_end, std::ref(listener));
    co_await test::some_turns();
    REQUIRE(::shutdown(listener.fd(), SHUT_RD) == 0);
    const auto error = co_await std::move(waiting);
    CHECK(error == std::errc::invalid_argument);
    const auto again = co_await accept_end(listener);
    CHECK(again == std::errc::invalid_argument);
  });
}

TEST_CASE("tcp_listener: moves while nobody accepts, and closes what it had when it is assigned to") {
  test::in_runtime([]() -> task<> {
    auto listener = listening();
    const auto where = listener.local();
    auto nothing = co_await with_timeout(1ms, listener.accept());  // it is armed
    CHECK(!nothing);
    net::tcp_listener moved = std::move(listener);
    auto client = test::raw_socket::connected_to(where.port());
    const auto peer = co_await moved.accept();
    CHECK(peer);
    moved = listening();
    co_await test::some_turns();
    const auto refused = co_await net::tcp_stream::connect(where);
    CHECK(refused.error() == std::errc::connection_refused);
  });
}

TEST_CASE("two who accept from one listener, and one that goes meanwhile, are bugs that are found") {
  const auto two_accept = [] {
    test::in_runtime([]() -> task<> {
      auto listener = listening();
      auto one = spawn(accept_end, std::ref(listener));
      auto other = spawn(accept_end, std::ref(listener));
      co_await test::some_turns();
    });
  };
  CHECK_DEATH(two_accept(), "one accept at a time");
  const auto gone_meanwhile = [] {
    test::in_runtime([]() -> task<> {
      std::optional<net::tcp_listener> listener(listening());
      auto one = spawn(accept_end, std::ref(*listener));
      co_await test::some_turns();
      listener.reset();
    });
  };
  CHECK_DEATH(gone_meanwhile(), "a listener was destroyed while somebody accepts");
}

TEST_CASE("listen: on two CPUs, port 0 is the same port for both, and both accept") {
  static std::atomic<unsigned> ports[2];
  static std::atomic<int> accepted[2];
  const int code = keel::run({.cpus = 2}, []() -> task<result<void>> {
    const unsigned me = scheduler::current()->index();
    auto listener = net::tcp_listener::listen("127.0.0.1:0", {.shared = true}).value();
    ports[me] = listener.local().port();
    while (ports[1 - me] == 0) co_await test::pause(1ms);
    // The kernel spreads them by their addresses: with this many, each gets some.
    for (int i = 0; i < 100; ++i) {
      auto client =
          co_await or_return(net::tcp_stream::connect(test::loopback_endpoint(std::uint16_t(ports[0]))));
      while (auto peer = co_await with_timeout(1us, listener.accept())) ++accepted[me];
      if (accepted[0] > 0 && accepted[1] > 0) break;
    }
    while (accepted[0] == 0 || accepted[1] == 0) {
      while (auto peer = co_await with_timeout(1ms, listener.accept())) ++accepted[me];
    }
    co_return {};
  });
  CHECK(code == 0);
  CHECK(ports[0] != 0);
  CHECK(ports[0] == ports[1]);
  CHECK(accepted[0] > 0);
  CHECK(accepted[1] > 0);
}
