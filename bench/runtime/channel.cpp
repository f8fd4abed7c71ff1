// What channels cost: a value from one task to another, and a select.
//
//     build/release/bench/channel [VALUES]
//
// CPU time of this thread per value sent and received, one scheduler, medians of 9 rounds after a warm-up:
// `rendezvous` switches tasks for each value, `bounded` (64) and `unbounded` for each batch; `ping_pong` is a
// round trip through two rendezvous channels. `sync_...` are the channels between threads, used on one of
// them; `sync_threads_...` have one end on each of two schedulers: wall time, and CPU time of either side;
// `sync_flooded_sender` is the CPU time of a plain thread that sends as fast as it can to a task.

#include "report.hpp"

#include <keel/keel.hpp>

#include <cstdlib>
#include <string>
#include <thread>

using namespace keel;

namespace {

constexpr int rounds = 9;

template <class Channel>
task<> produce(Channel* to, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto sent = co_await to->send(i);
    KEEL_ASSERT(sent.has_value());
  }
}

template <class Channel>
task<> consume(Channel* from, std::uint64_t n) {
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto got = co_await from->receive();
    sum += *got;
  }
  KEEL_ASSERT(sum == n * (n - 1) / 2);
}

template <class Round>
task<> measure(const char* what, std::uint64_t operations, Round round) {
  std::vector<double> ns;
  co_await round(operations);
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    co_await round(operations);
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / static_cast<double>(operations));
  }
  bench::report("channel", what, ns, operations);
}

template <class Channel, std::size_t Capacity>
task<> one_way(std::uint64_t n) {
  Channel values(Capacity);
  co_await when_all(produce(&values, n), consume(&values, n));
}

task<> ping(channel<std::uint64_t>* out, channel<std::uint64_t>* in, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    (co_await out->send(i)).value();
    (co_await in->receive()).value();
  }
}
task<> pong(channel<std::uint64_t>* out, channel<std::uint64_t>* in, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto got = co_await in->receive();
    (co_await out->send(*got)).value();
  }
}
task<> ping_pong(std::uint64_t n) {
  channel<std::uint64_t> there(0);
  channel<std::uint64_t> back(0);
  co_await when_all(ping(&there, &back, n), pong(&back, &there, n));
}

task<> select_two(channel<std::uint64_t>* a, channel<std::uint64_t>* b, std::uint64_t n) {
  for (std::uint64_t i = 0; i < n; ++i) {
    const auto got = co_await select(a->receive(), b->receive());
    KEEL_ASSERT(got.has_value());
  }
}
task<> selecting(std::uint64_t n) {
  channel<std::uint64_t> a(0);
  channel<std::uint64_t> b(0);
  co_await when_all(produce(&a, n / 2), produce(&b, n / 2), select_two(&a, &b, n / 2 * 2));
}

double wall_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Two schedulers, one end of the channel on each. CPU time of each side, and wall time.
template <std::size_t Capacity>
void across(const char* what, std::uint64_t n) {
  std::vector<double> wall;
  std::vector<double> sending;
  std::vector<double> receiving;
  for (int i = 0; i < rounds; ++i) {
    sync_channel<std::uint64_t> values(Capacity);
    run_options options;
    options.cpus = 2;
    const double begin = wall_seconds();
    run(options, [&]() -> task<> {
      const bool sends = scheduler::current()->index() == 0;
      const double before = bench::cpu_seconds();
      if (sends) {
        co_await produce(&values, n);
      } else {
        co_await consume(&values, n);
      }
      (sends ? sending : receiving).push_back((bench::cpu_seconds() - before) * 1e9 / static_cast<double>(n));
    });
    wall.push_back((wall_seconds() - begin) * 1e9 / static_cast<double>(n));
  }
  const std::string name = what;
  bench::report("channel", (name + "_wall").c_str(), wall, n);
  bench::report("channel", (name + "_sender").c_str(), sending, n);
  bench::report("channel", (name + "_receiver").c_str(), receiving, n);
}

// A thread floods the waiting task of a scheduler: the sender's CPU time per value.
void flood(std::uint64_t n) {
  std::vector<double> sending;
  for (int i = 0; i < rounds; ++i) {
    sync_channel<std::uint64_t> values(unbounded);
    std::thread sender([&] {
      const double before = bench::cpu_seconds();
      for (std::uint64_t value = 0; value < n; ++value) KEEL_ASSERT(values.try_send(std::uint64_t(value)));
      sending.push_back((bench::cpu_seconds() - before) * 1e9 / static_cast<double>(n));
    });
    run(consume(&values, n));
    sender.join();
  }
  bench::report("channel", "sync_flooded_sender", sending, n);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t n = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 200'000;
  run(measure("rendezvous", n, one_way<channel<std::uint64_t>, 0>));
  run(measure("bounded", n, one_way<channel<std::uint64_t>, 64>));
  run(measure("unbounded", n, one_way<channel<std::uint64_t>, unbounded>));
  run(measure("ping_pong", n, ping_pong));
  run(measure("select", n, selecting));
  run(measure("sync_rendezvous", n, one_way<sync_channel<std::uint64_t>, 0>));
  run(measure("sync_bounded", n, one_way<sync_channel<std::uint64_t>, 64>));
  run(measure("sync_unbounded", n, one_way<sync_channel<std::uint64_t>, unbounded>));
  across<64>("sync_threads_bounded", n);
  across<unbounded>("sync_threads_unbounded", n);
  flood(n);
}
