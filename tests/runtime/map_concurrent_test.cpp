#include <keel/runtime/map_concurrent.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <array>
#include <forward_list>
#include <functional>
#include <memory>
#include <numeric>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/build.hpp"
#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/sweep.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::errc;
using keel::map_concurrent;
using keel::result;
using keel::sleep_for;
using keel::task;
using keel::test::frame_balance;
using keel::test::now;
using keel::test::run_simulated;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

// How many run, and how many have run at once.
struct crowd {
  int alive = 0;
  int most = 0;
  int begun = 0;
};
struct member {
  explicit member(crowd& of) : all(of) {
    ++all.begun;
    all.most = std::max(all.most, ++all.alive);
  }
  member(const member&) = delete;
  member& operator=(const member&) = delete;
  ~member() { --all.alive; }
  crowd& all;
};

std::vector<int> numbers(int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

task<int> twice(int n) {
  // The later ones end first.
  static_cast<void>(co_await sleep_for(std::chrono::milliseconds(100 - n % 100)));
  co_return 2 * n;
}
task<result<std::string>> text_of(int n) {
  co_await keel::or_return(sleep_for(std::chrono::milliseconds(n)));
  co_return std::to_string(n);
}

template <class Fn>
using answer_of =
    keel::await_result<decltype(map_concurrent(std::declval<std::vector<int>&>(), std::declval<Fn>()))>;
static_assert(std::is_same_v<answer_of<task<int> (*)(int)>, std::vector<int>>);
static_assert(std::is_same_v<answer_of<task<> (*)(int)>, void>);
static_assert(std::is_same_v<answer_of<task<result<void>> (*)(int)>, result<void>>);
static_assert(std::is_same_v<answer_of<task<result<int>> (*)(int)>, result<std::vector<int>>>);

}  // namespace

TEST_CASE("map_concurrent: gives the results in the order of the elements, and keeps the limit") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    crowd all;
    auto counted = [&all](int n) -> task<int> {
      const member one(all);
      const int got = co_await twice(n);
      co_return got;
    };
    const std::vector<int> inputs = numbers(1000);
    for (const std::size_t limit : {1u, 7u, 32u, 5000u}) {
      CAPTURE(limit);
      all = {};
      const std::vector<int> got = co_await map_concurrent(inputs, counted, {.limit = limit});
      REQUIRE(got.size() == inputs.size());
      for (std::size_t i = 0; i < got.size(); ++i) REQUIRE(got[i] == 2 * inputs[i]);
      CHECK(all.most == static_cast<int>(std::min(limit, inputs.size())));
      CHECK(all.begun == 1000);
    }
  }());
}

TEST_CASE("map_concurrent: results of all kinds, and ranges of all kinds") {
  run_simulated([]() -> task<> {
    const std::vector<int> three = numbers(3);
    const auto texts = co_await map_concurrent(three, text_of);
    CHECK(*texts == std::vector<std::string>{"0", "1", "2"});

    int sum = 0;
    auto add = [&sum](int n) -> task<> {
      sum += n;
      co_return;
    };
    co_await map_concurrent(three, add);
    CHECK(sum == 3);
    auto checked = [&sum](int n) -> task<result<void>> {
      sum += n;
      co_return {};
    };
    const auto fine = co_await map_concurrent(three, checked);
    CHECK(fine);

    const std::array<int, 3> array{4, 5, 6};
    const auto from_array = co_await map_concurrent(array, twice);
    CHECK(from_array == std::vector<int>{8, 10, 12});
    const std::forward_list<int> list(array.begin(), array.end());
    const auto from_list = co_await map_concurrent(list, twice);
    CHECK(from_list == from_array);
    const auto from_temporary = co_await map_concurrent(numbers(2), twice);
    CHECK(from_temporary == std::vector<int>{0, 2});
    auto even = [](int n) -> task<bool> { co_return n % 2 == 0; };
    const auto flags = co_await map_concurrent(three, even);
    CHECK(flags == std::vector<bool>{true, false, true});
  }());
}

TEST_CASE("map_concurrent: elements are referred to, or given away") {
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    auto increase = [](int& n) -> task<> {
      ++n;
      co_return;
    };
    std::vector<int> inputs = numbers(3);
    co_await map_concurrent(inputs, increase);
    CHECK(inputs == std::vector<int>{1, 2, 3});

    std::vector<std::unique_ptr<int>> pointers;
    for (int i = 0; i < 5; ++i) pointers.push_back(std::make_unique<int>(i));
    auto take = [](std::unique_ptr<int> mine) -> task<std::unique_ptr<int>> {
      static_cast<void>(co_await sleep_for(1ms));
      *mine += 10;
      co_return mine;
    };
    const auto back = co_await map_concurrent(std::move(pointers), take, {.limit = 2});
    REQUIRE(back.size() == 5);
    CHECK(*back[4] == 14);
  }());
}

TEST_CASE("map_concurrent: an empty range gives nothing, at once") {
  run_simulated([]() -> task<> {
    const std::vector<int> none;
    const auto before = now();
    const auto nothing = co_await map_concurrent(none, twice);
    CHECK(nothing.empty());
    const auto no_texts = co_await map_concurrent(none, text_of);
    CHECK(no_texts->empty());
    CHECK(now() == before);
  }());
}

