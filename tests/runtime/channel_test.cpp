#include <keel/runtime/channel.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <memory>
#include <ostream>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/in_runtime.hpp"
#include "support/sweep.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::channel;
using keel::errc;
using keel::result;
using keel::spawn;
using keel::task;
using keel::unbounded;
using keel::test::in_runtime;
using keel::test::run_simulated;
using keel::test::some_turns;

namespace {

constexpr std::size_t capacities[] = {0, 1, 2, 7, unbounded};

task<result<void>> send(channel<int>& to, int value) {
  co_return co_await to.send(value);
}
task<result<int>> receive(channel<int>& from) {
  co_return co_await from.receive();
}

task<> produce(channel<int>& to, int first, int end) {
  for (int i = first; i < end; ++i) {
    const auto sent = co_await to.send(i);
    REQUIRE(sent);
  }
}
task<std::vector<int>> collect(channel<int>& from) {
  std::vector<int> all;
  for (;;) {
    const auto got = co_await from.receive();
    if (!got) {
      CHECK(got.error() == errc::end_of_stream);
      co_return all;
    }
    all.push_back(*got);
  }
}

}  // namespace

TEST_CASE("channel: values arrive in order, on every engine and with any capacity") {
  for (const std::size_t capacity : capacities) {
    CAPTURE(capacity);
    in_runtime([capacity]() -> task<> {
      channel<int> values(capacity);
      CHECK(values.capacity() == capacity);
      auto received = spawn(collect, std::ref(values));
      co_await produce(values, 0, 1000);
      values.close();
      const auto all = co_await std::move(received);
      REQUIRE(all.size() == 1000);
      for (int i = 0; i < 1000; ++i) REQUIRE(all[std::size_t(i)] == i);
    });
  }
}

TEST_CASE("channel: those who wait are served in the order in which they came, senders and receivers") {
  run_simulated([]() -> task<> {
    channel<int> values(1);
    std::vector<keel::join_handle<result<int>>> receivers;
    for (int i = 0; i < 5; ++i) receivers.push_back(spawn(receive, std::ref(values)));
    co_await some_turns();
    for (int i = 0; i < 5; ++i) {
      auto sent = values.try_send(int(i));
      CHECK(sent);
    }
    // Handed over, not queued: nobody who comes now can take them.
    CHECK(values.size() == 0);
    CHECK(!values.try_receive());
    for (int i = 0; i < 5; ++i) {
      const auto got = co_await std::move(receivers[std::size_t(i)]);
      CHECK(got.value() == i);
    }
    std::vector<keel::join_handle<result<void>>> senders;
    for (int i = 0; i < 5; ++i) senders.push_back(spawn(send, std::ref(values), i));
    co_await some_turns();
    CHECK(values.size() == 1);
    for (int i = 0; i < 5; ++i) {
      CHECK(values.try_receive().value() == i);
      // Nobody overtakes the next one who waits.
      if (i < 4) CHECK(values.try_send(9).error() == errc::limit_reached);
    }
    for (auto& s : senders) {
      const auto sent = co_await std::move(s);
      CHECK(sent);
    }
  }());
}

TEST_CASE("channel: try_send and try_receive never wait, and lose nothing") {
  run_simulated([]() -> task<> {
    channel<std::unique_ptr<int>> values(1);
    CHECK(!values.try_receive());
    auto one = std::make_unique<int>(1);
    auto two = std::make_unique<int>(2);
    CHECK(values.try_send(std::move(one)));
    CHECK(one == nullptr);
    CHECK(values.try_send(std::move(two)).error() == errc::limit_reached);
    REQUIRE(two != nullptr);
    CHECK(values.size() == 1);
    values.close();
    CHECK(values.closed());
    CHECK(values.try_send(std::move(two)).error() == errc::closed);
    REQUIRE(two != nullptr);
    CHECK(**values.try_receive() == 1);
    CHECK(!values.try_receive());
    channel<int> rendezvous(0);
    CHECK(rendezvous.try_send(1).error() == errc::limit_reached);
    co_return;
  }());
}

