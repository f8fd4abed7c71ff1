#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>
#include <keel/kevent_sys/sim_engine.hpp>

#include <array>
#include <cerrno>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/recorded_operation.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::buffer_lease;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::sim_cancel;
using keel::kevent_sys::sim_engine;
using keel::kevent_sys::sim_everything;
using keel::kevent_sys::sim_options;
using keel::kevent_sys::sim_world;
using keel::test::answer_of;
using keel::test::recorded;

namespace {

constexpr std::uint64_t ms = 1'000'000;

struct simulated {
  explicit simulated(const sim_options& options = {}) : world(options), q({.factory = world.factory()}) {}

  sim_engine& sim() { return world.engine(); }
  // One turn that does not wait.
  void turn() {
    q.wait(0);
    q.consume();
  }

  sim_world world;
  queue q;
};

template <std::size_t N>
std::string_view text(const std::array<char, N>& buffer, int n) {
  return {buffer.data(), std::size_t(n)};
}

// The bytes of a receive's answer; gives the buffer back.
std::string leased(queue& q, answer a) {
  REQUIRE(a.has_buffer());
  const buffer_lease lease(q.buffers(), a.buffer(), std::uint32_t(a.value));
  return std::string(lease.text());
}

}  // namespace

TEST_CASE("sim: an outcome that was written down is the answer, and never comes inside submit") {
  simulated s;
  s.sim().expect(opcode::connect, 5, {.value = -ECONNREFUSED});
  recorded op({.code = opcode::connect, .fd = 5});

  s.q.submit(op);
  CHECK(s.q.ring().ring_kidx == 0);
  s.q.wait(0);
  CHECK(s.q.ring().ring_kidx == 1);
  CHECK(op.answers.empty());
  s.q.consume();

  CHECK(op.value() == -ECONNREFUSED);
  CHECK(s.sim().unused() == 0);
}

TEST_CASE("sim: outcomes of an opcode and a descriptor are taken in order, those of others are not") {
  simulated s;
  s.sim().expect(opcode::send, 5, {.value = 1});
  s.sim().expect(opcode::send, 5, {.value = 2});
  s.sim().expect(opcode::send, 6, {.value = 3});
  s.sim().expect(opcode::send, sim_engine::any_fd, {.value = 4});

  CHECK(answer_of(s.q, {.code = opcode::send, .fd = 6, .size_bytes = 9, .data = "abcdefghi"}) == 3);
  CHECK(answer_of(s.q, {.code = opcode::send, .fd = 6, .size_bytes = 9, .data = "ABCDEFGHI"}) == 4);
  CHECK(answer_of(s.q, {.code = opcode::send, .fd = 5, .size_bytes = 9, .data = "abcdefghi"}) == 1);
  CHECK(answer_of(s.q, {.code = opcode::send, .fd = 5, .size_bytes = 9, .data = "bcdefghi"}) == 2);

  CHECK(s.sim().sent(6) == "abcABCD");
  CHECK(s.sim().sent(5) == "abc");
  CHECK(s.sim().submitted(opcode::send, 5) == 2);
  CHECK(s.sim().submitted(opcode::send, sim_engine::any_fd) == 4);
  CHECK(s.sim().last(opcode::send, 5)->size_bytes == 9);
  CHECK(s.sim().last(opcode::recv, 5) == nullptr);
}

TEST_CASE("sim: time passes only while the queue waits, and exactly as far as needed") {
  simulated s;
  const std::uint64_t start = s.q.fresh_now_ns();
  s.sim().expect(opcode::recv, 5, {.delay_ns = 30 * ms, .data = "late"});
  s.sim().expect(opcode::recv, 6, {.delay_ns = 10 * ms, .data = "early"});
  std::array<char, 16> a{};
  std::array<char, 16> b{};
  recorded late({.code = opcode::recv, .fd = 5, .size_bytes = 16, .data = a.data()});
  recorded early({.code = opcode::recv, .fd = 6, .size_bytes = 16, .data = b.data()});
  s.q.submit(late);
  s.q.submit(early);
  s.turn();
  CHECK(s.q.now_ns() == start);

  s.q.wait(start + 5 * ms);
  CHECK(s.q.now_ns() == start + 5 * ms);
  s.q.wait(never);
  s.q.consume();
  CHECK(s.q.now_ns() == start + 10 * ms);
  CHECK(text(b, early.value()) == "early");
  CHECK(late.in_flight());

  s.sim().pass(50 * ms);
  s.turn();
  CHECK(s.q.now_ns() == start + 60 * ms);
  CHECK(text(a, late.value()) == "late");
}

