// Servers and clients of net/ on a simulated kernel that makes every kind of fault.
//
// KEEL_SEED=n begins with the seed n: what failed is run first.
#include <doctest/doctest.h>
#include <keel/kevent_sys/sim_engine.hpp>
#include <keel/net/serve.hpp>
#include <keel/net/tcp.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <string>
#include <vector>

#include "support/descriptors.hpp"
#include "support/seed.hpp"

using namespace keel;
using namespace std::chrono_literals;
using kevent_sys::sim_faults;
using kevent_sys::sim_random;
using kevent_sys::sim_world;

namespace {

constexpr int clients = 4;
// It finds room on its way and on its way back: a client that sends all of it before it reads would wait for
// a server that waits for it.
constexpr std::uint32_t message_bytes_max = 300;

struct tally {
  int complete = 0;  // all of a message came back
  int failed = 0;    // a connection broke, or time ran out
  int wrong = 0;     // something else came back
};

task<> echo(net::tcp_stream peer) {
  for (;;) {
    const auto chunk = co_await peer.receive();
    if (!chunk || chunk->empty()) break;
    const auto sent = co_await peer.send_all(*chunk);
    if (!sent) break;
  }
  co_await peer.close();
}

// What came back of `message`, up to the end or an error.
task<result<std::string>> exchange(net::endpoint at, const std::string& message, bool leases) {
  auto connected = co_await net::tcp_stream::connect(at);
  if (!connected) co_return connected.why();
  net::tcp_stream peer = *std::move(connected);
  const auto sent = co_await peer.send_all(as_bytes(message));
  if (!sent) co_return sent.why();
  const auto told = peer.shutdown_send();
  if (!told) co_return told.why();
  std::string echoed;
  while (leases) {
    const auto chunk = co_await peer.receive();
    if (!chunk) co_return chunk.why();
    if (chunk->empty()) break;
    echoed += chunk->text();
  }
  std::vector<std::byte> room(50);
  while (!leases) {
    const auto n = co_await peer.recv(room);
    if (!n) co_return n.why();
    if (*n == 0) break;
    echoed += as_text({room.data(), *n});
  }
  co_await peer.close();
  co_return echoed;
}

task<> client(net::endpoint at, std::string message, bool leases, bool hurries, tally& seen) {
  const auto echoed =
      co_await with_timeout(hurries ? duration(3ms) : duration(1h), exchange(at, message, leases));
  if (!echoed) {
    ++seen.failed;
  } else if (*echoed == message) {
    ++seen.complete;
  } else if (message.starts_with(*echoed)) {
    ++seen.failed;  // the server gave up
  } else {
    ++seen.wrong;
  }
}

std::string random_text(sim_random& random) {
  std::string text(1 + random.below(message_bytes_max), '\0');
  for (char& c : text) c = static_cast<char>(random.next());
  return text;
}

task<> calm_down(sim_world& world) {
  const auto slept = co_await sleep_for(1s);
  if (slept) world.stop_faults();
}

task<> serve_quietly(net::tcp_listener listener) {
  static_cast<void>(co_await net::serve(std::move(listener), echo));
}

task<> traffic(sim_world& world, std::uint64_t seed, bool hurry, tally& seen) {
  sim_random random(seed);
  auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
  const net::endpoint at = listener.local();
  std::byte bytes[net::endpoint::sockaddr_size_max];
  const auto address = as_text({bytes, at.to_sockaddr(bytes)});
  world.adopt_listener(listener.fd(), address, 2,
                       {.capacity_bytes = message_bytes_max, .latency_ns = 100'000});
  auto all = [&](scope& everybody) -> task<> {
    everybody.spawn(calm_down, std::ref(world));
    everybody.spawn(serve_quietly, std::move(listener));
    auto only_clients = [&](scope& children) -> task<> {
      for (int i = 0; i < clients; ++i) {
        const bool leases = random.hit(500);
        const bool hurries = hurry && random.hit(500);
        children.spawn(client, at, random_text(random), leases, hurries, std::ref(seen));
      }
      co_return;
    };
    co_await scope(only_clients);
    everybody.request_stop();
  };
  co_await scope(all);
}

struct outcome {
  tally seen;
  std::uint64_t hash = 0;
  std::string report;
};

outcome run_seed(std::uint64_t seed, const sim_faults& faults, bool hurry) {
  sim_world world({.seed = seed, .faults = faults, .real_descriptors = true});
  outcome o;
  {
    runtime_options options;
    options.buffers = 4;
    options.factory = world.factory();
    runtime rt(options);
    rt.spawn(traffic, std::ref(world), seed, hurry, std::ref(o.seen));
    rt.run();
  }
  world.expect_end();
  o.hash = world.trace_hash();
  o.report = world.report();
  return o;
}

tally run_many(const sim_faults& faults, int seeds, bool hurry = false) {
  const std::uint64_t first = test::chosen_seed();
  const std::size_t descriptors = test::open_descriptors();
  tally all;
  for (int i = 0; i < seeds; ++i) {
    const std::uint64_t seed = first + std::uint64_t(i);
    CAPTURE(seed);
    const outcome one = run_seed(seed, faults, hurry);
    CHECK(one.report == "");
    CHECK(one.seen.wrong == 0);
    CHECK(one.seen.complete + one.seen.failed == clients);
    CHECK(test::open_descriptors() == descriptors);
    all.complete += one.seen.complete;
    all.failed += one.seen.failed;
  }
  return all;
}

}  // namespace

TEST_CASE("F1: net chaos: calm, one byte at a time, out of order: all messages come back") {
  CHECK(run_many(sim_faults::calm(), 50).complete == 50 * clients);
  CHECK(run_many(sim_faults::short1(), 50).complete == 50 * clients);
  CHECK(run_many(sim_faults::reorder(), 50).complete == 50 * clients);
}

TEST_CASE("D12: net chaos: every fault but errors: all messages come back") {
  sim_faults faults = sim_faults::chaos();
  faults.errors = 0;
  CHECK(run_many(faults, 100).complete == 100 * clients);
}

TEST_CASE("F8: net chaos: errors, and every fault: what comes back is right, and nothing is left") {
  CHECK(run_many(sim_faults::with_errors(), 100).complete > 0);
  CHECK(run_many(sim_faults::chaos(), 100).failed > 0);
}

TEST_CASE("C2: net chaos: clients that give up, with every fault: nothing is left") {
  sim_faults faults = sim_faults::chaos();
  CHECK(run_many(faults, 100, true).failed > 0);
  faults.errors = 0;
  CHECK(run_many(faults, 100, true).failed > 0);
}

TEST_CASE("C6: net chaos: what never completes goes on when the faults stop, or is given up") {
  CHECK(run_many(sim_faults::never_completes(), 50).complete == 50 * clients);
  CHECK(run_many(sim_faults::never_completes(), 50, true).failed > 0);
}

TEST_CASE("net chaos: the same seed gives the same trace") {
  const std::uint64_t seed = test::chosen_seed();
  CAPTURE(seed);
  const outcome first = run_seed(seed, sim_faults::chaos(), true);
  CHECK(first.hash == run_seed(seed, sim_faults::chaos(), true).hash);
  CHECK(first.hash != run_seed(seed + 1, sim_faults::chaos(), true).hash);
}
