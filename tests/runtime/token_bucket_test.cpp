#include <keel/runtime/token_bucket.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <limits>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/seed.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::result;
using keel::spawn;
using keel::task;
using keel::token_bucket;
using keel::test::in_runtime;
using keel::test::now;
using keel::test::run_simulated;

namespace {

constexpr auto tick = 17us;

task<result<void>> take(token_bucket& from, std::uint64_t n) {
  co_return co_await from.take(n);
}

// Notes when it has its tokens.
task<> note(token_bucket& from, std::uint64_t n, std::vector<keel::duration>& times) {
  const auto before = now();
  const auto got = co_await from.take(n);
  times.push_back(got ? now() - before : keel::duration(-1));
}

void check_about(keel::duration d, keel::duration expected) {
  CHECK(d >= expected);
  CHECK(d <= expected + tick);
}

}  // namespace

TEST_CASE("token_bucket: begins full; then it gives at its rate and never early, on every engine") {
  in_runtime([]() -> task<> {
    token_bucket bucket({.rate = 1'000'000, .burst = 1000});
    const auto before = now();
    for (int i = 0; i < 20; ++i) {
      const auto got = co_await bucket.take(500);
      CHECK(got);
    }
    CHECK(now() - before >= 9ms);
  });
}

TEST_CASE("token_bucket: those who wait are served in the order in which they came, whatever they want") {
  run_simulated([]() -> task<> {
    token_bucket bucket({.rate = 10, .burst = 10});
    std::vector<keel::duration> times;
    CHECK(bucket.try_take(10));
    auto a = spawn(note, std::ref(bucket), 10, std::ref(times));
    auto b = spawn(note, std::ref(bucket), 1, std::ref(times));
    auto c = spawn(note, std::ref(bucket), 4, std::ref(times));
    co_await keel::test::pause(500ms);
    // Five are there, but others were first.
    CHECK(bucket.available() == 5);
    CHECK(!bucket.try_take(1));
    co_await std::move(a);
    co_await std::move(b);
    co_await std::move(c);
    REQUIRE(times.size() == 3);
    check_about(times[0], 1s);
    check_about(times[1], 1100ms);
    check_about(times[2], 1500ms);
  }());
}

TEST_CASE("token_bucket: more than it holds leaves a debt, which the next one waits off") {
  run_simulated([]() -> task<> {
    token_bucket bucket({.rate = 10, .burst = 10});
    const auto before = now();
    const auto big = co_await bucket.take(100);
    CHECK(big);
    CHECK(now() == before);
    CHECK(bucket.available() == 0);
    const auto small = co_await bucket.take(1);
    CHECK(small);
    check_about(now() - before, 9100ms);
    CHECK(!bucket.try_take(11));
    co_await keel::test::pause(1s);
    CHECK(bucket.try_take(11));
    CHECK(!bucket.try_take(1));
  }());
}