TEST_CASE("sim: an operation without an outcome waits until one is written down or it is completed") {
  simulated s;
  recorded op({.code = opcode::accept, .fd = 5});
  s.q.submit(op);
  s.turn();
  CHECK(op.in_flight());
  CHECK(s.sim().waiting(opcode::accept, 5) == 1);
  CHECK_FALSE(s.sim().complete(opcode::accept, 6, {.value = 9}));

  SUBCASE("completed") {
    CHECK(s.sim().complete(opcode::accept, 5, {.value = 9}));
    s.turn();
    CHECK(op.value() == 9);
  }
  SUBCASE("expected") {
    s.sim().expect(opcode::accept, 5, {.value = 8});
    s.turn();
    CHECK(op.value() == 8);
  }
  SUBCASE("completed, although it waits for something else") {
    s.sim().expect(opcode::accept, 5, {.value = 8, .delay_ns = never});
    s.turn();
    CHECK(op.in_flight());
    CHECK(s.sim().complete(opcode::accept, 5, {.value = -EMFILE}));
    s.turn();
    CHECK(op.value() == -EMFILE);
  }
  CHECK(s.sim().waiting(opcode::accept, 5) == 0);
}

TEST_CASE("sim: a default answers what has no outcome of its own; at first only nop has one") {
  simulated s;
  CHECK(answer_of(s.q, {.code = opcode::nop}) == 0);

  s.sim().set_default(opcode::send, {.value = sim_everything});
  s.sim().expect(opcode::send, 5, {.value = 2});
  CHECK(answer_of(s.q, {.code = opcode::send, .fd = 5, .size_bytes = 5, .data = "hello"}) == 2);
  CHECK(answer_of(s.q, {.code = opcode::send, .fd = 5, .size_bytes = 3, .data = "llo"}) == 3);
  CHECK(s.sim().sent(5) == "hello");
}

TEST_CASE("sim: bytes for recv are a stream: what did not fit comes with the next one") {
  simulated s;
  s.sim().expect(opcode::recv, 5, {.data = "hello world"});
  s.sim().expect(opcode::recv, 5, {.value = 0});
  std::array<char, 6> buffer{};

  CHECK(answer_of(s.q, {.code = opcode::recv, .fd = 5, .size_bytes = 6, .data = buffer.data()}) == 6);
  CHECK(text(buffer, 6) == "hello ");
  CHECK(answer_of(s.q, {.code = opcode::recv, .fd = 5, .size_bytes = 6, .data = buffer.data()}) == 5);
  CHECK(text(buffer, 5) == "world");
  CHECK(answer_of(s.q, {.code = opcode::recv, .fd = 5, .size_bytes = 6, .data = buffer.data()}) == 0);
}

TEST_CASE("sim: a multishot receive fills pool buffers until an outcome without more") {
  simulated s({.buffer_bytes = 4});
  s.sim().expect(opcode::receive, 5, {.more = true, .data = "abcdefg"});
  s.sim().expect(opcode::receive, 5, {.value = 0});
  recorded op({.code = opcode::receive, .multishot = true, .fd = 5});
  s.q.submit(op);
  s.turn();

  REQUIRE(op.answers.size() == 3);
  CHECK(leased(s.q, op.answers[0]) == "abcd");
  CHECK(leased(s.q, op.answers[1]) == "efg");
  CHECK(op.answers[0].more());
  CHECK(op.answers[1].more());
  CHECK_FALSE(op.answers[2].more());
  CHECK_FALSE(op.answers[2].has_buffer());
  CHECK(op.value() == 0);
  CHECK(s.q.buffers().away() == 0);
}

