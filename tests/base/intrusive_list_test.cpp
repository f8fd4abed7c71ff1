#include <doctest/doctest.h>
#include <keel/base/intrusive_list.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <vector>

#include "support/death_test.hpp"

namespace {

struct other_base {
  int padding = 0;
};

// The hook is not the first base: the list has to find its way from one to the other.
struct element : other_base, keel::list_hook {
  explicit element(int given) : value(given) {}
  int value;
};

using list = keel::intrusive_list<element>;

std::vector<int> values(list& elements) {
  std::vector<int> seen;
  if (elements.empty()) return seen;
  for (element* each = &elements.front(); each != nullptr; each = elements.next(*each)) {
    seen.push_back(each->value);
  }
  return seen;
}

void clear(list& elements) {
  while (!elements.empty()) elements.pop_front();
}

}  // namespace

static_assert(!std::is_copy_constructible_v<list> && !std::is_move_constructible_v<list>);

TEST_CASE("intrusive_list: first in, first out") {
  std::array<element, 3> elements = {element(1), element(2), element(3)};
  list fifo;
  CHECK(fifo.empty());
  for (element& each : elements) fifo.push_back(each);

  CHECK_FALSE(fifo.empty());
  CHECK(&fifo.front() == &elements[0]);
  CHECK(values(fifo) == std::vector{1, 2, 3});
  for (element& each : elements) {
    CHECK(each.linked());
    CHECK(&fifo.pop_front() == &each);
    CHECK_FALSE(each.linked());
  }
  CHECK(fifo.empty());
}

TEST_CASE("intrusive_list: any element can leave, whoever its neighbours are") {
  for (int leaver = 0; leaver < 3; ++leaver) {
    std::array<element, 3> elements = {element(0), element(1), element(2)};
    list fifo;
    for (element& each : elements) fifo.push_back(each);

    elements[std::size_t(leaver)].unlink();

    std::vector<int> expected = {0, 1, 2};
    expected.erase(expected.begin() + leaver);
    CHECK(values(fifo) == expected);
    CHECK_FALSE(elements[std::size_t(leaver)].linked());
    fifo.push_back(elements[std::size_t(leaver)]);
    expected.push_back(leaver);
    CHECK(values(fifo) == expected);
    clear(fifo);
  }
}

TEST_CASE("intrusive_list: unlinking what is in no list does nothing") {
  element alone(1);
  alone.unlink();
  CHECK_FALSE(alone.linked());
}

TEST_CASE("intrusive_list: splice_back moves all elements behind those that are there") {
  std::array<element, 4> elements = {element(1), element(2), element(3), element(4)};
  list target;
  list source;
  target.splice_back(source);
  CHECK(target.empty());

  source.push_back(elements[0]);
  source.push_back(elements[1]);
  target.splice_back(source);
  CHECK(source.empty());
  CHECK(values(target) == std::vector{1, 2});

  source.push_back(elements[2]);
  source.push_back(elements[3]);
  target.splice_back(source);
  target.splice_back(source);
  CHECK(source.empty());
  CHECK(values(target) == std::vector{1, 2, 3, 4});

  elements[1].unlink();
  elements[3].unlink();
  CHECK(values(target) == std::vector{1, 3});
  clear(target);
}

TEST_CASE("intrusive_list: a copy of an element starts outside any list, the original stays in its own") {
  list fifo;
  element original(1);
  fifo.push_back(original);

  element copy = original;
  CHECK_FALSE(copy.linked());
  CHECK(copy.value == 1);
  fifo.push_back(copy);
  original = element(5);

  CHECK(values(fifo) == std::vector{5, 1});
  clear(fifo);
}

TEST_CASE("intrusive_list: a list that may only be read can be walked") {
  list fifo;
  element first(1);
  element second(2);
  fifo.push_back(first);
  fifo.push_back(second);

  const list& read_only = fifo;
  CHECK(read_only.front().value == 1);
  CHECK(read_only.next(read_only.front()) == &second);
  CHECK(read_only.next(second) == nullptr);
  clear(fifo);
}

TEST_CASE("intrusive_list: what would break the links is noticed") {
  list fifo;
  element first(1);
  CHECK_DEATH(fifo.front(), "assertion failed: !empty()");
  CHECK_DEATH(fifo.pop_front(), "assertion failed: !empty()");
  const auto push_twice = [&] {
    fifo.push_back(first);
    fifo.push_back(first);
  };
  CHECK_DEATH(push_twice(), "assertion failed: !hook.linked()");

  const auto element_ends_first = [] {
    list elements;
    element short_lived(1);
    elements.push_back(short_lived);
  };
  CHECK_DEATH(element_ends_first(), "an element was destroyed while it is in a list");

  const auto list_ends_first = [&] {
    std::optional<list> elements;
    elements.emplace().push_back(first);
    elements.reset();
  };
  CHECK_DEATH(list_ends_first(), "a list was destroyed with elements in it");
}
