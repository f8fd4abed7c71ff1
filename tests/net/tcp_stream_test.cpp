#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <array>
#include <csignal>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/socket.h>
#include <sys/wait.h>
#include <utility>

#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

int option_of(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  CHECK(::getsockopt(fd, level, name, &value, &size) == 0);
  return value;
}

task<> receive_once(net::tcp_stream& stream) { (void)co_await stream.receive(); }

task<> recv_once(net::tcp_stream& stream) {
  std::array<std::byte, 8> buffer;
  (void)co_await stream.recv(buffer);
}

// A stream on which somebody waits; what is done with it then happens in `act`.
template <class Act>
void with_waiting_stream(task<> (*wait)(net::tcp_stream&), Act act) {
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    std::optional<net::tcp_stream> stream(std::move(pair.ours));
    auto waiting = spawn(wait, std::ref(*stream));
    co_await test::some_turns();
    act(stream);
    co_await std::move(waiting);
  });
}

}  // namespace

TEST_CASE("tcp_stream: a descriptor that it takes over becomes O_NONBLOCK") {
  test::raw_listener listener;
  const auto theirs = test::raw_socket::connected_to(listener.port());
  unique_fd fd = listener.accept();
  REQUIRE(!test::is_nonblocking(fd.get()));
  const net::tcp_stream stream(std::move(fd));
  CHECK(test::is_nonblocking(stream.fd()));
}

TEST_CASE("connect: gives a connected stream, CLOEXEC and O_NONBLOCK") {
  test::in_runtime([]() -> task<> {
    test::raw_listener listener;
    auto stream = co_await net::tcp_stream::connect(listener.local());
    REQUIRE(stream);
    auto theirs = test::raw_socket(listener.accept());
    CHECK(stream->is_open());
    CHECK(test::is_close_on_exec(stream->fd()));
    CHECK(test::is_nonblocking(stream->fd()));
    CHECK(stream->peer().value() == listener.local());
    const auto sent = co_await stream->send_all(as_bytes("hello"));
    CHECK(sent);
    CHECK(theirs.receive(5) == "hello");
    CHECK(stream->local().value() == net::tcp_stream(theirs.release()).peer().value());
  });
}

TEST_CASE("connect: a text is an endpoint") {
  test::in_runtime([]() -> task<> {
    test::raw_listener listener;
    const std::string where = "localhost:" + std::to_string(listener.port());
    const auto stream = co_await net::tcp_stream::connect(where);
    CHECK(stream);
  });
}

TEST_CASE("connect: errors leave no descriptor") {
  test::in_runtime([]() -> task<> {
    std::uint16_t closed_port = 0;
    {
      test::raw_listener gone;
      closed_port = gone.port();
    }
    const std::size_t before = test::open_descriptors();
    {
      const auto refused = co_await net::tcp_stream::connect(test::loopback_endpoint(closed_port));
      CHECK(refused.error() == std::errc::connection_refused);
    }
    for (const char* text : {"", "nowhere", "example.org:80", "127.0.0.1", "127.0.0.1:65536"}) {
      const auto bad = co_await net::tcp_stream::connect(text);
      CHECK_MESSAGE(bad.error() == errc::bad_address, text);
    }
    {
      // A network that IPv4 forbids as a destination.
      const auto unreachable = co_await net::tcp_stream::connect("255.255.255.255:80");
      CHECK(!unreachable);
    }
    {
      test::raw_listener listener;
      const test::descriptor_limit limit(0);
      const auto full = co_await net::tcp_stream::connect(listener.local());
      CHECK(full.error() == std::errc::too_many_files_open);
    }
    CHECK(test::open_descriptors() == before);
  });
}

TEST_CASE("connect: cancelled while nobody answers, it leaves no descriptor") {
  test::in_runtime([]() -> task<> {
    // With a backlog of 0 and one connection in it, the kernel ignores further attempts.
    test::raw_listener full(0);
    auto first = test::raw_socket::connected_to(full.port());
    const std::size_t before = test::open_descriptors();
    {
      const auto late = co_await with_timeout(20ms, net::tcp_stream::connect(full.local()));
      CHECK(late.error() == errc::timed_out);
    }
    CHECK(test::open_descriptors() == before);

    auto attempt = spawn([](net::endpoint to) -> task<result<net::tcp_stream>> {
      co_return co_await net::tcp_stream::connect(to);
    }, full.local());
    co_await test::some_turns();
    attempt.request_stop();
    {
      const auto canceled = co_await std::move(attempt);
      CHECK(canceled.error() == errc::operation_canceled);
    }
    CHECK(test::open_descriptors() == before);
  });
}