TEST_CASE("sim: a receive for which all buffers are away waits for one; others go on") {
  simulated s({.buffers = 1, .buffers_limit = 2});
  for (const char* data : {"one", "two", "three"}) s.sim().expect(opcode::receive, 5, {.data = data});
  std::array<recorded, 3> ops{recorded({.code = opcode::receive, .fd = 5}),
                              recorded({.code = opcode::receive, .fd = 5}),
                              recorded({.code = opcode::receive, .fd = 5})};
  for (recorded& op : ops) s.q.submit(op);
  recorded other({.code = opcode::nop});
  s.q.submit(other);
  s.turn();

  CHECK(other.ended());
  CHECK(ops[0].ended());
  CHECK(ops[1].ended());
  CHECK(s.q.buffers().size() == 2);
  CHECK(ops[2].in_flight());
  CHECK(s.q.counters().starved > 0);

  CHECK(leased(s.q, ops[0].answers[0]) == "one");
  s.q.wait(never);
  s.q.consume();
  CHECK(leased(s.q, ops[2].answers[0]) == "three");
  CHECK(leased(s.q, ops[1].answers[0]) == "two");
}

TEST_CASE("C4: sim: a cancelled receive answers ECANCELED, and its bytes stay for the next one") {
  simulated s;
  s.sim().expect(opcode::recv, 5, {.delay_ns = 10 * ms, .data = "kept"});
  std::array<char, 16> buffer{};
  recorded op({.code = opcode::recv, .fd = 5, .size_bytes = 16, .data = buffer.data()});
  s.q.submit(op);
  s.turn();

  s.q.cancel(op);
  s.q.cancel(op);
  CHECK(op.in_flight());
  s.turn();
  CHECK(op.answers.size() == 1);
  CHECK(op.value() == -ECANCELED);

  CHECK(answer_of(s.q, op) == 4);
  CHECK(text(buffer, 4) == "kept");
}

TEST_CASE("C2: sim: a cancel can lose the race, and can be ignored") {
  simulated s;
  recorded op({.code = opcode::accept, .fd = 5});
  const std::uint64_t start = s.q.fresh_now_ns();

  SUBCASE("loses: the outcome comes at once") {
    s.sim().expect(opcode::accept, 5, {.value = 7, .delay_ns = never, .on_cancel = sim_cancel::loses});
    s.q.submit(op);
    s.turn();
    s.q.cancel(op);
    s.turn();
    CHECK(op.value() == 7);
    CHECK(s.q.now_ns() == start);
  }
  SUBCASE("ignored: the outcome comes when it would have come") {
    s.sim().expect(opcode::accept, 5, {.value = 7, .delay_ns = 3 * ms, .on_cancel = sim_cancel::ignored});
    s.q.submit(op);
    s.turn();
    s.q.cancel(op);
    s.turn();
    CHECK(op.in_flight());
    s.q.wait(never);
    s.q.consume();
    CHECK(op.value() == 7);
    CHECK(s.q.now_ns() == start + 3 * ms);
  }
}

TEST_CASE("C2: sim: a multishot that answers once more while it is cancelled still ends") {
  simulated s;
  s.sim().expect(opcode::accept, 5,
                 {.value = 7, .delay_ns = ms, .more = true, .on_cancel = sim_cancel::loses});
  s.sim().expect(opcode::accept, 5, {.value = 8, .more = true});
  recorded op({.code = opcode::accept, .multishot = true, .fd = 5});
  s.q.submit(op);
  s.q.cancel(op);
  s.turn();

  REQUIRE(op.answers.size() == 2);
  CHECK(op.answers[0].value == 7);
  CHECK(op.value() == -ECANCELED);
  CHECK(s.sim().unused() == 1);
}

TEST_CASE("sim: answers that find the ring full come later, all of them, in order") {
  sim_world world;
  queue q({.ring_events = 4, .factory = world.factory()});
  std::vector<recorded> ops;
  for (int i = 0; i < 10; ++i) ops.emplace_back(keel::kevent_sys::request{.code = opcode::open, .fd = i});
  for (int i = 0; i < 10; ++i) {
    world.engine().expect(opcode::open, i, {.value = i});
    q.submit(ops[std::size_t(i)]);
  }
  CHECK(q.wait(0) == 4);
  CHECK(q.consume(3) == 3);
  CHECK(q.wait(0) == 4);
  CHECK(ops[2].ended());
  CHECK_FALSE(ops[3].ended());
  while (!q.idle()) {
    q.wait(0);
    q.consume();
  }
  for (int i = 0; i < 10; ++i) CHECK(ops[std::size_t(i)].value() == i);
}