TEST_CASE("token_bucket: G5: an odd rate does not drift in a million seconds") {
  run_simulated([]() -> task<> {
    token_bucket bucket({.rate = 7, .burst = 3});
    const auto before = now();
    CHECK(bucket.try_take(3));
    for (int i = 0; i < 10'000; ++i) {
      const auto got = co_await bucket.take(700);
      if (!got) co_return;
    }
    // A take begins with a full bucket and goes into debt: the last one began when the others were paid.
    const auto expected = keel::duration((9'999ull * 700 + 3) * 1'000'000'000 / 7);
    check_about(now() - before, expected);
  }());
}

TEST_CASE("token_bucket: a stop takes nothing, and the next is served as if the other had not been there") {
  run_simulated([]() -> task<> {
    token_bucket bucket({.rate = 10, .burst = 10});
    std::vector<keel::duration> times;
    CHECK(bucket.try_take(10));
    auto greedy = spawn(take, std::ref(bucket), 10);
    auto modest = spawn(note, std::ref(bucket), 2, std::ref(times));
    auto last = spawn(note, std::ref(bucket), 2, std::ref(times));
    co_await keel::test::pause(300ms);
    greedy.request_stop();
    const auto stopped = co_await std::move(greedy);
    CHECK(stopped.error() == errc::operation_canceled);
    CHECK(stopped.why().doing == std::string("token_bucket::take"));
    co_await std::move(modest);
    co_await std::move(last);
    REQUIRE(times.size() == 2);
    check_about(times[0], 300ms);
    check_about(times[1], 400ms);
    const auto late = co_await keel::with_timeout(100ms, bucket.take(10));
    CHECK(late.error() == errc::timed_out);
    CHECK(bucket.available() == 1);
    CHECK(keel::scheduler::current()->queue().timers() == 0);
  }());
}

TEST_CASE("token_bucket: what is complete beats a stop in the same turn") {
  run_simulated([]() -> task<> {
    token_bucket bucket({.rate = 0, .burst = 10});
    CHECK(bucket.try_take(10));
    auto waiting = spawn(take, std::ref(bucket), 10);
    co_await keel::test::pause(1h);
    CHECK(bucket.available() == 0);
    CHECK(!waiting.done());
    bucket.set_rate(10);
    co_await keel::test::pause(1s);
    bucket.set_rate(0);
    waiting.request_stop();
    const auto got = co_await std::move(waiting);
    CHECK(got);
  }());
}

TEST_CASE("token_bucket: a new rate holds from now on, for those who wait, too") {
  run_simulated([]() -> task<> {
    token_bucket bucket({.rate = 10, .burst = 10});
    std::vector<keel::duration> times;
    CHECK(bucket.try_take(10));
    auto waiting = spawn(note, std::ref(bucket), 10, std::ref(times));
    co_await keel::test::pause(500ms);
    bucket.set_rate(1);
    CHECK(bucket.rate() == 1);
    co_await keel::test::pause(2s);
    bucket.set_rate(100);
    co_await std::move(waiting);
    REQUIRE(times.size() == 1);
    CHECK(times[0] >= 2530ms);
    CHECK(times[0] <= 2531ms);
  }());
}

TEST_CASE("token_bucket: G1: nothing overflows at the ends of the numbers") {
  run_simulated([]() -> task<> {
    constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    for (const std::uint64_t rate : {std::uint64_t{0}, std::uint64_t{1}, most / 10, most - 1, most}) {
      for (const std::uint64_t burst : {std::uint64_t{0}, std::uint64_t{1}, most / 10, most - 1, most}) {
        token_bucket bucket({.rate = rate, .burst = burst});
        CHECK(bucket.try_take(0));
        CHECK(bucket.try_take(most));
        CHECK(bucket.available() == 0);
        const auto got = co_await keel::with_timeout(1h, bucket.take(most));
        // The debt is the tokens of an instant, or of thousands of years.
        CHECK(got.has_value() == (rate > 1));
        bucket.set_rate(most);
        co_await keel::test::pause(10s);
        CHECK(bucket.available() == burst);
      }
    }
  }());
}

TEST_CASE("token_bucket: at random, with stops, no more is given than came, and what is wanted arrives") {
  const std::uint64_t first = keel::test::chosen_seed();
  for (std::uint64_t seed = first; seed < first + 100; ++seed) {
    CAPTURE(seed);
    run_simulated([](std::uint64_t with) -> task<> {
      std::mt19937_64 random(with);
      const std::uint64_t rate = random() % 1000 + 1;
      const std::uint64_t burst = random() % 100 + 1;
      token_bucket bucket({.rate = rate, .burst = burst});
      std::uint64_t given = 0;
      std::uint64_t largest = 0;
      auto taker = [](token_bucket& from, std::uint64_t n, std::uint64_t& sum) -> task<> {
        const auto got = co_await from.take(n);
        if (got) sum += n;
      };
      const auto before = now();
      std::vector<keel::join_handle<void>> all;
      for (int i = 0; i < 50; ++i) {
        const std::uint64_t n = random() % 150;
        largest = n > largest ? n : largest;
        all.push_back(spawn(taker, std::ref(bucket), n, std::ref(given)));
        if (random() % 4 == 0) all[random() % all.size()].request_stop();
        co_await keel::test::pause(std::chrono::milliseconds(random() % 50));
      }
      for (auto& one : all) co_await std::move(one);
      const double seconds = double((now() - before).count()) * 1e-9;
      CHECK(double(given) <= double(rate) * seconds + double(burst) + double(largest));
    }(seed));
  }
}

TEST_CASE("token_bucket: destroyed while somebody waits, and used on two schedulers: bugs of the caller") {
  auto destroyed = []() -> task<> {
    auto bucket = std::make_unique<token_bucket>(keel::token_bucket_options{.rate = 1, .burst = 1});
    CHECK(bucket->try_take(1));
    auto waiting = spawn(take, std::ref(*bucket), 1);
    co_await keel::test::pause(1ms);
    bucket.reset();
  };
  CHECK_DEATH(run_simulated(destroyed()), "a token_bucket was destroyed while somebody waits");
  auto elsewhere = []() -> task<> {
    token_bucket bucket({.rate = 1, .burst = 1});
    CHECK(bucket.try_take(1));
    static_cast<void>(keel::run(take(bucket, 1)));
    co_return;
  };
  CHECK_DEATH(run_simulated(elsewhere()), "a token_bucket belongs to the tasks of one scheduler");
}
