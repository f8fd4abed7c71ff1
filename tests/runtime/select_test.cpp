#include <keel/runtime/select.hpp>

#include <keel/runtime/channel.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/token_bucket.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/seed.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::channel;
using keel::errc;
using keel::result;
using keel::select;
using keel::spawn;
using keel::task;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

using text = std::string;
using choice_of_two =
    keel::await_result<keel::select_op<keel::channel_receive_op<int>, keel::channel_send_op<text>>>;
static_assert(std::is_same_v<choice_of_two, result<std::variant<result<int>, result<void>>>>);
static_assert(!keel::selectable<keel::sleep_op>);

// "0:7" when the first gave 7; "0:end", "stopped".
task<text> first_of(channel<int>& a, channel<int>& b) {
  auto got = co_await select(a.receive(), b.receive());
  if (!got) co_return got.error() == errc::operation_canceled ? "stopped" : "?";
  const auto value = std::visit([](auto& one) { return one; }, *got);
  co_return std::to_string(got->index()) + ':' + (value ? std::to_string(*value) : text("end"));
}

}  // namespace

TEST_CASE("select: takes what is there, and nothing else, on every engine") {
  in_runtime([]() -> task<> {
    channel<int> a(1);
    channel<int> b(1);
    CHECK(b.try_send(7));
    const auto got = co_await first_of(a, b);
    CHECK(got == "1:7");
    CHECK(a.try_send(1));
    CHECK(b.try_send(2));
    const auto one = co_await first_of(a, b);
    CHECK(a.size() + b.size() == 1);
    const auto other = co_await first_of(a, b);
    CHECK(((one == "0:1" && other == "1:2") || (one == "1:2" && other == "0:1")));
  });
}

TEST_CASE("select: waits for the first, and leaves the queues of the others") {
  run_simulated([]() -> task<> {
    channel<int> a(0);
    channel<int> b(0);
    auto waiting = spawn(first_of, std::ref(a), std::ref(b));
    co_await some_turns();
    CHECK(b.try_send(3));
    // Chosen, though it has not run yet: nobody receives from a.
    CHECK(a.try_send(4).error() == errc::limit_reached);
    CHECK(b.try_send(5).error() == errc::limit_reached);
    const auto got = co_await std::move(waiting);
    CHECK(got == "1:3");
  }());
}

TEST_CASE("select: of a send and a receive one is made; the value of a send that was not made is untouched") {
  run_simulated([]() -> task<> {
    channel<int> in(0);
    channel<std::unique_ptr<int>> out(0);
    auto either = [](channel<int>& from, channel<std::unique_ptr<int>>& to,
                     std::unique_ptr<int>& what) -> task<int> {
      const auto got = co_await select(from.receive(), to.send(std::move(what)));
      co_return got ? int(got->index()) : -1;
    };
    auto value = std::make_unique<int>(1);
    auto first = spawn(either, std::ref(in), std::ref(out), std::ref(value));
    co_await some_turns();
    CHECK(in.try_send(1));
    CHECK(!out.try_receive());
    const int received = co_await std::move(first);
    CHECK(received == 0);
    REQUIRE(value != nullptr);
    auto second = spawn(either, std::ref(in), std::ref(out), std::ref(value));
    co_await some_turns();
    CHECK(**out.try_receive() == 1);
    CHECK(in.try_send(1).error() == errc::limit_reached);
    const int sent = co_await std::move(second);
    CHECK(sent == 1);
    CHECK(value == nullptr);
  }());
}

TEST_CASE("select: two selects meet; none meets itself") {
  run_simulated([]() -> task<> {
    channel<int> c(0);
    auto both = [](channel<int>& on, int value) -> task<text> {
      auto got = co_await select(on.receive(), on.send(value));
      if (!got) co_return "stopped";
      co_return got->index() == 1 ? "sent" : std::to_string(std::get<0>(*got).value());
    };
    auto one = spawn(both, std::ref(c), 1);
    co_await some_turns();
    CHECK(!one.done());
    auto two = spawn(both, std::ref(c), 2);
    const auto first = co_await std::move(one);
    const auto second = co_await std::move(two);
    CHECK(((first == "sent" && second == "1") || (first == "2" && second == "sent")));
    CHECK(c.size() == 0);
  }());
}

