// asio: a TCP echo server on Asio's coroutines, what an Asio user writes today.
//
//   echo_asio PORT
//
// One thread, so the context is told that it needs no locks between threads.

#include <array>
#include <asio.hpp>
#include <asio/experimental/as_tuple.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <utility>

using asio::ip::tcp;

namespace {

constexpr auto use_tuple = asio::experimental::as_tuple(asio::use_awaitable);

asio::awaitable<void> echo(tcp::socket socket) {
  asio::error_code ignored;
  socket.set_option(tcp::no_delay(true), ignored);
  std::array<char, 16 * 1024> buffer;
  for (;;) {
    auto [read_error, received] = co_await socket.async_read_some(asio::buffer(buffer), use_tuple);
    if (read_error) co_return;
    auto [write_error, sent] = co_await asio::async_write(socket, asio::buffer(buffer, received), use_tuple);
    if (write_error) co_return;
  }
}

asio::awaitable<void> serve(tcp::acceptor acceptor) {
  for (;;) {
    auto [error, socket] = co_await acceptor.async_accept(use_tuple);
    if (!error) asio::co_spawn(acceptor.get_executor(), echo(std::move(socket)), asio::detached);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s PORT\n", argv[0]);
    return 2;
  }
  try {
    asio::io_context context(1);
    tcp::endpoint endpoint(asio::ip::address_v4::loopback(), static_cast<unsigned short>(std::atoi(argv[1])));
    tcp::acceptor acceptor(context, endpoint);
    acceptor.listen(4096);
    std::printf("listening on 127.0.0.1:%d\n", endpoint.port());
    std::fflush(stdout);
    asio::co_spawn(context, serve(std::move(acceptor)), asio::detached);
    context.run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cannot serve: %s\n", error.what());
    return 1;
  }
}