TEST_CASE("map_concurrent: the first error result stops the others, and is the result") {
  const frame_balance frames;
  const tracked_balance objects;
  run_simulated([]() -> task<> {
    crowd all;
    auto fetch = [&all](int n) -> task<result<int>> {
      const member one(all);
      const tracked local(n);
      if (n == 3) {
        static_cast<void>(co_await sleep_for(1s));
        co_return keel::failure(errc::closed, "fetch");
      }
      co_await keel::or_return(sleep_for(1h));
      co_return n;
    };
    const auto before = now();
    const auto got = co_await map_concurrent(numbers(1000), fetch, {.limit = 8});
    CHECK(got.error() == errc::closed);
    CHECK(got.why().doing == std::string("fetch"));
    CHECK(all.begun == 8);
    CHECK(all.alive == 0);
    CHECK(now() - before < 2s);
  }());
}

TEST_CASE("map_concurrent: the first exception stops the others, and is thrown after all have ended") {
  const frame_balance frames;
  run_simulated([]() -> task<> {
    crowd all;
    auto late = [&all](int n) -> task<int> {
      const member one(all);
      static_cast<void>(co_await sleep_for(n == 2 ? 1s : 3600s));
      if (n == 2) throw std::runtime_error("late");
      co_return n;
    };
    auto in_the_call = [&all](int n) -> task<int> {
      if (n == 5) throw std::runtime_error("no task at all");
      auto plain = [](crowd& of) -> task<int> {
        const member one(of);
        static_cast<void>(co_await sleep_for(1h));
        co_return 1;
      };
      return plain(all);
    };
    std::string said;
    try {
      static_cast<void>(co_await map_concurrent(numbers(100), late, {.limit = 10}));
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    CHECK(said == "late");
    CHECK(all.begun == 10);
    CHECK(all.alive == 0);
    all = {};
    try {
      static_cast<void>(co_await map_concurrent(numbers(100), in_the_call, {.limit = 10}));
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    CHECK(said == "no task at all");
    CHECK(all.begun == 5);
    CHECK(all.alive == 0);
  }());
}

TEST_CASE("map_concurrent: stopped, what gives results begins no more; what gives values has one for each") {
  run_simulated([]() -> task<> {
    crowd all;
    auto results = [&all](int n) -> task<result<int>> {
      const member one(all);
      co_await keel::or_return(sleep_for(1h));
      co_return n;
    };
    const auto stopped = co_await keel::with_timeout(1s, map_concurrent(numbers(100), results, {.limit = 4}));
    CHECK(stopped.error() == errc::timed_out);
    CHECK(all.begun == 4);
    all = {};
    auto values = [&all](int n) -> task<int> {
      const member one(all);
      const auto slept = co_await sleep_for(1h);
      co_return slept ? n : -n;
    };
    const auto before = now();
    const auto complete = co_await keel::with_timeout(1s, map_concurrent(numbers(100), values, {.limit = 4}));
    REQUIRE(complete);
    CHECK(complete->size() == 100);
    CHECK((*complete)[99] == -99);
    CHECK(all.most == 4);
    CHECK(now() - before < 2s);
  }());
}

TEST_CASE("map_concurrent: H1, a hundred thousand that need no wait keep nobody waiting, nor much memory") {
  run_simulated([]() -> task<> {
    auto at_once = [](int n) -> task<int> { co_return n; };
    int turns = 0;
    bool over = false;
    auto other = [](int& count, bool& end) -> task<> {
      while (!end) {
        static_cast<void>(co_await sleep_for(0ns));
        ++count;
      }
    };
    auto beside = keel::spawn(other, std::ref(turns), std::ref(over));
    const std::vector<int> inputs = numbers(keel::test::sanitized ? 10'000 : 100'000);
    static_cast<void>(co_await map_concurrent(numbers(100), at_once, {.limit = 8}));
    const auto before = keel::this_thread_frames();
    const auto got = co_await map_concurrent(inputs, at_once, {.limit = 8});
    CHECK(keel::this_thread_frames().fresh == before.fresh);
    over = true;
    co_await std::move(beside);
    CHECK(got == inputs);
    CHECK(turns > 10);
  }());
}

TEST_CASE("map_concurrent: C13, stopped at any point it has joined all of them") {
  keel::kevent_sys::sim_world world;
  keel::test::sweep_options options;
  options.runtime.factory = world.factory();
  const tracked_balance objects;
  auto job = []() -> task<> {
    auto one = [](int n) -> task<result<int>> {
      const tracked local(n);
      co_await keel::or_return(sleep_for(std::chrono::milliseconds(n)));
      co_return n;
    };
    static_cast<void>(co_await map_concurrent(numbers(10), one, {.limit = 3}));
  };
  CHECK(keel::test::sweep([&](keel::runtime& rt) { rt.spawn(job); }, options) > 5);
}

TEST_CASE("map_concurrent: it may be moved before it is awaited, is awaited once, and has a limit") {
  run_simulated([]() -> task<> {
    auto idle = map_concurrent(numbers(3), twice);
    auto moved = std::move(idle);
    const auto got = co_await std::move(moved);
    CHECK(got.size() == 3);
  }());
  auto again = []() -> task<> {
    auto once = map_concurrent(numbers(3), twice);
    static_cast<void>(co_await std::move(once));
    static_cast<void>(co_await std::move(once));
  };
  CHECK_DEATH(run_simulated(again()), "map_concurrent is awaited once");
  CHECK_DEATH(map_concurrent(numbers(3), twice, {.limit = 0}), "a limit of 0 would never begin");
}
