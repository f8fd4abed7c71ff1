// A program of its own: it counts what everybody asks of operator new.

#include <doctest/doctest.h>
#include <keel/runtime/channel.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/select.hpp>
#include <keel/runtime/sync_channel.hpp>
#include <keel/runtime/sync_event.hpp>
#include <keel/runtime/token_bucket.hpp>

#include <functional>
#include <memory>
#include <new>

#include "support/counting_new.hpp"
#include "support/in_runtime.hpp"

using namespace keel;
using keel::test::allocations;
using keel::test::in_runtime;
using keel::test::no_memory;

namespace {

constexpr int rounds = 1000;

template <class Channel>
task<> send_all(Channel& to) {
  for (int i = 0; i < rounds; ++i) {
    const auto sent = co_await to.send(i);
    REQUIRE(sent);
  }
}
template <class Channel>
task<> receive_all(Channel& from) {
  for (int i = 0; i < rounds; ++i) {
    const auto got = co_await from.receive();
    REQUIRE(got);
  }
}
// What a warm round of values costs.
template <class Channel>
task<> check_channel(std::size_t capacity) {
  Channel values(capacity);
  for (int i = 0; i < 4; ++i) {
    const std::uint64_t before = allocations;
    auto sender = spawn(send_all<Channel>, std::ref(values));
    auto receiver = spawn(receive_all<Channel>, std::ref(values));
    co_await std::move(sender);
    co_await std::move(receiver);
    if (i > 1) CHECK(allocations - before == 0);
  }
}

}  // namespace

TEST_CASE("channels: a warm one allocates nothing, whatever its capacity") {
  in_runtime([]() -> task<> {
    for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, std::size_t{100}, unbounded}) {
      CAPTURE(capacity);
      co_await check_channel<channel<int>>(capacity);
      co_await check_channel<sync_channel<int>>(capacity);
    }
  });
}

TEST_CASE("channels: a channel with a limit allocates when it is made, and never again") {
  in_runtime([]() -> task<> {
    for (std::size_t capacity = 0; capacity < 300; ++capacity) {
      channel<int> values(capacity);
      const std::uint64_t before = allocations;
      for (int lap = 0; lap < 1000; ++lap) {
        while (values.try_send(1)) {
        }
        for (int some = lap % 7; some >= 0; --some) static_cast<void>(values.try_receive());
      }
      REQUIRE(allocations == before);
    }
    co_return;
  });
}

TEST_CASE("channels: select, sync_event and token_bucket allocate nothing") {
  in_runtime([]() -> task<> {
    channel<int> a(0);
    channel<int> b(1);
    sync_event event;
    token_bucket bucket({.rate = 1'000'000'000, .burst = 1'000});
    event.set();
    std::uint64_t before = 0;
    for (int i = 0; i < rounds; ++i) {
      if (i == 10) before = allocations;
      static_cast<void>(b.try_send(int(i)));
      const auto got = co_await select(a.receive(), b.receive());
      REQUIRE(got);
      const auto set = co_await event.wait();
      REQUIRE(set);
      const auto paid = co_await bucket.take(700);
      REQUIRE(paid);
    }
    CHECK(allocations == before);
  });
}

TEST_CASE("channel: H10: without memory an unbounded channel throws, and the sender keeps the value") {
  in_runtime([]() -> task<> {
    channel<std::unique_ptr<int>> values(unbounded);
    auto value = std::make_unique<int>(7);
    bool thrown = false;
    no_memory = true;
    try {
      static_cast<void>(co_await values.send(std::move(value)));
    } catch (const std::bad_alloc&) {
      thrown = true;
    }
    no_memory = false;
    CHECK(thrown);
    REQUIRE(value != nullptr);
    const auto sent = co_await values.send(std::move(value));
    CHECK(sent);
    CHECK(values.size() == 1);
  });
}