TEST_CASE("channel: close ends those who wait; what is on its way arrives first; the senders keep theirs") {
  run_simulated([]() -> task<> {
    channel<std::unique_ptr<int>> values(1);
    auto send_moved = [](channel<std::unique_ptr<int>>& to,
                         std::unique_ptr<int>& value) -> task<result<void>> {
      co_return co_await to.send(std::move(value));
    };
    auto in_channel = std::make_unique<int>(1);
    auto waiting = std::make_unique<int>(2);
    auto first = spawn(send_moved, std::ref(values), std::ref(in_channel));
    auto second = spawn(send_moved, std::ref(values), std::ref(waiting));
    co_await some_turns();
    values.close();
    values.close();
    const auto sent = co_await std::move(first);
    CHECK(sent);
    const auto refused = co_await std::move(second);
    CHECK(refused.error() == errc::closed);
    CHECK(refused.why().doing == std::string("send"));
    REQUIRE(waiting != nullptr);
    CHECK(*waiting == 2);
    auto got = co_await values.receive();
    CHECK(**got == 1);
    auto end = co_await values.receive();
    CHECK(end.error() == errc::end_of_stream);
    auto again = co_await values.send(std::move(waiting));
    CHECK(again.error() == errc::closed);
    CHECK(waiting != nullptr);

    channel<int> empty(0);
    auto receiving = spawn(receive, std::ref(empty));
    co_await some_turns();
    empty.close();
    const auto nothing = co_await std::move(receiving);
    CHECK(nothing.error() == errc::end_of_stream);
  }());
}

TEST_CASE("channel: H12: a stop ends a wait at once; its turn goes to the next") {
  run_simulated([]() -> task<> {
    channel<int> values(0);
    auto first = spawn(receive, std::ref(values));
    auto second = spawn(receive, std::ref(values));
    co_await some_turns();
    first.request_stop();
    CHECK(values.try_send(7));
    const auto stopped = co_await std::move(first);
    CHECK(stopped.error() == errc::operation_canceled);
    const auto got = co_await std::move(second);
    CHECK(got.value() == 7);

    auto one = spawn(send, std::ref(values), 1);
    auto two = spawn(send, std::ref(values), 2);
    co_await some_turns();
    one.request_stop();
    CHECK(values.try_receive().value() == 2);
    const auto unsent = co_await std::move(one);
    CHECK(unsent.error() == errc::operation_canceled);
    const auto sent = co_await std::move(two);
    CHECK(sent);
  }());
}

TEST_CASE("channel: what is complete beats a stop in the same turn, for both sides") {
  run_simulated([]() -> task<> {
    channel<int> values(0);
    auto receiver = spawn(receive, std::ref(values));
    co_await some_turns();
    CHECK(values.try_send(7));
    receiver.request_stop();
    const auto got = co_await std::move(receiver);
    CHECK(got.value() == 7);
    auto sender = spawn(send, std::ref(values), 8);
    co_await some_turns();
    CHECK(values.try_receive().value() == 8);
    sender.request_stop();
    const auto sent = co_await std::move(sender);
    CHECK(sent);
  }());
}

TEST_CASE("channel: a task that was stopped begins nothing, though there is a value and room") {
  run_simulated([]() -> task<> {
    channel<int> values(2);
    CHECK(values.try_send(1));
    auto both = [](channel<int>& on) -> task<> {
      static_cast<void>(co_await keel::sleep_for(1h));
      const auto got = co_await on.receive();
      CHECK(got.error() == errc::operation_canceled);
      const auto sent = co_await on.send(2);
      CHECK(sent.error() == errc::operation_canceled);
    };
    auto stopped = spawn(both, std::ref(values));
    co_await some_turns();
    stopped.request_stop();
    co_await std::move(stopped);
    CHECK(values.size() == 1);
  }());
}

TEST_CASE("channel: with_timeout ends a wait and takes nothing") {
  run_simulated([]() -> task<> {
    channel<std::unique_ptr<int>> values(1);
    const auto got = co_await keel::with_timeout(1s, values.receive());
    CHECK(got.error() == errc::timed_out);
    CHECK(values.try_send(std::make_unique<int>(1)));
    auto kept = std::make_unique<int>(2);
    const auto sent = co_await keel::with_timeout(1s, values.send(std::move(kept)));
    CHECK(sent.error() == errc::timed_out);
    CHECK(kept != nullptr);
    CHECK(values.size() == 1);
  }());
}

namespace {

// Throws at a move once it is armed.
struct touchy {
  explicit touchy(int number) : value(number) {}
  touchy(touchy&& other) : value(other.value) {
    if (moves_left-- == 0) throw std::runtime_error("a move");
    other.value = -1;
  }
  int value;
  static inline int moves_left = -1;
};

}  // namespace

