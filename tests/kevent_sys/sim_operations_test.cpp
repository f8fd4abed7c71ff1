// What a simulated kernel does to the operations on its objects, and the faults that it makes.
#include <doctest/doctest.h>

#include <poll.h>
#include <algorithm>
#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/seed.hpp"
#include "support/sim_queue.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::blocking_call;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::poll_exclusive;
using keel::kevent_sys::request;
using keel::kevent_sys::sim_faults;
using keel::test::answer_of;
using keel::test::recorded;
using keel::test::sim_ms;
using keel::test::sim_queue;

TEST_CASE("sim: a script wins over the object, and the object goes on after it") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  s.world.engine().expect(opcode::send, a, {.value = -ENOMEM});
  CHECK(s.send(a, "x") == -ENOMEM);
  CHECK(s.send(a, "y") == 1);
  std::string room(4, '\0');
  recorded op({.code = opcode::recv, .fd = a, .size_bytes = 4, .data = room.data()});
  s.q.submit(op);
  s.turn();
  CHECK(s.world.engine().complete(opcode::recv, a, {.value = -ETIMEDOUT}));
  s.turn();
  CHECK(op.value() == -ETIMEDOUT);
  CHECK(s.recv(b) == "y");
}

TEST_CASE("sim: a multishot receive fills buffers as bytes come, and ends with the stream") {
  sim_queue s({.buffer_bytes = 4});
  const auto [a, b] = s.world.stream_pair();
  recorded op({.code = opcode::receive, .multishot = true, .fd = b});
  s.q.submit(op);
  s.send(a, "abcdef");
  s.turn();
  s.send(a, "g");
  CHECK(s.close(a) == 0);
  s.turn();
  REQUIRE(op.answers.size() == 4);
  CHECK(s.leased(op.answers[0]) == "abcd");
  CHECK(s.leased(op.answers[1]) == "ef");
  CHECK(s.leased(op.answers[2]) == "g");
  CHECK(op.answers[2].more());
  CHECK(op.value() == 0);
  s.world.expect_end();
  CHECK(s.world.report() == "");
}

TEST_CASE("E1: sim: a receive without a buffer waits for one") {
  sim_queue s({.buffers = 1, .buffers_limit = 1, .buffer_bytes = 4});
  const auto [a, b] = s.world.stream_pair();
  recorded op({.code = opcode::receive, .multishot = true, .fd = b});
  s.q.submit(op);
  s.send(a, "abcdef");
  s.turn();
  REQUIRE(op.answers.size() == 1);
  CHECK(s.q.counters().starved > 0);
  CHECK(s.leased(op.answers[0]) == "abcd");
  s.q.wait(never);
  s.q.consume();
  REQUIRE(op.answers.size() == 2);
  CHECK(s.leased(op.answers[1]) == "ef");
  s.end(op);
  CHECK(op.value() == -ECANCELED);
}

TEST_CASE("C4: sim: a cancelled receive leaves the bytes, and does not see those that come after") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  recorded op({.code = opcode::receive, .multishot = true, .fd = b});
  s.q.submit(op);
  s.turn();
  s.q.cancel(op);
  CHECK(s.send(a, "kept") == 4);
  CHECK(op.value() == -ECANCELED);
  CHECK(s.recv(b) == "kept");
}

TEST_CASE("sim: a one-shot poll answers the level, a multishot one each edge") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  CHECK(s.ready(b, POLLIN) == 0);
  recorded edges({.code = opcode::poll, .multishot = true, .fd = b, .flags = POLLIN});
  s.q.submit(edges);
  s.send(a, "1");
  s.turn();
  REQUIRE(edges.answers.size() == 1);
  CHECK(edges.answers[0].value == POLLIN);
  CHECK(edges.answers[0].more());
  s.turn();
  CHECK(edges.answers.size() == 1);
  s.send(a, "2");
  s.turn();
  CHECK(edges.answers.size() == 2);
  CHECK(s.ready(b, POLLIN) == POLLIN);
  CHECK(s.recv(b) == "12");
  CHECK(s.ready(b, POLLIN) == 0);
  CHECK(s.world.reset(a) == 0);
  s.turn();
  REQUIRE(edges.answers.size() == 3);
  CHECK((edges.answers[2].value & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
  s.end(edges);
}

TEST_CASE("sim: a multishot poll for room answers when a full stream has some again") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair({.capacity_bytes = 2});
  s.send(a, "xy");
  recorded edges({.code = opcode::poll, .multishot = true, .fd = a, .flags = POLLOUT});
  s.q.submit(edges);
  s.turn();
  CHECK(edges.answers.empty());
  CHECK(s.recv(b, 1) == "x");
  s.turn();
  REQUIRE(edges.answers.size() == 1);
  CHECK(edges.answers[0].value == POLLOUT);
  s.end(edges);
}

