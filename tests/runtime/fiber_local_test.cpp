#include <keel/runtime/fiber_local.hpp>

#include <keel/runtime/fiber.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/in_runtime.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::await;
using keel::fiber_local;
using keel::spawn_fiber;
using keel::task;
using keel::test::run_simulated;

namespace {

fiber_local<int> number(7);
fiber_local<std::string> text;
fiber_local<std::unique_ptr<int>> pointer;

std::string* order = nullptr;

struct says_when_destroyed {
  explicit says_when_destroyed(char n) : name(n) {}
  says_when_destroyed(const says_when_destroyed&) = default;
  ~says_when_destroyed() {
    if (order != nullptr && keel::in_fiber()) *order += name;
  }
  char name;
};
fiber_local<says_when_destroyed> first(says_when_destroyed('a'));
fiber_local<says_when_destroyed> second(says_when_destroyed('b'));

struct waits_when_destroyed {
  ~waits_when_destroyed() {
    if (!keel::in_fiber()) return;
    *text += "again";
    static_cast<void>(await(keel::sleep_for(1ms)));
  }
};
fiber_local<waits_when_destroyed> last_wait;

}  // namespace

TEST_CASE("fiber_local: each fiber has its own, from the same beginning") {
  const keel::test::frame_balance frames;
  const keel::test::tracked_balance objects;
  run_simulated([]() -> task<> {
    const fiber_local<keel::test::tracked> object;
    auto counts = [&object](int times) {
      CHECK(*number == 7);
      CHECK(text->empty());
      object->value = times;
      CHECK(!*pointer);
      *pointer = std::make_unique<int>(times);
      for (int i = 0; i < times; ++i) {
        ++*number;
        *text += 'x';
        await(keel::sleep_for(1us)).value();
      }
      CHECK(object->value == times);
      CHECK(**pointer == times);
      return *number * 1'000 + static_cast<int>(text->size());
    };
    std::vector<keel::join_handle<int>> fibers;
    for (int i = 0; i < 10; ++i) fibers.push_back(spawn_fiber(counts, i));
    for (int i = 0; i < 10; ++i) {
      const int got = co_await std::move(fibers[static_cast<std::size_t>(i)]);
      CHECK(got == (7 + i) * 1'000 + i);
    }
  }());
}

TEST_CASE("fiber_local: values go at the end of the fiber, the newest first") {
  std::string seen;
  order = &seen;
  run_simulated([](std::string& said) -> task<> {
    auto uses = [&] {
      first.get();
      second.get();
      CHECK(said.empty());
    };
    co_await keel::fiber(uses);
    CHECK(said == "ba");
  }(seen));
  order = nullptr;
}

TEST_CASE("fiber_local: destructors may wait, and use what was never used before") {
  const keel::test::frame_balance frames;
  run_simulated([]() -> task<> {
    const auto before = keel::test::now();
    co_await keel::fiber([] { last_wait.get(); });
    CHECK(keel::test::now() - before >= 1ms);
  }());
}

TEST_CASE("fiber_local: one that has gone leaves its place to nobody") {
  run_simulated([]() -> task<> {
    auto uses = [] {
      auto one = std::make_unique<fiber_local<int>>(1);
      **one = 5;
      one.reset();
      one = std::make_unique<fiber_local<int>>(2);
      CHECK(**one == 2);
    };
    co_await keel::fiber(uses);
  }());
}

TEST_CASE("fiber_local: outside of a fiber there is none") {
  CHECK_DEATH(number.get(), "for code in a fiber");
}
