#include <keel/runtime/sync_channel.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <ostream>
#include <string>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/seed.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::spawn;
using keel::sync_channel;
using keel::task;
using keel::unbounded;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

constexpr std::size_t capacities[] = {0, 1, 2, 7, unbounded};

task<result<void>> send(sync_channel<int>& to, int value) {
  co_return co_await to.send(value);
}
task<result<int>> receive(sync_channel<int>& from) {
  co_return co_await from.receive();
}

}  // namespace

TEST_CASE("sync_channel: on one scheduler it is a channel: order, close, stops") {
  run_simulated([]() -> task<> {
    sync_channel<int> values(1);
    CHECK(values.capacity() == 1);
    auto one = spawn(receive, std::ref(values));
    auto two = spawn(receive, std::ref(values));
    co_await some_turns();
    one.request_stop();
    CHECK(values.try_send(7));
    two.request_stop();
    const auto stopped = co_await std::move(one);
    CHECK(stopped.error() == errc::operation_canceled);
    const auto got = co_await std::move(two);
    CHECK(got.value() == 7);

    auto first = spawn(send, std::ref(values), 1);
    auto second = spawn(send, std::ref(values), 2);
    auto third = spawn(send, std::ref(values), 3);
    co_await some_turns();
    CHECK(values.size() == 1);
    CHECK(values.try_send(4).error() == errc::limit_reached);
    second.request_stop();
    CHECK(values.try_receive().value() == 1);
    CHECK(values.try_receive().value() == 3);
    CHECK(!values.try_receive());
    const auto sent = co_await std::move(first);
    CHECK(sent);
    const auto unsent = co_await std::move(second);
    CHECK(unsent.error() == errc::operation_canceled);
    const auto last = co_await std::move(third);
    CHECK(last);
    values.close();
    CHECK(values.closed());
    const auto end = co_await values.receive();
    CHECK(end.error() == errc::end_of_stream);
    const auto refused = co_await values.send(5);
    CHECK(refused.error() == errc::closed);
    const auto late = co_await keel::with_timeout(1s, sync_channel<int>(0).receive());
    CHECK(late.error() == errc::timed_out);
  }());
}

TEST_CASE(
    "sync_channel: H12: what another thread has given or taken beats a stop, though the message is on its "
    "way") {
  in_runtime([]() -> task<> {
    sync_channel<int> values(0);
    auto receiver = spawn(receive, std::ref(values));
    co_await some_turns();
    std::thread([&values] { CHECK(values.try_send(7)); }).join();
    receiver.request_stop();
    const auto got = co_await std::move(receiver);
    CHECK(got.value() == 7);
    auto sender = spawn(send, std::ref(values), 8);
    co_await some_turns();
    std::thread([&values] { CHECK(values.try_receive().value() == 8); }).join();
    sender.request_stop();
    const auto sent = co_await std::move(sender);
    CHECK(sent);
    auto late = spawn(receive, std::ref(values));
    co_await some_turns();
    std::thread([&values] { values.close(); }).join();
    late.request_stop();
    const auto end = co_await std::move(late);
    CHECK(end.error() == errc::end_of_stream);
  });
}

TEST_CASE("sync_channel: a sender keeps what it could not send") {
  run_simulated([]() -> task<> {
    sync_channel<std::unique_ptr<int>> values(0);
    auto value = std::make_unique<int>(1);
    const auto late = co_await keel::with_timeout(1s, values.send(std::move(value)));
    CHECK(late.error() == errc::timed_out);
    REQUIRE(value != nullptr);
    CHECK(values.try_send(std::move(value)).error() == errc::limit_reached);
    values.close();
    const auto refused = co_await values.send(std::move(value));
    CHECK(refused.error() == errc::closed);
    CHECK(value != nullptr);
  }());
}

TEST_CASE("sync_channel: between threads and tasks, both ways, in order; the last one may end at once") {
  for (const std::size_t capacity : capacities) {
    CAPTURE(capacity);
    sync_channel<int> there(capacity);
    sync_channel<int> back(capacity);
    std::thread peer([&] {
      for (;;) {
        const auto got = there.receive_blocking();
        if (!got) break;
        if (!back.send_blocking(*got * 2)) break;
      }
      back.close();
    });
    keel::run([](sync_channel<int>& out, sync_channel<int>& in) -> task<> {
      for (int i = 0; i < 300; ++i) {
        const auto sent = co_await out.send(i);
        REQUIRE(sent);
        const auto got = co_await in.receive();
        REQUIRE(got);
        CHECK(*got == i * 2);
      }
      out.close();
      const auto end = co_await in.receive();
      CHECK(end.error() == errc::end_of_stream);
    }(there, back));
    peer.join();
  }
}