TEST_CASE("channel: H8: a move that throws is the failure of whoever made it; the others wait on") {
  run_simulated([]() -> task<> {
    channel<touchy> values(1);
    auto receive_touchy = [](channel<touchy>& from) -> task<int> {
      const auto got = co_await from.receive();
      co_return got.value().value;
    };
    auto send_touchy = [](channel<touchy>& to, touchy& what) -> task<> {
      const auto sent = co_await to.send(std::move(what));
      CHECK(sent);
    };
    // To a receiver that waits.
    auto receiver = spawn(receive_touchy, std::ref(values));
    co_await some_turns();
    touchy one(1);
    touchy::moves_left = 0;
    CHECK_THROWS_AS(static_cast<void>(values.try_send(std::move(one))), std::runtime_error);
    CHECK(one.value == 1);
    touchy::moves_left = -1;
    CHECK(values.try_send(std::move(one)));
    const int got = co_await std::move(receiver);
    CHECK(got == 1);
    // Out of the channel.
    touchy two(2);
    CHECK(values.try_send(std::move(two)));
    touchy::moves_left = 0;
    CHECK_THROWS_AS(static_cast<void>(values.try_receive()), std::runtime_error);
    CHECK(values.size() == 1);
    // Into the room that a receive has made: the sender's.
    touchy three(3);
    touchy four(4);
    auto third = spawn(send_touchy, std::ref(values), std::ref(three));
    auto fourth = spawn(send_touchy, std::ref(values), std::ref(four));
    co_await some_turns();
    touchy::moves_left = 1;
    auto taken = spawn(receive_touchy, std::ref(values));
    bool third_threw = false;
    try {
      co_await std::move(third);
    } catch (const std::runtime_error&) {
      third_threw = true;
    }
    touchy::moves_left = -1;
    co_await std::move(fourth);
    CHECK(third_threw);
    CHECK(three.value == 3);
    const int second = co_await std::move(taken);
    CHECK(second == 2);
    CHECK(values.try_receive()->value == 4);
  }());
}

TEST_CASE("channel: H1: a pair that never waits for each other does not keep the others from running") {
  in_runtime([]() -> task<> {
    channel<int> values(unbounded);
    bool done = false;
    int others = 0;
    auto flood = [](channel<int>& on, bool& flag) -> task<> {
      for (int i = 0; i < 500'000; ++i) {
        const auto sent = co_await on.send(i);
        const auto got = co_await on.receive();
        if (!sent || !got) co_return;
      }
      flag = true;
    };
    auto flooding = spawn(flood, std::ref(values), std::ref(done));
    while (!done) {
      co_await keel::test::pause(0ns);
      ++others;
    }
    CHECK(others >= 10);
    co_await std::move(flooding);
  });
}

TEST_CASE("channel: the text of a wait says for what it is") {
  run_simulated([]() -> task<> {
    channel<int> values(0);
    auto waits = [] {
      std::string all;
      for (auto* node = &keel::scheduler::current()->nodes().front(); node != nullptr;
           node = keel::scheduler::current()->nodes().next(*node))
        all += node->waits_for == nullptr ? "" : std::string(node->waits_for) + ';';
      return all;
    };
    auto receiver = spawn(receive, std::ref(values));
    co_await some_turns();
    CHECK(waits().find("a channel's value;") != std::string::npos);
    values.close();
    static_cast<void>(co_await std::move(receiver));
    channel<int> full(0);
    auto sender = spawn(send, std::ref(full), 1);
    co_await some_turns();
    CHECK(waits().find("a channel's room;") != std::string::npos);
    full.close();
    static_cast<void>(co_await std::move(sender));
  }());
}

TEST_CASE("channel: a runtime that ends stops those who wait") {
  const auto runs = keel::test::sweep([](keel::runtime& rt) {
    auto values = std::make_unique<channel<int>>(1);
    rt.spawn(produce, std::ref(*values), 0, 0);
    auto few = [](channel<int>& on) -> task<> {
      for (int i = 0; i < 5; ++i) {
        const auto sent = co_await on.send(i);
        if (!sent) co_return;
        co_await keel::test::pause(0ns);
      }
      on.close();
    };
    auto all = [](channel<int>& on) -> task<> {
      for (;;) {
        const auto got = co_await on.receive();
        if (!got) co_return;
      }
    };
    rt.spawn(few, std::ref(*values));
    rt.spawn(all, std::ref(*values));
    return values;
  });
  CHECK(runs > 3);
}

TEST_CASE("channel: destroyed while somebody waits, and used on two schedulers: bugs of the caller") {
  auto destroyed = []() -> task<> {
    auto values = std::make_unique<channel<int>>(0);
    auto waiting = spawn(receive, std::ref(*values));
    co_await some_turns();
    values.reset();
  };
  CHECK_DEATH(run_simulated(destroyed()), "a channel was destroyed while somebody waits at it");
  auto elsewhere = []() -> task<> {
    channel<int> values(1);
    const auto sent = co_await values.send(1);
    CHECK(sent);
    static_cast<void>(keel::run(receive(values)));
  };
  CHECK_DEATH(run_simulated(elsewhere()), "use sync_channel between several");
}
