#include <keel/runtime/generator.hpp>

#include <doctest/doctest.h>

#include <memory>
#include <ostream>
#include <ranges>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/tracked.hpp"

using keel::elements_of;
using keel::generator;
using keel::test::frame_balance;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

static_assert(std::ranges::input_range<generator<int>>);
static_assert(std::is_same_v<std::ranges::range_reference_t<generator<int>>, int&>);
static_assert(std::is_same_v<std::ranges::range_reference_t<generator<const int&>>, const int&>);
static_assert(!std::is_copy_constructible_v<generator<int>>);

generator<int> up_to(int n) {
  const tracked local(n);
  for (int i = 0; i < n; ++i) co_yield i;
}

template <class T>
std::vector<int> all_of(generator<T> from) {
  std::vector<int> all;
  for (int i : from) all.push_back(i);
  return all;
}

struct tree {
  int value = 0;
  std::unique_ptr<tree> left;
  std::unique_ptr<tree> right;
};
generator<int> in_order(const tree* of) {
  if (of == nullptr) co_return;
  co_yield elements_of(in_order(of->left.get()));
  co_yield of->value;
  co_yield elements_of(in_order(of->right.get()));
}

// A chain `depth` deep, whose innermost generator throws after a value.
generator<int> chain(int depth) {
  if (depth == 0) {
    co_yield 42;
    throw std::runtime_error("deep");
  }
  co_yield elements_of(chain(depth - 1));
}

}  // namespace

TEST_CASE("generator: a lazy range") {
  const frame_balance frames;
  const tracked_balance objects;
  auto values = up_to(3);
  CHECK(tracked::alive() == 0);
  CHECK(all_of(std::move(values)) == std::vector<int>{0, 1, 2});
  CHECK(all_of(up_to(0)).empty());
  int steps = 0;
  auto endless = [](int& count) -> generator<int> {
    for (;;) co_yield ++count;
  };
  for (int i : endless(steps))
    if (i == 5) break;
  CHECK(steps == 5);
}

TEST_CASE("generator: dropped before, between and after its values, its locals go") {
  const frame_balance frames;
  for (int taken = 0; taken < 5; ++taken) {
    const tracked_balance objects;
    auto values = up_to(4);
    if (taken == 0) continue;
    auto at = values.begin();
    for (int i = 1; i < taken; ++i) ++at;
    CHECK(tracked::alive() == 1);
    values = up_to(1);
    CHECK(tracked::alive() == 0);
  }
}

TEST_CASE("generator: values are seen where they stand, and may be changed or moved from") {
  auto strings = []() -> generator<std::string> {
    std::string text = "one";
    co_yield text;
    CHECK(text == "one more");
    const std::string fixed = "fixed";
    co_yield fixed;
    CHECK(fixed == "fixed");
    co_yield std::string("temporary");
  };
  std::vector<std::string> got;
  for (std::string& s : strings()) {
    s += " more";
    got.push_back(s);
  }
  CHECK(got == std::vector<std::string>{"one more", "fixed more", "temporary more"});

  auto pointers = []() -> generator<std::unique_ptr<int>> {
    for (int i = 0; i < 3; ++i) co_yield std::make_unique<int>(i);
  };
  int sum = 0;
  for (auto& p : pointers()) sum += *std::unique_ptr<int>(std::move(p));
  CHECK(sum == 3);

  auto references = [](const std::vector<std::string>& from) -> generator<const std::string&> {
    for (const std::string& s : from) co_yield s;
  };
  std::size_t i = 0;
  for (const std::string& s : references(got)) CHECK(&s == &got[i++]);
  auto writable = [](std::vector<int>& of) -> generator<int&> {
    for (int& n : of) co_yield n;
  };
  std::vector<int> numbers{1, 2};
  for (int& n : writable(numbers)) n *= 10;
  CHECK(numbers == std::vector<int>{10, 20});
}

TEST_CASE("generator: an exception leaves begin() or ++, and the range is at its end") {
  const frame_balance frames;
  const tracked_balance objects;
  auto throwing = [](int after) -> generator<int> {
    const tracked local(1);
    for (int i = 0; i < after; ++i) co_yield i;
    throw std::runtime_error("thrown");
  };
  for (const int after : {0, 1, 3}) {
    int seen = 0;
    std::string said;
    auto values = throwing(after);
    try {
      for (int i : values) {
        CHECK(i == seen);
        ++seen;
      }
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    CHECK(said == "thrown");
    CHECK(seen == after);
    CHECK(tracked::alive() == 0);
  }
}

TEST_CASE("generator: elements_of another: recursion, a chain of a hundred thousand, and its exceptions") {
  const frame_balance frames;
  auto leaf = [](int n) { return std::make_unique<tree>(tree{n, nullptr, nullptr}); };
  tree root{4, std::make_unique<tree>(tree{2, leaf(1), leaf(3)}), leaf(5)};
  CHECK(all_of(in_order(&root)) == std::vector<int>{1, 2, 3, 4, 5});
  CHECK(all_of(in_order(nullptr)).empty());

  for (const int depth : {0, 1, 5, 1000}) {
    int seen = 0;
    std::string said;
    try {
      for (int i : chain(depth)) seen = i;
    } catch (const std::runtime_error& e) {
      said = e.what();
    }
    CHECK(seen == 42);
    CHECK(said == "deep");
  }
  // One that catches goes on.
  auto catches = []() -> generator<int> {
    bool caught = false;
    try {
      co_yield elements_of(chain(2));
    } catch (const std::runtime_error&) {
      caught = true;
    }
    if (caught) co_yield 43;
  };
  CHECK(all_of(catches()) == std::vector<int>{42, 43});
  // And a break in the middle of a chain leaves nothing.
  for (int i : chain(100)) {
    CHECK(i == 42);
    break;
  }
}

TEST_CASE("generator: works with ranges, and recycles its frames") {
  static_cast<void>(all_of(up_to(3)));
  const auto before = keel::this_thread_frames();
  int sum = 0;
  auto values = up_to(100);
  for (int i : values | std::views::filter([](int n) { return n % 2 == 0; }) | std::views::take(10)) sum += i;
  CHECK(sum == 90);
  CHECK(keel::this_thread_frames().fresh == before.fresh);
}

TEST_CASE("generator: it is read once") {
  CHECK_DEATH(
      [] {
        auto values = up_to(3);
        static_cast<void>(values.begin());
        static_cast<void>(values.begin());
      }(),
      "a generator is read once");
  CHECK_DEATH(
      [] {
        auto values = up_to(3);
        auto moved = std::move(values);
        static_cast<void>(values.begin());
      }(),
      "a generator is read once");
  CHECK_DEATH(
      [] {
        auto outer = []() -> generator<int> {
          auto inner = up_to(3);
          static_cast<void>(inner.begin());
          co_yield elements_of(std::move(inner));
        };
        static_cast<void>(all_of(outer()));
      }(),
      "elements_of takes a generator that has not begun");
}