TEST_CASE("sim: wake() gives the wake operation an event; wakes before it are one") {
  simulated s;
  recorded wake({.code = opcode::wake, .multishot = true});
  s.q.wake();
  s.q.wake();
  s.q.submit(wake);
  s.q.wait(never);
  s.q.consume();
  CHECK(wake.answers.size() == 1);
  CHECK(wake.in_flight());
  s.turn();
  CHECK(wake.answers.size() == 1);

  s.q.cancel(wake);
  s.turn();
  CHECK(wake.value() == -ECANCELED);
}

TEST_CASE("B11: sim: with outside_threads a wake from another thread is never lost") {
  simulated s({.outside_threads = true});
  recorded wake({.code = opcode::wake, .multishot = true});
  s.q.submit(wake);
  constexpr std::size_t rounds = 2'000;
  std::atomic<std::size_t> answered{0};
  std::thread other([&] {
    for (std::size_t i = 0; i < rounds; ++i) {
      s.q.wake();
      while (answered.load() <= i) std::this_thread::yield();
    }
  });
  while (answered.load() < rounds) {
    s.q.wait(never);
    s.q.consume();
    answered.store(wake.answers.size());
  }
  other.join();
  CHECK(wake.answers.size() == rounds);
  s.q.cancel(wake);
  s.turn();
}

TEST_CASE("sim: a wait for which nothing can happen aborts and says what is in flight") {
  const auto hang = [](bool with_delay) {
    simulated s({.buffers = 1, .buffers_limit = 1});
    recorded wake({.code = opcode::wake, .multishot = true});
    recorded recv({.code = opcode::recv, .fd = 12});
    recorded stuck({.code = opcode::open, .fd = -1});
    recorded receive({.code = opcode::receive, .fd = 13});
    for (recorded* op : {&wake, &recv, &stuck, &receive}) s.q.submit(*op);
    s.sim().expect(opcode::open, -1, {.delay_ns = never, .on_cancel = sim_cancel::ignored});
    s.sim().expect(opcode::receive, 14, {.data = "takes the only buffer"});
    s.sim().expect(opcode::receive, 13, {.delay_ns = with_delay ? ms : 0, .data = "finds none"});
    recorded hoarder({.code = opcode::receive, .fd = 14});
    s.q.submit(hoarder);
    s.q.cancel(stuck);
    for (int i = 0; i < 3; ++i) {
      s.q.wait(never);
      s.q.consume();
    }
  };
  CHECK_DEATH(hang(true), "nothing will ever happen");
  CHECK_DEATH(hang(true), "wake fd -1: nobody called wake()");
  CHECK_DEATH(hang(true), "recv fd 12: nothing is written down for it");
  CHECK_DEATH(hang(true), "open fd -1, cancelled: its outcome comes when it is completed");
  CHECK_DEATH(hang(true), "receive fd 13: all buffers are away");
}

TEST_CASE("sim: misuse is told at once") {
  CHECK_DEATH(simulated().sim().expect(opcode::send, 5, {.data = "x"}), "only these take data");
  CHECK_DEATH(sim_world().engine(), "no queue has made its engine yet");
  const auto world_goes_first = [] {
    std::optional<sim_world> world(std::in_place);
    const queue q({.factory = world->factory()});
    world.reset();
  };
  CHECK_DEATH(world_goes_first(), "a list was destroyed with elements in it");
  const auto one_shot_with_more = [] {
    simulated s;
    recorded op({.code = opcode::recv, .fd = 5});
    s.q.submit(op);
    s.sim().complete(opcode::recv, 5, {.more = true});
    s.turn();
  };
  CHECK_DEATH(one_shot_with_more(), "only a multishot operation has more than one answer");
}

TEST_CASE("sim: a world makes the engine of each queue, in order") {
  sim_world world({.now_ns = 5 * ms});
  const queue first({.factory = world.factory()});
  const queue second({.factory = world.factory()});
  CHECK(&world.engine(0) != &world.engine(1));
  CHECK(world.engine(1).now_ns() == 5 * ms);
  CHECK(std::string_view(first.info().name) == "sim");
}
