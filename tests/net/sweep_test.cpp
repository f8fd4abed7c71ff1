// Every operation of net, stopped at every point at which it can be stopped: nothing is left.

#include <doctest/doctest.h>
#include <keel/net/serve.hpp>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <fcntl.h>
#include <memory>
#include <string>
#include <unistd.h>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/sockets.hpp"
#include "support/sweep.hpp"
#include "support/temporary_folder.hpp"

using namespace keel;
using namespace std::chrono_literals;

namespace {

// Two streams that live as long as a run of the sweep, and a file to send.
struct world {
  world()
      : pair(test::connected_pair()),
        file(::open(folder.write("file", bytes).c_str(), O_RDONLY | O_CLOEXEC)) {}

  test::temporary_folder folder;
  std::string bytes = test::pattern(200'000);
  test::stream_pair pair;
  unique_fd file;
};

// A side of a conversation: takes its stream over, so that it goes with the task.
using side = task<> (*)(net::tcp_stream stream, const world* w);

test::sweep_options small_buffers() {
  test::sweep_options options;
  options.runtime.buffers = 2;
  options.runtime.buffers_limit = 4;
  options.runtime.buffer_bytes = 4096;
  return options;
}

void sweep_sides(side one, side other, unsigned runs_min,
                 const test::sweep_options& options = small_buffers()) {
  const unsigned runs = test::sweep(
      [=](runtime& rt) {
        auto w = std::make_unique<world>();
        rt.spawn(one, std::move(w->pair.ours), w.get());
        rt.spawn(other, std::move(w->pair.theirs), w.get());
        return w;
      },
      options);
  CHECK(runs >= runs_min);
}

task<> sends(net::tcp_stream to, const world* w) {
  const_byte_span left = as_bytes(w->bytes);
  while (!left.empty()) {
    const auto n = co_await to.send(left);
    if (!n) co_return;
    left = left.subspan(*n);
  }
}

task<> sends_all(net::tcp_stream to, const world* w) {
  const auto sent = co_await to.send_all(as_bytes(w->bytes));
  CHECK((sent || sent.error() == errc::operation_canceled || sent.error() == std::errc::connection_reset ||
         sent.error() == std::errc::broken_pipe));
}

task<> sends_file(net::tcp_stream to, const world* w) {
  const auto sent = co_await to.sendfile(w->file, 0, w->bytes.size());
  CHECK((sent || sent.error() == errc::operation_canceled || sent.error() == std::errc::connection_reset ||
         sent.error() == std::errc::broken_pipe));
}

task<> recvs(net::tcp_stream from, const world*) {
  std::vector<std::byte> buffer(40'000);
  for (;;) {
    const auto n = co_await from.recv(buffer);
    if (!n || *n == 0) co_return;
  }
}

task<> recvs_exactly(net::tcp_stream from, const world* w) {
  std::vector<std::byte> buffer(w->bytes.size());
  const auto n = co_await from.recv_exactly(buffer);
  if (n) CHECK((as_text(buffer) == w->bytes));
}

task<> receives(net::tcp_stream from, const world*) {
  for (;;) {
    const auto lease = co_await from.receive();
    if (!lease || lease->empty()) co_return;
  }
}

// receive() and recv() in turns; keeps some leases.
task<> receives_and_recvs(net::tcp_stream from, const world*) {
  std::vector<std::byte> buffer(1000);
  std::vector<net::buffer_lease> kept;
  for (;;) {
    auto lease = co_await from.receive();
    if (!lease || lease->empty()) co_return;
    if (kept.size() < 3) kept.push_back(*std::move(lease));
    const auto n = co_await from.recv_exactly(buffer);
    if (!n) co_return;
  }
}

task<> closes_while_it_reads(net::tcp_stream from, const world*) {
  auto reader = spawn([](net::tcp_stream& stream) -> task<> {
    const auto lease = co_await stream.receive();
    if (!lease) co_return;
    const auto next = co_await stream.receive();
    (void)next;
  }, std::ref(from));
  co_await test::some_turns(3);
  co_await from.close();
  co_await std::move(reader);
}

task<> leaves_with_its_receive_armed(net::tcp_stream from, const world*) {
  const auto lease = co_await from.receive();
  (void)lease;
}

}  // namespace

TEST_CASE("sweep: recv and send") { sweep_sides(recvs, sends, 8); }
TEST_CASE("sweep: recv_exactly and send_all") { sweep_sides(recvs_exactly, sends_all, 3); }
TEST_CASE("sweep: receive and send_all, with few buffers") { sweep_sides(receives, sends_all, 40); }
TEST_CASE("sweep: receive and recv in turns, and leases that are kept") {
  sweep_sides(receives_and_recvs, sends_all, 40);
}
TEST_CASE("sweep: recv and sendfile") { sweep_sides(recvs, sends_file, 8); }
TEST_CASE("sweep: close with a receive and a send in flight") {
  sweep_sides(closes_while_it_reads, sends_all, 6);
}
TEST_CASE("sweep: a stream that goes while its receive is armed") {
  sweep_sides(leaves_with_its_receive_armed, sends_all, 3);
}

TEST_CASE("sweep: connect and accept") {
  for (const stop_level level : {stop_level::hard, stop_level::graceful}) {
    test::sweep_options options;
    options.level = level;
    const unsigned runs = test::sweep([](runtime& rt) {
      rt.spawn([]() -> task<> {
        auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
        auto clients = spawn([](net::endpoint to) -> task<> {
          for (int i = 0; i < 3; ++i) {
            const auto stream = co_await net::tcp_stream::connect(to);
            if (!stream) co_return;
          }
        }, listener.local());
        for (int i = 0; i < 3; ++i) {
          const auto peer = co_await listener.accept();
          if (!peer) break;
        }
        co_await std::move(clients);
      });
    }, options);
    CHECK(runs >= 6);
  }
}

TEST_CASE("sweep: a connect that hangs, and an accept with connections that nobody takes") {
  const unsigned runs = test::sweep([](runtime& rt) {
    auto full = std::make_unique<test::raw_listener>(0);
    rt.spawn([](test::raw_listener* to) -> task<> {
      const auto first = co_await net::tcp_stream::connect(to->local());
      const auto second = co_await with_timeout(1ms, net::tcp_stream::connect(to->local()));
      CHECK(!second);
      auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
      const auto nobody = co_await with_timeout(100us, listener.accept());
      std::vector<net::tcp_stream> waiting;
      for (int i = 0; i < 5; ++i) {
        auto stream = co_await net::tcp_stream::connect(listener.local());
        if (!stream) co_return;
        waiting.push_back(*std::move(stream));
      }
    }, full.get());
    return full;
  });
  CHECK(runs >= 6);
}

TEST_CASE("sweep: a server and its clients") {
  for (const stop_level level : {stop_level::hard, stop_level::graceful}) {
    test::sweep_options options = small_buffers();
    options.level = level;
    const unsigned runs = test::sweep([](runtime& rt) {
      rt.spawn([]() -> task<> {
        auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
        const auto where = listener.local();
        auto server = spawn([](net::tcp_listener from) -> task<> {
          auto echo = [](net::tcp_stream peer) -> task<> {
            for (;;) {
              const auto chunk = co_await peer.receive();
              if (!chunk || chunk->empty()) co_return;
              const auto sent = co_await peer.send_all(*chunk);
              if (!sent) co_return;
            }
          };
          (void)co_await net::serve(std::move(from), echo);
        }, std::move(listener));
        for (int i = 0; i < 2; ++i) {
          auto client = co_await net::tcp_stream::connect(where);
          if (!client) break;
          std::vector<std::byte> answer(5);
          const auto sent = co_await client->send_all(as_bytes("hello"));
          const auto n = co_await client->recv_exactly(answer);
          if (!sent || !n) break;
          CHECK(as_text(answer) == "hello");
        }
        server.request_stop();
        co_await std::move(server);
      });
    }, options);
    CHECK(runs >= 10);
  }
}