TEST_CASE("sim: of exclusive polls one gets each event, the others wait for the next") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  const request what{.code = opcode::poll, .fd = b, .flags = POLLIN | poll_exclusive};
  recorded first(what);
  recorded second(what);
  recorded plain({.code = opcode::poll, .fd = b, .flags = POLLIN});
  for (recorded* op : {&first, &second, &plain}) s.q.submit(*op);
  s.turn();
  s.send(a, "1");
  s.turn();
  CHECK(first.ended());
  CHECK(second.in_flight());
  CHECK(plain.ended());
  s.send(a, "2");
  s.turn();
  CHECK(second.ended());
}

TEST_CASE("sim: a futex compares its word when it is handed over, and waits for a wake") {
  sim_queue s;
  std::uint32_t word = 5;
  const request what{.code = opcode::futex, .data = &word, .offset = 5};
  recorded first(what);
  recorded second(what);
  s.q.submit(first);
  CHECK(s.world.engine().wake_futex(word, 1) == 0);
  s.turn();
  s.q.submit(second);
  s.turn();
  word = 6;
  CHECK(answer_of(s.q, what) == -EAGAIN);
  CHECK(s.world.engine().wake_futex(word, 1) == 1);
  s.turn();
  CHECK(first.value() == 0);
  CHECK(second.in_flight());
  CHECK(s.world.engine().wake_futex(word, 9) == 1);
  s.turn();
  CHECK(second.value() == 0);
}

TEST_CASE("sim: a call runs at its time, inside poll(); a cancel takes back one that has not begun") {
  sim_queue s;
  int runs = 0;
  const blocking_call what{[](void* n) noexcept { return ++*static_cast<int*>(n); }, &runs};
  recorded op({.code = opcode::call, .data = &what});
  s.q.submit(op);
  CHECK(runs == 0);
  s.turn();
  CHECK(op.value() == 1);
  s.q.submit(op);
  s.q.cancel(op);
  s.turn();
  CHECK(op.value() == -ECANCELED);
  CHECK(runs == 1);
}

TEST_CASE("sim: block() moves the time to what comes next; ring() and the alarm end it, once") {
  sim_queue s;
  keel::kevent_sys::sim_engine& sim = s.world.engine();
  const std::uint64_t start = s.now();
  sim.block(start + 5 * sim_ms);
  CHECK(s.now() == start + 5 * sim_ms);
  sim.ring();
  sim.block(never);
  CHECK(s.now() == start + 5 * sim_ms);
  s.turn();

  sim.set_alarm(start + 7 * sim_ms);
  sim.block(never);
  CHECK(s.now() == start + 7 * sim_ms);
  sim.block(start + 9 * sim_ms);
  CHECK(s.now() == start + 7 * sim_ms);
  s.turn();
  sim.block(start + 9 * sim_ms);
  CHECK(s.now() == start + 9 * sim_ms);

  const auto [a, b] = s.world.stream_pair({.latency_ns = 3 * sim_ms});
  recorded op({.code = opcode::poll, .fd = b, .flags = POLLIN});
  s.q.submit(op);
  CHECK(s.send(a, "x") == 1);
  sim.block(never);
  CHECK(s.now() == start + 12 * sim_ms);
  CHECK(op.in_flight());
  s.turn();
  CHECK(op.ended());
  CHECK_DEATH(sim.block(never), "nothing will ever happen");
}

TEST_CASE("sim: a wait for an object that gives nothing aborts, and says so with the seed") {
  const auto hang = [](const sim_faults& faults) {
    sim_queue s({.seed = 77, .faults = faults});
    const auto [a, b] = s.world.stream_pair();
    recorded op({.code = opcode::poll, .fd = b, .flags = POLLIN});
    s.q.submit(op);
    s.q.wait(never);
  };
  CHECK_DEATH(hang({}), "its object gives nothing");
  CHECK_DEATH(hang({}), "KEEL_SEED=77");
  CHECK_DEATH(hang({.hangs = 1000}), "it hangs, as a fault");
}

