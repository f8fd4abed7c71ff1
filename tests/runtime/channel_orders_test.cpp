// The orders in which things can happen to a channel: all of them for a small one, random ones for a crowd.
#include <keel/runtime/channel.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <ostream>
#include <string>
#include <vector>

#include "support/in_runtime.hpp"
#include "support/seed.hpp"
#include "support/tracked.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::channel;
using keel::errc;
using keel::result;
using keel::spawn;
using keel::task;
using keel::unbounded;
using keel::test::run_simulated;
using keel::test::some_turns;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

constexpr std::size_t capacities[] = {0, 1, 2, 7, unbounded};

enum class step { send, receive, close, stop_sender, stop_receiver };

task<> send_tracked(channel<tracked>& to, tracked& value, result<void>& how) {
  how = co_await to.send(std::move(value));
}
task<> receive_tracked(channel<tracked>& from, int& value, bool& ended) {
  const auto got = co_await from.receive();
  ended = true;
  if (got) value = got->value;
}

// One sender and one receiver; a turn passes after step i where bit i of `turns` is set.
task<> play(const std::vector<step>& steps, unsigned turns, std::size_t capacity) {
  channel<tracked> values(capacity);
  tracked value(7);
  result<void> sent = errc::not_supported;
  int received = 0;
  bool receiver_ended = false;
  std::optional<keel::join_handle<void>> sender;
  std::optional<keel::join_handle<void>> receiver;
  for (std::size_t i = 0; i < steps.size(); ++i) {
    switch (steps[i]) {
      case step::send:
        sender.emplace(spawn(send_tracked, std::ref(values), std::ref(value), std::ref(sent)));
        break;
      case step::receive:
        receiver.emplace(
            spawn(receive_tracked, std::ref(values), std::ref(received), std::ref(receiver_ended)));
        break;
      case step::close: values.close(); break;
      case step::stop_sender:
        if (sender) sender->request_stop();
        break;
      case step::stop_receiver:
        if (receiver) receiver->request_stop();
        break;
    }
    if ((turns >> i & 1) != 0) co_await keel::test::pause(0ns);
  }
  co_await some_turns();
  // Both ended: somebody closed, or they met.
  co_await *std::move(sender);
  co_await *std::move(receiver);
  const bool in_channel = values.size() == 1;
  CHECK(receiver_ended);
  CHECK(sent.has_value() == (received == 7 || in_channel));
  CHECK((received == 7) + in_channel + (value.value == 7) == 1);
  if (in_channel) CHECK(values.try_receive()->value == 7);
}

}  // namespace

TEST_CASE("channel: in all orders of send, receive, close and stops the value is in one place") {
  const tracked_balance balance;
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{1}, unbounded}) {
    std::vector<step> steps = {step::send, step::receive, step::close, step::stop_sender,
                               step::stop_receiver};
    do {
      for (unsigned turns = 0; turns < 32; ++turns) {
        std::string order;
        for (const step s : steps) order += std::to_string(int(s));
        CAPTURE(capacity);
        CAPTURE(order);
        CAPTURE(turns);
        run_simulated(play(steps, turns, capacity));
      }
    } while (std::next_permutation(steps.begin(), steps.end()));
  }
}

namespace {

struct crowd {
  crowd(std::size_t capacity, std::uint64_t seed) : values(capacity), random(seed) {}

  channel<tracked> values;
  std::mt19937_64 random;
  std::vector<int> sent;
  std::vector<int> received;
  int next = 0;
};

task<> send_some(crowd& in) {
  for (int i = 0; i < 20; ++i) {
    tracked value(in.next++);
    const int number = value.value;
    if (in.random() % 4 == 0) {
      if (in.values.try_send(std::move(value))) in.sent.push_back(number);
    } else {
      const auto sent = co_await in.values.send(std::move(value));
      if (sent) in.sent.push_back(number);
      if (!sent) CHECK(value.value == number);
      if (!sent) co_return;
    }
    if (in.random() % 3 == 0) co_await keel::test::pause(std::chrono::microseconds(in.random() % 100));
  }
}
task<> receive_some(crowd& in) {
  for (;;) {
    if (in.random() % 4 == 0) {
      if (auto got = in.values.try_receive()) in.received.push_back(got->value);
    } else {
      const auto got = co_await in.values.receive();
      if (!got) co_return;
      in.received.push_back(got->value);
    }
    if (in.random() % 3 == 0) co_await keel::test::pause(std::chrono::microseconds(in.random() % 100));
  }
}
task<> live(crowd& in) {
  std::vector<keel::join_handle<void>> senders;
  std::vector<keel::join_handle<void>> receivers;
  for (int i = 0; i < 6; ++i) senders.push_back(spawn(send_some, std::ref(in)));
  for (int i = 0; i < 6; ++i) receivers.push_back(spawn(receive_some, std::ref(in)));
  for (int i = 0; i < 8; ++i) {
    co_await keel::test::pause(std::chrono::microseconds(in.random() % 200));
    auto& some = in.random() % 2 == 0 ? senders : receivers;
    some[in.random() % 5].request_stop();
    // One receiver is never stopped.
  }
  for (auto& s : senders) co_await std::move(s);
  in.values.close();
  for (auto& r : receivers) co_await std::move(r);
}

}  // namespace

TEST_CASE("channel: many senders and receivers, stopped at random, lose and duplicate nothing") {
  const tracked_balance balance;
  const std::uint64_t first = keel::test::chosen_seed();
  for (std::uint64_t seed = first; seed < first + 200; ++seed) {
    CAPTURE(seed);
    crowd all(capacities[seed % 5], seed);
    run_simulated(live(all));
    CHECK(all.values.size() == 0);
    std::sort(all.sent.begin(), all.sent.end());
    std::sort(all.received.begin(), all.received.end());
    REQUIRE(all.sent == all.received);
  }
}
