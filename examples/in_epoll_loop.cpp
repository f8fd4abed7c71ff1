// keel inside an epoll loop that belongs to the program: an echo server beside the program's own timer.
//
//     build/release/examples/in_epoll_loop --port 7000
//     listening on 0.0.0.0:7000
//     tick 1: 0 connections so far
//
// then `nc 127.0.0.1 7000` in another terminal. Ctrl-C stops it.

#include "server_options.hpp"

#include <keel/keel.hpp>

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <functional>

using namespace keel;

namespace {

task<> echo(net::tcp_stream peer) {
  for (;;) {
    auto chunk = co_await peer.receive();
    if (!chunk || chunk->empty()) co_return;
    if (!co_await peer.send_all(*chunk)) co_return;
  }
}

// A task of keel's and a callback of the program's may use the same variables: both run on this thread.
task<> serve(net::endpoint at, unsigned& connections) {
  auto listener = net::tcp_listener::listen(at).value();
  std::printf("listening on %s\n", listener.local().to_string().c_str());
  std::fflush(stdout);
  for (;;) {
    auto peer = co_await listener.accept();
    if (!peer) co_return;
    ++connections;
    spawn(echo, *std::move(peer));
  }
}

task<> stop_on_signal(runtime& rt) {
  const auto signal = co_await signals(SIGINT, SIGTERM).next();
  if (signal) rt.request_stop();
}

// What the program had before it had keel: a timer of its own.
class ticker {
 public:
  ticker() : timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)) {
    const itimerspec every_100ms{{0, 100'000'000}, {0, 100'000'000}};
    ::timerfd_settime(timer_.get(), 0, &every_100ms, nullptr);
  }
  int fd() const { return timer_.get(); }
  void tick(unsigned connections) {
    std::uint64_t expired = 0;
    if (::read(timer_.get(), &expired, sizeof expired) != sizeof expired) return;
    std::printf("tick %u: %u connections so far\n", ++ticks_, connections);
    std::fflush(stdout);
  }

 private:
  unique_fd timer_;
  unsigned ticks_ = 0;
};

void watch(int set, int fd) {
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = fd;
  if (::epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) != 0) throw_error(kernel_error(errno), "epoll_ctl");
}

}  // namespace

int main(int argc, char** argv) {
  const server_options chosen = parse_server_options(argc, argv, "Echoes, inside an epoll loop.", 7000);
  runtime rt({.engine = chosen.engine});
  unsigned connections = 0;
  rt.spawn(serve, net::endpoint(net::address::v4_any(), chosen.port), std::ref(connections));
  rt.spawn(stop_on_signal, std::ref(rt));

  ticker own;
  const unique_fd set(::epoll_create1(EPOLL_CLOEXEC));
  watch(set.get(), own.fd());
  watch(set.get(), rt.fd());
  while (rt.at(0).live_tasks() != 0) {
    epoll_event events[2];
    // -1, for example after a signal: nothing came, look again.
    const int n = ::epoll_wait(set.get(), events, 2, -1);
    for (int i = 0; i < n; ++i) {
      if (events[i].data.fd == own.fd()) {
        own.tick(connections);
      } else {
        rt.run_ready();
      }
    }
  }
  std::printf("bye\n");
}