TEST_CASE("select: the same channel twice is one exchange") {
  run_simulated([]() -> task<> {
    channel<int> c(4);
    CHECK(c.try_send(1));
    CHECK(c.try_send(2));
    const auto got = co_await first_of(c, c);
    CHECK((got == "0:1" || got == "1:1"));
    CHECK(c.size() == 1);
    CHECK(c.try_receive().value() == 2);
    auto waiting = spawn(first_of, std::ref(c), std::ref(c));
    co_await some_turns();
    CHECK(c.try_send(3));
    CHECK(c.try_send(4));
    CHECK(c.size() == 1);
    const auto later = co_await std::move(waiting);
    CHECK((later == "0:3" || later == "1:3"));
    auto closing = spawn(first_of, std::ref(c), std::ref(c));
    static_cast<void>(co_await std::move(closing));
    auto last = spawn(first_of, std::ref(c), std::ref(c));
    co_await some_turns();
    c.close();
    const auto end = co_await std::move(last);
    CHECK((end == "0:end" || end == "1:end"));
  }());
}

TEST_CASE("select: a closed channel is ready, with its error in its place") {
  run_simulated([]() -> task<> {
    channel<int> a(0);
    channel<int> b(0);
    b.close();
    const auto got = co_await first_of(a, b);
    CHECK(got == "1:end");
    auto sent = co_await select(a.receive(), b.send(1));
    REQUIRE(sent);
    CHECK(std::get<1>(*sent).error() == errc::closed);
  }());
}

TEST_CASE("select: a stop makes none; what is complete beats the stop; a grant goes to the next") {
  run_simulated([]() -> task<> {
    channel<int> a(0);
    channel<int> b(0);
    auto one = spawn(first_of, std::ref(a), std::ref(b));
    auto two = spawn(first_of, std::ref(a), std::ref(b));
    co_await some_turns();
    one.request_stop();
    CHECK(a.try_send(1));
    two.request_stop();
    const auto stopped = co_await std::move(one);
    CHECK(stopped == "stopped");
    const auto got = co_await std::move(two);
    CHECK(got == "0:1");
    CHECK(a.try_send(2).error() == errc::limit_reached);
    const auto late = co_await keel::with_timeout(1s, select(a.receive(), b.receive()));
    CHECK(late.error() == errc::timed_out);
  }());
}

TEST_CASE("select: of those that are always ready each is chosen about as often") {
  run_simulated([]() -> task<> {
    channel<int> a(keel::unbounded);
    channel<int> b(keel::unbounded);
    channel<int> c(keel::unbounded);
    int chosen[3] = {};
    for (int i = 0; i < 3000; ++i) {
      CHECK(a.try_send(0));
      CHECK(b.try_send(0));
      CHECK(c.try_send(0));
      const auto got = co_await select(a.receive(), b.receive(), c.receive());
      ++chosen[got->index()];
    }
    for (const int n : chosen) CHECK(n > 700);
  }());
}

TEST_CASE("select: tokens of a bucket are taken only when that is chosen") {
  run_simulated([]() -> task<> {
    keel::token_bucket bucket({.rate = 10, .burst = 10});
    channel<int> stop(0);
    auto paid = co_await select(stop.receive(), bucket.take(10));
    CHECK(paid->index() == 1);
    auto wait = [](keel::token_bucket& from, channel<int>& other) -> task<std::size_t> {
      const auto got = co_await select(other.receive(), from.take(10));
      co_return got->index();
    };
    auto waiting = spawn(wait, std::ref(bucket), std::ref(stop));
    co_await keel::test::pause(900ms);
    CHECK(stop.try_send(1));
    const auto index = co_await std::move(waiting);
    CHECK(index == 0);
    CHECK(bucket.available() == 9);
    auto again = spawn(wait, std::ref(bucket), std::ref(stop));
    const auto taken = co_await std::move(again);
    CHECK(taken == 1);
    CHECK(bucket.available() == 0);
  }());
}