TEST_CASE("F1: sim faults: short counts move a part, one_byte one byte, and no byte is lost") {
  sim_queue s({.seed = 3, .faults = {.short_counts = 1000}});
  const auto [a, b] = s.world.stream_pair();
  std::set<int> counts;
  for (int i = 0; i < 50; ++i) {
    const int n = s.send(a, "0123456789");
    counts.insert(n);
    std::string seen;
    while (int(seen.size()) < n) seen += s.recv(b);
    CHECK(seen == std::string("0123456789").substr(0, std::size_t(n)));
  }
  CHECK(counts == std::set<int>{1, 5, 9});
  sim_queue one({.faults = sim_faults::short1()});
  const auto [c, d] = one.world.stream_pair();
  CHECK(one.send(c, "abc") == 1);
  const auto [e, f] = one.world.datagram_pair();
  CHECK(one.send(e, "abc") == 3);
  CHECK(one.recv(f) == "abc");
  for (sim_queue* q : {&s, &one}) {
    q->world.expect_end();
    CHECK(q->world.report() == "");
  }
}

TEST_CASE("F8: sim faults: an error comes from the table, and a fatal one ends the connection") {
  std::set<int> errors;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    sim_queue s({.seed = seed, .faults = {.errors = 1000}});
    const auto [a, b] = s.world.stream_pair();
    const int error = -s.send(a, "x");
    errors.insert(error);
    s.world.stop_faults();
    CHECK(s.send(a, "x") == (keel::kevent_sys::sim_error_is_fatal(error) ? -EPIPE : 1));
  }
  CHECK(errors.size() == keel::kevent_sys::sim_errors(opcode::send).size());
}

TEST_CASE("D12: sim faults: a multishot whose `more` is dropped ends with a good answer") {
  sim_queue s({.faults = {.dropped_more = 1000}});
  const auto [a, b] = s.world.stream_pair();
  recorded op({.code = opcode::receive, .multishot = true, .fd = b});
  s.q.submit(op);
  s.send(a, "x");
  s.turn();
  CHECK(op.value() == 1);
  CHECK(s.leased(op.answers[0]) == "x");
}

TEST_CASE("B16: sim faults: late answers come out of order, delays take time, all come") {
  sim_queue s({.seed = 11, .faults = sim_faults::reorder()});
  std::vector<std::size_t> order;
  std::vector<recorded> ops;
  for (int i = 0; i < 40; ++i)
    ops.emplace_back(
        request{.code = opcode::send, .fd = s.world.stream_pair().first, .size_bytes = 1, .data = "x"});
  for (recorded& op : ops) s.q.submit(op);
  const std::uint64_t start = s.now();
  while (!s.q.idle()) {
    s.q.wait(never);
    s.q.consume();
    for (std::size_t i = 0; i < ops.size(); ++i) {
      if (ops[i].ended() && std::count(order.begin(), order.end(), i) == 0) order.push_back(i);
    }
  }
  CHECK(order.size() == 40);
  CHECK_FALSE(std::is_sorted(order.begin(), order.end()));
  CHECK(s.now() > start);
}

TEST_CASE("E1: sim faults: a starved receive is parked for a while, and then gets its buffer") {
  sim_queue s({.seed = 2, .faults = {.starvations = 500}});
  const auto [a, b] = s.world.stream_pair();
  for (int i = 0; i < 20; ++i) {
    s.send(a, "x");
    recorded op({.code = opcode::receive, .fd = b});
    CHECK(answer_of(s.q, op) == 1);
    CHECK(s.leased(op.answers[0]) == "x");
  }
  CHECK(s.q.counters().starved > 5);
}

TEST_CASE("B1: sim faults: refused submissions are taken later, in their order") {
  sim_queue s({.seed = 4, .faults = {.refusals = 900}});
  const auto [a, b] = s.world.stream_pair();
  std::vector<recorded> ops;
  for (char c = 'a'; c <= 'z'; ++c) {
    static const char* text = "abcdefghijklmnopqrstuvwxyz";
    ops.emplace_back(request{.code = opcode::send, .fd = a, .size_bytes = 1, .data = text + (c - 'a')});
  }
  for (recorded& op : ops) s.q.submit(op);
  s.q.cancel(ops[25]);
  s.turn();
  CHECK(ops[24].in_flight());
  while (!s.q.idle()) s.turn();
  CHECK(ops[25].value() == -ECANCELED);
  std::string seen;
  s.world.stop_faults();
  while (seen.size() < 25) seen += s.recv(b);
  CHECK(seen == "abcdefghijklmnopqrstuvwxy");
}

