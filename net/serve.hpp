// A TCP server in one line.
#pragma once

#include <keel/net/tcp_listener.hpp>
#include <keel/runtime/scope.hpp>

#include <string>

namespace keel::net {

// Runs `handler(tcp_stream)`, which returns task<>, for each connection of `listener`, until it is stopped.
//
// Ends when stopped, after its connections have ended: a graceful stop accepts nothing new and waits for
// them.
// Errors:    those of accept; operation_canceled. An exception of a handler stops the server and leaves the
//            co_await.
// Cancelled: the stop is passed on to the connections; their ends are awaited.
template <class Handler>
task<result<void>> serve(tcp_listener listener, Handler handler) {
  std::error_code ended;
  auto accept_all = [&](scope& connections) -> task<> {
    for (;;) {
      auto peer = co_await listener.accept();
      if (!peer) {
        ended = peer.error();
        break;
      }
      connections.spawn(named("connection", handler), *std::move(peer));
    }
    // While its connections end, a server that is stopped keeps nobody waiting at the door.
    const tcp_listener closed = std::move(listener);
  };
  co_await scope(accept_all);
  co_return ended;
}

// Listens on `where` ("[::]:7000") and serves. With several schedulers, each calls it and serves its share of
// the connections on the same port.
//
// Errors:    those of tcp_listener::listen, and of serve.
// Cancelled: as serve.
template <class Handler>
task<result<void>> serve_tcp(std::string where, Handler handler, listen_options options = {.shared = true}) {
  auto listener = tcp_listener::listen(where, options);
  if (!listener) co_return listener.why();
  co_return co_await serve(*std::move(listener), std::move(handler));
}

}  // namespace keel::net
