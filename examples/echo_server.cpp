// Echoes what each connection sends, on one CPU or on all of them.
//
//     build/release/examples/echo_server --port 7000
//     listening on 0.0.0.0:7000
//
// then `nc 127.0.0.1 7000` in another terminal. Ctrl-C stops it.

#include "server_options.hpp"

#include <keel/keel.hpp>

#include <atomic>
#include <cstdio>

using namespace keel;

namespace {

task<> echo(net::tcp_stream peer) {
  for (;;) {
    auto chunk = co_await peer.receive();  // a lease on the scheduler's buffers; empty = end of stream
    if (!chunk || chunk->empty()) co_return;
    if (!co_await peer.send_all(*chunk)) co_return;
  }
}

// The last scheduler that listens says so for all.
struct announcement {
  std::atomic<unsigned> missing;

  void one_more_listens(const net::endpoint& at) {
    if (missing.fetch_sub(1) != 1) return;
    std::printf("listening on %s\n", at.to_string().c_str());
    std::fflush(stdout);
  }
};

task<result<void>> serve(net::endpoint at, announcement& ready) {
  auto listener = net::tcp_listener::listen(at, {.shared = true});
  if (!listener) co_return listener.why();
  ready.one_more_listens(listener->local());
  co_return co_await net::serve(*std::move(listener), echo);
}

}  // namespace

int main(int argc, char** argv) {
  const server_options chosen = parse_server_options(argc, argv, "Echoes what each connection sends.", 7000);
  const net::endpoint at(net::address::v4_any(), chosen.port);
  announcement ready{chosen.cpus.count()};
  return run({.cpus = chosen.cpus, .stop_on_signals = true, .engine = chosen.engine},
             [&] { return serve(at, ready); });
}