TEST_CASE("C2: sim faults: a cancel that races ends with a result or ECANCELED, once, and no byte is lost") {
  int canceled = 0;
  int faster = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    sim_queue s({.seed = seed, .faults = {.delays = 1000, .cancel_races = 1000}});
    const auto [a, b] = s.world.stream_pair();
    std::string room(4, '\0');
    CHECK(s.send(a, "1234") == 4);
    recorded op({.code = opcode::recv, .fd = b, .size_bytes = 4, .data = room.data()});
    s.q.submit(op);
    s.turn();
    s.q.cancel(op);
    s.run_for(10 * sim_ms);
    REQUIRE(op.answers.size() == 1);
    CHECK((op.value() == 4 || op.value() == -ECANCELED));
    ++(op.value() == 4 ? faster : canceled);
    s.world.stop_faults();
    if (op.value() != 4) CHECK(s.recv(b) == "1234");
    s.world.expect_end();
    CHECK(s.world.report() == "");
  }
  // Bytes are there: a cancel that takes its time always meets the result.
  CHECK(faster == 60);
  CHECK(canceled == 0);
}

TEST_CASE("C2: sim faults: a late cancel answers ECANCELED in the end") {
  sim_queue s({.seed = 9, .faults = {.cancel_races = 1000}});
  const auto [a, b] = s.world.stream_pair();
  for (int i = 0; i < 20; ++i) {
    recorded op({.code = opcode::receive, .multishot = true, .fd = b});
    s.q.submit(op);
    s.turn();
    s.q.cancel(op);
    s.run_for(3 * sim_ms);
    CHECK(op.value() == -ECANCELED);
  }
}

TEST_CASE(
    "C2: sim faults: a multishot that is cancelled while its answer is late gives that, then ECANCELED") {
  sim_queue s({.seed = 9, .faults = {.late_answers = 1000}});
  const auto [a, b] = s.world.stream_pair();
  recorded op({.code = opcode::receive, .multishot = true, .fd = b});
  s.q.submit(op);
  s.turn();
  CHECK(s.send(a, "late") == 4);
  s.q.cancel(op);
  s.run_for(3 * sim_ms);
  REQUIRE(op.answers.size() == 2);
  CHECK(op.answers[0].more());
  CHECK(s.leased(op.answers[0]) == "late");
  CHECK(op.value() == -ECANCELED);
}

TEST_CASE("C6: sim faults: what hangs is moved by a cancel, or by the end of the faults") {
  sim_queue s({.faults = {.hangs = 1000}});
  const auto [a, b] = s.world.stream_pair();
  recorded first({.code = opcode::send, .fd = a, .size_bytes = 1, .data = "x"});
  recorded second({.code = opcode::send, .fd = a, .size_bytes = 1, .data = "y"});
  s.q.submit(first);
  s.q.submit(second);
  s.run_for(1000 * sim_ms);
  CHECK(first.in_flight());
  s.end(first);
  CHECK(first.value() == -ECANCELED);
  s.world.stop_faults();
  s.turn();
  CHECK(second.value() == 1);
  CHECK(s.recv(b) == "y");
}

TEST_CASE("sim faults: a spurious wake is an event of the wake operation, and no other") {
  sim_queue s({.seed = 1, .faults = {.spurious_wakes = 500}});
  recorded wake({.code = opcode::wake, .multishot = true});
  for (int i = 0; i < 10; ++i) s.turn();
  s.q.submit(wake);
  for (int i = 0; i < 100; ++i) s.turn();
  CHECK(wake.answers.size() > 20);
  CHECK(wake.answers.size() < 80);
  s.end(wake);
}

TEST_CASE("sim faults: operations with a script are left alone") {
  sim_queue s({.faults = sim_faults::chaos()});
  for (int i = 0; i < 50; ++i) {
    s.world.engine().expect(opcode::send, 5, {.value = 3});
    CHECK(s.send(5, "abc") == 3);
  }
}