namespace {

constexpr int schedulers = 3;
constexpr int per_sender = 200;

struct crowd {
  crowd(std::size_t capacity, std::uint64_t number) : values(capacity), seed(number) {}

  sync_channel<std::unique_ptr<int>> values;
  std::uint64_t seed;
  std::atomic<int> next{0};
  std::atomic<int> senders{0};
  std::mutex lock;
  std::vector<int> sent;
  std::vector<int> received;

  void note(std::vector<int>& in, int value) {
    const std::lock_guard here(lock);
    in.push_back(value);
  }
};

task<> send_some(crowd& in) {
  std::mt19937_64 random(in.seed + std::uint64_t(in.next.load()));
  for (int i = 0; i < per_sender; ++i) {
    const int number = in.next++;
    auto value = std::make_unique<int>(number);
    const auto sent = co_await in.values.send(std::move(value));
    CHECK(sent.has_value() == (value == nullptr));
    if (sent) in.note(in.sent, number);
    if (!sent) break;
    if (random() % 16 == 0) co_await keel::test::pause(std::chrono::microseconds(random() % 50));
  }
  if (--in.senders == 0) in.values.close();
}
task<> receive_some(crowd& in) {
  for (;;) {
    const auto got = co_await in.values.receive();
    if (!got) co_return;
    in.note(in.received, **got);
  }
}
// Stops some of them in mid flight.
task<int> live(crowd& in) {
  std::mt19937_64 random(in.seed + keel::scheduler::current()->index());
  std::vector<keel::join_handle<void>> all;
  for (int i = 0; i < 2; ++i) all.push_back(spawn(send_some, std::ref(in)));
  for (int i = 0; i < 3; ++i) all.push_back(spawn(receive_some, std::ref(in)));
  for (int i = 0; i < 3; ++i) {
    co_await keel::test::pause(std::chrono::microseconds(random() % 500));
    all[random() % 4].request_stop();
  }
  for (auto& one : all) co_await std::move(one);
  co_return 0;
}

}  // namespace

TEST_CASE("sync_channel: H12: several schedulers with random stops lose and duplicate nothing") {
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  for (std::uint64_t round = 0; round < 20; ++round) {
    crowd all(capacities[round % 5], seed + round);
    all.senders = schedulers * 2;
    keel::run_options options;
    options.cpus = keel::cpu_list(schedulers);
    const int code = keel::run(options, [&all]() -> task<int> { return live(all); });
    CHECK(code == 0);
    while (auto got = all.values.try_receive()) all.received.push_back(**got);
    std::sort(all.sent.begin(), all.sent.end());
    std::sort(all.received.begin(), all.received.end());
    REQUIRE(all.sent == all.received);
  }
}

TEST_CASE("sync_channel: threads that block, tasks, and a close from outside") {
  for (int round = 0; round < 20; ++round) {
    sync_channel<int> values(2);
    std::atomic<int> balance{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i) {
      threads.emplace_back([&] {
        while (values.send_blocking(1)) ++balance;
      });
      threads.emplace_back([&] {
        while (values.receive_blocking()) --balance;
      });
    }
    keel::run([](sync_channel<int>& on, std::atomic<int>& sum) -> task<> {
      for (int i = 0; i < 100; ++i) {
        const auto sent = co_await on.send(1);
        if (sent) ++sum;
        const auto got = co_await on.receive();
        if (got) --sum;
      }
      on.close();
    }(values, balance));
    for (auto& t : threads) t.join();
    while (values.try_receive()) --balance;
    CHECK(balance == 0);
  }
}

TEST_CASE("sync_channel: destroyed while somebody waits, and a scheduler that blocks: bugs of the caller") {
  auto destroyed = []() -> task<> {
    auto values = std::make_unique<sync_channel<int>>(0);
    auto waiting = spawn(receive, std::ref(*values));
    co_await some_turns();
    values.reset();
  };
  CHECK_DEATH(run_simulated(destroyed()), "a channel was destroyed while somebody waits at it");
  auto blocking = []() -> task<> {
    sync_channel<int> values(1);
    static_cast<void>(values.receive_blocking());
    co_return;
  };
  CHECK_DEATH(run_simulated(blocking()), "this would block a scheduler");
}
