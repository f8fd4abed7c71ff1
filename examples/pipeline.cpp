// A pipeline: a source, some workers, one sink; between them channels with little room.
//
//     build/release/examples/pipeline 1000
//     1000 numbers, 168 primes, the largest 997; at most 8 waited for a worker
//
// The source runs ahead of the workers by what fits into the channel, and then waits: that is backpressure.
// The end travels the same way as the values: the source closes its channel, the workers end after the last
// value, the last of them closes theirs. A progress line comes each second, from a select; no number is lost
// by it.

#include <keel/keel.hpp>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>

using namespace keel;
using namespace std::chrono_literals;

namespace {

constexpr int workers = 4;

struct verdict {
  std::uint64_t number;
  bool prime;
};

struct pipeline {
  channel<std::uint64_t> numbers{8};
  channel<verdict> verdicts{8};
  int working = workers;
  std::size_t most_waiting = 0;
};

task<> count_up(pipeline& in, std::uint64_t last) {
  for (std::uint64_t n = 1; n <= last; ++n) {
    const auto sent = co_await in.numbers.send(n);
    if (!sent) co_return;
    in.most_waiting = std::max(in.most_waiting, in.numbers.size());
  }
  in.numbers.close();
}

bool is_prime(std::uint64_t n) {
  for (std::uint64_t divisor = 2; divisor * divisor <= n; ++divisor)
    if (n % divisor == 0) return false;
  return n > 1;
}

task<> work(pipeline& in) {
  for (;;) {
    const auto number = co_await in.numbers.receive();
    if (!number) break;
    const auto sent = co_await in.verdicts.send({*number, is_prime(*number)});
    if (!sent) break;
  }
  if (--in.working == 0) in.verdicts.close();
}

task<> tick(channel<bool>& each_second) {
  for (;;) {
    const auto slept = co_await sleep_for(1s);
    if (!slept) co_return;
    static_cast<void>(each_second.try_send(true));
  }
}

task<> sum_up(pipeline& in) {
  channel<bool> each_second(1);
  auto ticking = spawn(tick, std::ref(each_second));
  std::uint64_t seen = 0;
  std::uint64_t primes = 0;
  std::uint64_t largest = 0;
  for (;;) {
    const auto got = co_await select(in.verdicts.receive(), each_second.receive());
    if (!got) break;
    if (got->index() == 1) {
      std::printf("%llu so far\n", static_cast<unsigned long long>(seen));
      continue;
    }
    const auto& one = std::get<0>(*got);
    if (!one) break;
    ++seen;
    if (one->prime) ++primes;
    if (one->prime) largest = std::max(largest, one->number);
  }
  ticking.request_stop();
  co_await std::move(ticking);
  std::printf("%llu numbers, %llu primes, the largest %llu; at most %zu waited for a worker\n",
              static_cast<unsigned long long>(seen), static_cast<unsigned long long>(primes),
              static_cast<unsigned long long>(largest), in.most_waiting);
}

}  // namespace

int main(int argc, char** argv) {
  const std::uint64_t last = argc > 1 ? std::strtoull(argv[1], nullptr, 10) : 1'000'000;
  return run({.stop_on_signals = true}, [last]() -> task<> {
    pipeline line;
    co_await scope([&](scope& s) -> task<> {
      s.spawn(count_up, std::ref(line), last);
      for (int i = 0; i < workers; ++i) s.spawn(work, std::ref(line));
      co_await sum_up(line);
    });
  });
}