TEST_CASE("select: what the chosen one throws leaves the co_await") {
  struct throws {
    explicit throws(int) {}
    throws(throws&&) { throw std::runtime_error("a move"); }
  };
  run_simulated([]() -> task<> {
    channel<int> a(0);
    channel<throws> b(1);
    throws value(1);
    bool thrown = false;
    try {
      static_cast<void>(co_await select(a.receive(), b.send(std::move(value))));
    } catch (const std::runtime_error&) {
      thrown = true;
    }
    CHECK(thrown);
    CHECK(b.size() == 0);
  }());
}

namespace {

struct crowd {
  explicit crowd(std::uint64_t seed) : random(seed) {}

  channel<tracked> a{0};
  channel<tracked> b{2};
  channel<tracked> c{keel::unbounded};
  std::mt19937_64 random;
  std::vector<int> sent;
  std::vector<int> received;
  int next = 0;
};

task<> exchange_some(crowd& in) {
  for (int i = 0; i < 20; ++i) {
    tracked one(in.next++);
    tracked two(in.next++);
    const int numbers[2] = {one.value, two.value};
    const auto got = co_await select(in.a.send(std::move(one)), in.b.receive(), in.c.receive(),
                                     in.b.send(std::move(two)), in.a.receive());
    CHECK((one.value == numbers[0]) == !(got && got->index() == 0 && std::get<0>(*got)));
    CHECK((two.value == numbers[1]) == !(got && got->index() == 3 && std::get<3>(*got)));
    if (!got) co_return;
    if (got->index() == 0 && std::get<0>(*got)) in.sent.push_back(numbers[0]);
    if (got->index() == 3 && std::get<3>(*got)) in.sent.push_back(numbers[1]);
    if (got->index() == 1 && std::get<1>(*got)) in.received.push_back(std::get<1>(*got)->value);
    if (got->index() == 2 && std::get<2>(*got)) in.received.push_back(std::get<2>(*got)->value);
    if (got->index() == 4 && std::get<4>(*got)) in.received.push_back(std::get<4>(*got)->value);
    if (in.random() % 8 == 0) {
      tracked more(in.next++);
      const int number = more.value;
      if (in.c.try_send(std::move(more))) in.sent.push_back(number);
    }
    if (in.random() % 3 == 0) co_await keel::test::pause(std::chrono::microseconds(in.random() % 100));
  }
}
task<> live(crowd& in) {
  std::vector<keel::join_handle<void>> all;
  for (int i = 0; i < 8; ++i) all.push_back(spawn(exchange_some, std::ref(in)));
  for (int i = 0; i < 4; ++i) {
    co_await keel::test::pause(std::chrono::microseconds(in.random() % 300));
    all[in.random() % all.size()].request_stop();
  }
  co_await keel::test::pause(std::chrono::microseconds(in.random() % 3000));
  in.a.close();
  in.b.close();
  in.c.close();
  for (auto& one : all) co_await std::move(one);
  while (auto got = in.b.try_receive()) in.received.push_back(got->value);
  while (auto got = in.c.try_receive()) in.received.push_back(got->value);
}

}  // namespace

TEST_CASE("select: at random, over three channels, nothing is lost and nothing is duplicated") {
  const tracked_balance balance;
  const std::uint64_t first = keel::test::chosen_seed();
  for (std::uint64_t seed = first; seed < first + 200; ++seed) {
    CAPTURE(seed);
    crowd all(seed);
    run_simulated(live(all));
    std::sort(all.sent.begin(), all.sent.end());
    std::sort(all.received.begin(), all.received.end());
    REQUIRE(all.sent == all.received);
  }
}

TEST_CASE("select: awaited twice, it is a bug of the caller") {
  auto twice = []() -> task<> {
    channel<int> a(2);
    CHECK(a.try_send(1));
    auto op = select(a.receive(), a.receive());
    co_await some_turns();
    auto wait = [](decltype(op)& same) -> task<> { static_cast<void>(co_await std::move(same)); };
    static_cast<void>(a.try_receive());
    spawn(wait, std::ref(op));
    spawn(wait, std::ref(op));
    co_await some_turns();
  };
  CHECK_DEATH(run_simulated(twice()), "a select is awaited once");
}
