// Programs as a user writes them, with the umbrella header alone: they compile as they stand, and do what
// they say.

#include <keel/keel.hpp>

#include <csignal>
#include <cstdio>
#include <functional>
#include <string>
#include <unistd.h>

#include <doctest/doctest.h>

#include "support/temporary_folder.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

task<> echo(net::tcp_stream peer) {
  for (;;) {
    auto chunk = co_await peer.receive();
    if (!chunk || chunk->empty()) co_return;
    if (!co_await peer.send_all(*chunk)) co_return;
  }
}

// Sends `text` and gives back what comes.
task<result<std::string>> ask(net::endpoint at, std::string text) {
  auto peer = co_await or_return(net::tcp_stream::connect(at));
  co_await or_return(peer.send_all(as_bytes(text)));
  std::string reply(text.size(), '\0');
  co_await or_return(peer.recv_exactly(std::as_writable_bytes(std::span(reply))));
  co_return reply;
}

}  // namespace

TEST_CASE("an echo server on all CPUs in one line answers, and ends with 0 on SIGINT") {
  const net::endpoint at(net::address::v4_loopback(), 0);
  const unsigned schedulers = cpu_list(all_cpus).count();
  std::atomic<unsigned> answered{0};
  auto client_and_server = [&]() -> task<result<void>> {
    auto listener = net::tcp_listener::listen(at, {.shared = true});
    if (!listener) co_return listener.why();
    const net::endpoint here = listener->local();
    auto client = [&]() -> task<> {
      auto reply = co_await ask(here, "hello");
      CHECK(reply.value() == "hello");
      if (answered.fetch_add(1) + 1 == schedulers) ::kill(::getpid(), SIGINT);
    };
    auto asking = spawn(client);
    auto served = co_await net::serve(*std::move(listener), echo);
    co_await std::move(asking);
    co_return served;
  };
  CHECK(run({.cpus = all_cpus, .stop_on_signals = true}, client_and_server) == 0);
  CHECK(answered == schedulers);
}

TEST_CASE("serve_tcp refuses what is no address, and the program says so with exit code 1") {
  CHECK(run({.cpus = 1}, [] { return net::serve_tcp("nowhere:http", echo); }) == 1);
}

TEST_CASE("a timeout is not a cancellation") {
  auto main = [](net::endpoint at) -> task<> {
    auto listener = net::tcp_listener::listen(at).value();
    auto peer = (co_await net::tcp_stream::connect(listener.local())).value();
    std::byte buffer[16];

    auto n = co_await with_timeout(5ms, peer.recv(buffer));

    CHECK(bool(n.error() == errc::timed_out));
  };
  run(main(net::endpoint(net::address::v4_loopback(), 0)));
}

TEST_CASE("a server stops gracefully: it accepts nothing new, its connections finish, then it ends") {
  bool connection_finished = false;
  auto serve = [&](net::tcp_listener listener) -> task<> {
    const net::endpoint here = listener.local();
    auto slow_connection = [&](net::tcp_stream peer) -> task<> {
      (void)co_await sleep_for(20ms);
      connection_finished = bool(co_await peer.send_all(as_bytes("done")));
    };
    auto accept_loop = [&](scope& connections) -> task<> {
      while (auto peer = co_await listener.accept()) {
        connections.spawn(slow_connection, *std::move(peer));
        ::kill(::getpid(), SIGTERM);
      }
    };
    auto body = [&](scope& children) -> task<> {
      children.spawn(accept_loop, std::ref(children));
      if (auto signal = co_await signals(SIGINT, SIGTERM).next(); !signal) co_return;
      children.request_stop({.grace = 10s});
    };
    auto client = spawn(ask, here, std::string("four"));
    co_await scope(body);
    CHECK((co_await std::move(client)).value() == "done");
  };
  auto main = [&]() -> task<> {
    auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
    co_await serve(std::move(listener));
  };
  run(main());
  CHECK(connection_finished);
}

TEST_CASE("when_all gives one object; when_any gives the first and joins the rest") {
  auto main = []() -> task<> {
    auto later = [](int value, milliseconds delay) -> task<int> {
      (void)co_await sleep_for(delay);
      co_return value;
    };
    auto both = co_await when_all(later(1, 2ms), later(2, 1ms));
    CHECK(std::get<0>(both) + std::get<1>(both) == 3);

    auto fastest = co_await when_any(sleep_for(1h), sleep_for(1ms));
    CHECK(fastest.index == 1);
    CHECK(bool(std::get<0>(fastest.values)->error() == errc::operation_canceled));
  };
  run(main());
}

TEST_CASE("a file goes to a socket") {
  const test::temporary_folder folder;
  auto main = [&]() -> task<result<void>> {
    const std::string path = folder / "x.iso";
    auto made = co_await or_return(fs::file::open(path, fs::open_mode::create_new));
    co_await or_return(made.write_at(as_bytes("twelve bytes"), 0));
    co_await or_return(made.close());
    auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
    auto client = co_await or_return(net::tcp_stream::connect(listener.local()));
    auto peer = co_await or_return(listener.accept());

    auto file = co_await or_return(fs::file::open(path));
    co_await or_return(peer.sendfile(file, 0, file.size()));

    std::string text(12, '\0');
    co_await or_return(client.recv_exactly(std::as_writable_bytes(std::span(text))));
    CHECK(text == "twelve bytes");
    co_return {};
  };
  run(main()).value();
}
