#include "server.hpp"

#include "connection.hpp"
#include "descriptors.hpp"
#include "limits.hpp"
#include "site.hpp"
#include "worker.hpp"

#include <keel/keel.hpp>

#include <atomic>
#include <cstdio>
#include <exception>
#include <functional>
#include <optional>
#include <string>

#include <unistd.h>

using namespace keel;

namespace httpd {
namespace {

// What all CPUs know of each other.
struct program {
  const options& chosen;
  const site& files;
  net::endpoint where;
  unsigned cpus;
  unsigned connections_per_cpu;
  std::atomic<unsigned> listening{0};
  std::atomic<bool> failed{false};
};

void report_listening(program& all, const net::endpoint& where) {
  if (all.listening.fetch_add(1) + 1 < all.cpus) return;
  std::printf("listening on %s\n", where.to_string().c_str());
  std::fflush(stdout);
}

// Every CPU meets the same obstacle; one line about it is enough.
int report_failure(program& all, std::error_code error) {
  if (!all.failed.exchange(true)) {
    std::fprintf(stderr, "httpd: cannot listen on %s: %s\n", all.where.to_string().c_str(),
                 error.message().c_str());
  }
  scheduler::current()->owner().request_stop();
  return 1;
}

// A client takes a place while it is served.
class place {
 public:
  explicit place(worker& host) noexcept : host_(host) { ++host_.connections; }
  place(const place&) = delete;
  place& operator=(const place&) = delete;
  ~place() { --host_.connections; }

 private:
  worker& host_;
};

task<> serve_client(worker& host, net::tcp_stream stream) {
  place taken(host);
  try {
    connection client(host, std::move(stream));
    co_await client.run();
  } catch (const std::exception& problem) {
    std::fprintf(stderr, "httpd: a client is dropped: %s\n", problem.what());
  }
}

// One task at a time waits in accept(). When it has a client, it leaves its post to a new task and becomes
// the client's. With no place left it leaves the post empty: further clients wait in the kernel's backlog,
// and the next task that is through with its client takes the post. So nobody ever polls for a free place.
task<> accept_and_serve(worker& host, std::optional<net::tcp_listener>& listener, scope& children) {
  for (;;) {
    host.has_acceptor = true;
    auto stream = co_await listener->accept();
    if (stream.error() == errc::operation_canceled) {
      listener.reset();  // who comes now is refused at once
      co_return;         // the post stays taken: nobody follows
    }
    if (!stream) {
      if (!co_await sleep_for(milliseconds(10))) co_return;
      continue;
    }
    host.has_acceptor = host.connections + 1 < host.connections_max;
    if (host.has_acceptor) {
      children.spawn(named("client", accept_and_serve), std::ref(host), std::ref(listener),
                     std::ref(children));
    }
    co_await serve_client(host, *std::move(stream));
    if (host.has_acceptor) co_return;
  }
}

task<> flush_log_each_second(access_log& log) {
  for (;;) {
    auto slept = co_await graceful(sleep_for(seconds(1)));
    if (!slept) co_return;
    log.flush();
  }
}

// The main task of each CPU.
task<int> serve_on_this_cpu(program& all) {
  // Not ahead: a connection that is accepted before there is a place for it would cost a descriptor.
  const net::listen_options how{.shared = true, .ahead = false};
  auto listening = net::tcp_listener::listen(all.where, how);
  if (!listening) co_return report_failure(all, listening.error());
  std::optional<net::tcp_listener> listener(*std::move(listening));

  std::optional<access_log> log;
  if (all.chosen.log) log.emplace(STDERR_FILENO);
  worker host(all.files, all.connections_per_cpu, log ? &*log : nullptr);
  report_listening(all, listener->local());

  auto body = [&](scope& children) -> task<> {
    if (log) children.spawn(named("log", flush_log_each_second), std::ref(*log));
    children.spawn(named("client", accept_and_serve), std::ref(host), std::ref(listener), std::ref(children));
    co_return;
  };
  co_await scope(body);
  co_return 0;
}

}  // namespace

int serve(const options& chosen) {
  auto files = site::open(chosen.folder, chosen.hidden);
  if (!files) {
    const std::string why = files.error().message();
    std::fprintf(stderr, "httpd: cannot serve %s: %s\n", chosen.folder.c_str(), why.c_str());
    return 1;
  }
  auto where = net::endpoint::parse(host_and_port(chosen));
  if (!where) {
    std::fprintf(stderr, "httpd: --address: '%s' is no address\n", chosen.address.c_str());
    return 1;
  }
  cpu_list cpus = chosen.cpus == 0 ? cpu_list(all_cpus) : cpu_list(static_cast<int>(chosen.cpus));
  unsigned cpu_count = cpus.resolve().count;
  if (chosen.connections_max != 0 && chosen.connections_max < cpu_count) {
    cpu_count = chosen.connections_max;  // a CPU serves one client at least
    cpus = cpu_list(static_cast<int>(cpu_count));
  }
  program all{.chosen = chosen,
              .files = *files,
              .where = *where,
              .cpus = cpu_count,
              .connections_per_cpu = connection_places(chosen.connections_max, cpu_count)};
  run_options how{.cpus = cpus, .stop_on_signals = true, .grace = stop_grace};
  if (chosen.engine == "uring") how.engine = engine_choice::uring;
  if (chosen.engine == "epoll") how.engine = engine_choice::epoll;
  return run(how, [&all] { return serve_on_this_cpu(all); });
}

}  // namespace httpd
