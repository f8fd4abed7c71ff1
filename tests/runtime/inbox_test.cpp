#include <keel/runtime/inbox.hpp>

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <thread>
#include <vector>

// Its protocol is explored by tests/models/inbox_model_test.cpp.

namespace {

struct numbered {
  unsigned sender = 0;
  unsigned number = 0;
  numbered* next = nullptr;
};

using box = keel::inbox<numbered>;

}  // namespace

TEST_CASE("inbox: it gives everything at once, oldest first") {
  box b;
  std::array<numbered, 4> all;
  CHECK(b.take_all() == nullptr);
  for (numbered& n : all) CHECK_FALSE(b.push(n));
  const numbered* each = b.take_all();
  for (const numbered& n : all) {
    REQUIRE(each == &n);
    each = each->next;
  }
  CHECK(each == nullptr);
  CHECK(b.take_all() == nullptr);
}

TEST_CASE("inbox: the first push into a sleeping one wakes it, and no other") {
  box b;
  std::array<numbered, 3> all;
  REQUIRE(b.announce_sleep());
  CHECK(b.push(all[0]));
  CHECK_FALSE(b.push(all[1]));
  b.awake();
  CHECK_FALSE(b.push(all[2]));
}

TEST_CASE("inbox: with something in it the owner does not sleep") {
  box b;
  numbered one;
  CHECK_FALSE(b.push(one));
  CHECK_FALSE(b.announce_sleep());
}

TEST_CASE("inbox: nothing is lost between threads, nor does a sender overtake itself") {
  constexpr unsigned senders = 3;
  constexpr unsigned each = 20'000;
  box b;
  std::atomic<std::uint32_t> bell{0};
  std::vector<numbered> all(senders * each);
  std::vector<std::thread> threads;
  for (unsigned s = 0; s < senders; ++s) {
    threads.emplace_back([&, s] {
      for (unsigned i = 0; i < each; ++i) {
        numbered& n = all[s * each + i];
        n.sender = s;
        n.number = i;
        if (!b.push(n)) continue;
        bell.store(1);
        bell.notify_one();
      }
    });
  }
  std::array<unsigned, senders> expected{};
  bool in_order = true;
  for (unsigned left = senders * each; left > 0;) {
    for (const numbered* n = b.take_all(); n != nullptr; n = n->next, --left)
      in_order = in_order && n->number == expected[n->sender]++;
    if (left > 0 && b.announce_sleep()) {
      bell.wait(0);
      bell.store(0);
    }
    b.awake();
  }
  for (std::thread& t : threads) t.join();
  CHECK(in_order);
}