TEST_CASE("options: they reach the socket") {
  auto pair = test::connected_to_raw();
  net::tcp_stream& stream = pair.ours;
  CHECK(stream.set_no_delay(true));
  CHECK(option_of(stream.fd(), IPPROTO_TCP, TCP_NODELAY) != 0);
  CHECK(stream.set_no_delay(false));
  CHECK(option_of(stream.fd(), IPPROTO_TCP, TCP_NODELAY) == 0);
  CHECK(stream.set_keep_alive(true));
  CHECK(option_of(stream.fd(), SOL_SOCKET, SO_KEEPALIVE) != 0);
  CHECK(stream.set_send_buffer(20'000));
  CHECK(option_of(stream.fd(), SOL_SOCKET, SO_SNDBUF) == 40'000);  // the kernel doubles it
  CHECK(stream.set_receive_buffer(30'000));
  CHECK(option_of(stream.fd(), SOL_SOCKET, SO_RCVBUF) == 60'000);
}

TEST_CASE("options: after the stream has moved away they are errors") {
  auto pair = test::connected_to_raw();
  const net::tcp_stream moved = std::move(pair.ours);
  net::tcp_stream& empty = pair.ours;
  CHECK(!empty.is_open());
  for (const auto& answer :
       {empty.set_no_delay(true), empty.set_keep_alive(true), empty.set_send_buffer(1),
        empty.set_receive_buffer(1), empty.set_reset_on_close(), empty.shutdown_send()}) {
    CHECK(answer.error() == std::errc::bad_file_descriptor);
  }
  CHECK(empty.local().error() == std::errc::bad_file_descriptor);
  CHECK(empty.peer().error() == std::errc::bad_file_descriptor);
}

TEST_CASE("set_reset_on_close: the peer sees a reset instead of an end") {
  auto pair = test::connected_to_raw();
  CHECK(pair.ours.set_reset_on_close());
  { const net::tcp_stream gone = std::move(pair.ours); }
  CHECK(pair.theirs.receive_error() == ECONNRESET);
}

TEST_CASE("tcp_stream: destroying it and assigning to it close the connection") {
  auto first = test::connected_to_raw();
  auto second = test::connected_to_raw();
  const int old_fd = first.ours.fd();
  first.ours = std::move(second.ours);
  CHECK(!test::is_open(old_fd));
  CHECK(first.theirs.at_end());
  CHECK(first.ours.is_open());
  CHECK(!second.ours.is_open());
  { const net::tcp_stream gone = std::move(first.ours); }
  CHECK(second.theirs.at_end());
}

TEST_CASE("tcp_stream: assigned to itself it stays as it is") {
  auto pair = test::connected_to_raw();
  net::tcp_stream& same = pair.ours;
  pair.ours = std::move(same);
  CHECK(pair.ours.is_open());
}

TEST_CASE("tcp_stream: idle with a receiver, it may move, and goes on receiving") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    REQUIRE(pair.theirs.send("one"));
    {
      const auto lease = co_await pair.ours.receive();
      REQUIRE(lease);
      CHECK(lease->text() == "one");
    }
    net::tcp_stream moved = std::move(pair.ours);
    REQUIRE(pair.theirs.send("two"));
    {
      const auto lease = co_await moved.receive();
      REQUIRE(lease);
      CHECK(lease->text() == "two");
    }
    auto other = test::connected_to_raw();
    other.ours = std::move(moved);
    CHECK(other.theirs.at_end());
    REQUIRE(pair.theirs.send("three"));
    const auto lease = co_await other.ours.receive();
    REQUIRE(lease);
    CHECK(lease->text() == "three");
  });
}

TEST_CASE("tcp_stream: moving or destroying it while somebody waits is a bug that is found") {
  for (const auto wait : {&receive_once, &recv_once}) {
    CHECK_DEATH(with_waiting_stream(wait, [](auto& stream) { auto moved = std::move(*stream); }),
                "a stream was moved while it is in use");
    CHECK_DEATH(with_waiting_stream(wait,
                                    [](auto& stream) {
                                      auto other = test::connected_to_raw();
                                      other.ours = std::move(*stream);
                                    }),
                "a stream was moved while it is in use");
    CHECK_DEATH(with_waiting_stream(wait,
                                    [](auto& stream) { *stream = std::move(test::connected_to_raw().ours); }),
                "a stream was destroyed while");
    CHECK_DEATH(with_waiting_stream(wait, [](auto& stream) { stream.reset(); }),
                "a stream was destroyed while");
  }
}

TEST_CASE("shutdown_send: the peer sees the end, and receiving goes on; the other way round, too") {
  test::in_runtime([]() -> task<> {
    auto pair = test::connected_to_raw();
    std::array<std::byte, 64> buffer;
    CHECK(pair.ours.shutdown_send());
    CHECK(pair.theirs.at_end());
    REQUIRE(pair.theirs.send("still talking"));
    const auto n = co_await pair.ours.recv(buffer);
    REQUIRE(n);
    CHECK(as_text(std::span(buffer).first(*n)) == "still talking");
    const auto refused = co_await pair.ours.send(as_bytes("too late"));
    CHECK(refused.error() == std::errc::broken_pipe);

    auto other = test::connected_to_raw();
    other.theirs.shutdown_send();
    {
      const auto end = co_await other.ours.recv(buffer);
      CHECK(end.value() == 0);
    }
    {
      const auto end = co_await other.ours.receive();
      REQUIRE(end);
      CHECK(end->empty());
    }
    const auto sent = co_await other.ours.send_all(as_bytes("still listening?"));
    CHECK(sent);
    CHECK(other.theirs.receive(16) == "still listening?");
  });
}

TEST_CASE("shutdown_send: without a connection it is an error") {
  net::tcp_stream alone{unique_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  CHECK(alone.shutdown_send().error() == std::errc::not_connected);
  CHECK(alone.peer().error() == std::errc::not_connected);
}

namespace {

// Sends into a connection that the peer has reset; a file, too. Ends with 0 when no signal came.
int send_without_peer() {
  int wrong = 0;
  test::in_runtime([&]() -> task<> {
    auto pair = test::connected_to_raw();
    pair.theirs.reset();
    for (int i = 0; i < 3; ++i) {
      const auto sent = co_await pair.ours.send_all(as_bytes("into the void"));
      wrong += sent ? 1 : 0;
    }
    const auto sent = co_await pair.ours.sendfile(borrowed_fd(::open("/proc/self/exe", O_RDONLY)), 0, 1000);
    wrong += sent ? 1 : 0;
  });
  return wrong;
}

}  // namespace

TEST_CASE("SIGPIPE: never raised, though its disposition is the default") {
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::signal(SIGPIPE, SIG_DFL);
    ::_exit(send_without_peer());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  REQUIRE(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
