#include <doctest/doctest.h>
#include <keel/kevent_sys/sim_checker.hpp>

#include "support/recorded_operation.hpp"
#include "support/sim_queue.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::sim_bug;
using keel::kevent_sys::sim_checker;
using keel::kevent_sys::sim_name;
using keel::test::recorded;
using keel::test::sim_ms;
using keel::test::sim_queue;

namespace {

bool says(const std::string& report, const char* text) {
  return report.find(text) != std::string::npos;
}

// Traffic in which the planted bug of `s` finds its place.
void exchange(sim_queue& s) {
  const auto [a, b] = s.world.stream_pair();
  std::string room(16, '\0');
  recorded recv({.code = opcode::recv, .fd = b, .size_bytes = 16, .data = room.data()});
  recorded send({.code = opcode::send, .fd = a, .size_bytes = 5, .data = "hello"});
  for (int i = 0; i < 8; ++i) {
    for (recorded* op : {&send, &recv}) {
      if (!op->in_flight()) s.q.submit(*op);
    }
    s.turn();
  }
  s.run_for(20 * sim_ms);
  s.world.expect_liveness(10 * sim_ms);
  for (recorded* op : {&send, &recv}) {
    if (op->in_flight()) s.end(*op);
  }
  s.world.expect_end();
}

}  // namespace

TEST_CASE("sim_checker: one last answer for each submission is what it wants") {
  sim_checker checker;
  const recorded op({.code = opcode::recv, .fd = 7});
  checker.submitted(op, 1);
  CHECK(checker.answered(op, {5, answer::more_flag}, 2));
  CHECK(checker.answered(op, {0, 0}, 3));
  checker.submitted(op, 4);
  CHECK(checker.answered(op, {1, 0}, 5));
  checker.expect_end();
  CHECK(checker.ok());
  CHECK(checker.report().empty());
}

TEST_CASE("B14: sim_checker: an answer after the last one is withheld and told") {
  sim_checker checker;
  const recorded op({.code = opcode::recv, .fd = 7});
  checker.submitted(op, 1);
  CHECK(checker.answered(op, {5, 0}, 2));
  CHECK_FALSE(checker.answered(op, {5, 0}, 3));
  CHECK(says(checker.report(), "recv fd 7 was answered again"));
  CHECK(checker.complaints() == 1);
}

TEST_CASE("sim_checker: work without an answer, and an operation without a last one, are told") {
  sim_checker checker;
  const recorded op({.code = opcode::accept, .fd = 7});
  checker.submitted(op, 10);
  checker.executed(op, 20);
  checker.expect_answers(30, 10);
  CHECK(checker.ok());
  checker.expect_answers(31, 10);
  CHECK(says(checker.report(), "accept fd 7 was done at 20 ns and is not answered at 31 ns"));
  checker.expect_end();
  CHECK(says(checker.report(), "accept fd 7, submitted at 10 ns, has had no last answer"));
}

TEST_CASE("sim_checker: of many complaints the first are kept, all are counted") {
  sim_checker checker;
  for (int i = 0; i < 100; ++i) checker.complain("complaint " + std::to_string(i));
  CHECK(checker.complaints() == 100);
  CHECK(says(checker.report(), "complaint 19\n"));
  CHECK_FALSE(says(checker.report(), "complaint 20\n"));
}

TEST_CASE("sim_checker: operations have names") {
  CHECK(sim_name({.code = opcode::nop}) == "nop fd -1");
  CHECK(std::string(sim_name(opcode::futex)) == "futex");
}

TEST_CASE("sim_checker: nothing is said of an engine without a bug") {
  sim_queue s;
  exchange(s);
  CHECK(s.world.report() == "");
  CHECK(s.world.ok());
}

TEST_CASE("sim_checker: an engine that answers twice is caught, and its second answer kept back") {
  sim_queue s({.seed = 5, .bug = sim_bug::answers_twice});
  exchange(s);
  CHECK(says(s.world.report(), "was answered again"));
  CHECK(says(s.world.report(), "KEEL_SEED=5 shows it again"));
}

TEST_CASE("sim_checker: an engine that loses an answer is caught, twice over") {
  sim_queue s({.bug = sim_bug::loses_an_answer});
  exchange(s);
  CHECK(says(s.world.report(), "and is not answered"));
  CHECK(says(s.world.report(), "senders were told of"));
}

TEST_CASE("sim_checker: an engine that delivers other bytes than were sent is caught") {
  sim_queue s({.bug = sim_bug::changes_a_byte});
  exchange(s);
  CHECK(says(s.world.report(), "not the same bytes"));
}

TEST_CASE("B11: sim_checker: an engine that does not tell who waits is caught") {
  sim_queue s({.bug = sim_bug::forgets_a_waiter});
  const auto [a, b] = s.world.stream_pair();
  recorded op({.code = opcode::receive, .fd = b});
  s.q.submit(op);
  s.turn();
  CHECK(s.send(a, "x") == 1);
  s.turn();
  CHECK(op.in_flight());
  s.world.expect_liveness(10 * sim_ms);
  CHECK(says(s.world.report(), "could go on, and was not told"));
  s.end(op);
}

TEST_CASE("sim_checker: what waits for its object is no complaint, what hangs or starves is") {
  sim_queue s({.buffers = 1, .buffers_limit = 1});
  const auto [a, b] = s.world.stream_pair();
  const auto [c, d] = s.world.stream_pair();
  recorded hoarder({.code = opcode::receive, .fd = b});
  recorded idle({.code = opcode::recv, .fd = c});
  s.q.submit(hoarder);
  s.q.submit(idle);
  CHECK(s.send(a, "x") == 1);
  s.run_for(100 * sim_ms);
  s.world.expect_liveness(10 * sim_ms);
  CHECK(s.world.report() == "");

  recorded starving({.code = opcode::receive, .fd = b});
  s.q.submit(starving);
  CHECK(s.send(a, "y") == 1);
  s.run_for(100 * sim_ms);
  s.world.expect_liveness(10 * sim_ms);
  CHECK(says(s.world.report(), "is due since"));
  CHECK(s.leased(hoarder.answers[0]) == "x");
  s.turn();
  CHECK(s.leased(starving.answers[0]) == "y");
  s.end(idle);

  sim_queue hanging({.faults = {.hangs = 1000}});
  recorded op({.code = opcode::send, .fd = hanging.world.stream_pair().first, .size_bytes = 1, .data = "x"});
  hanging.q.submit(op);
  hanging.turn();
  hanging.world.expect_liveness(0);
  CHECK(says(hanging.world.report(), "hangs"));
  hanging.end(op);
}

TEST_CASE("E2: sim_checker: a receive buffer that was not given back is told") {
  sim_queue s;
  const auto [a, b] = s.world.stream_pair();
  recorded op({.code = opcode::receive, .fd = b});
  s.q.submit(op);
  CHECK(s.send(a, "x") == 1);
  s.turn();
  s.world.expect_end();
  CHECK(says(s.world.report(), "1 receive buffers did not come home"));
  CHECK(s.leased(op.answers[0]) == "x");
}

TEST_CASE("sim_checker: complaints outlive the queue of whose engine they are") {
  keel::kevent_sys::sim_world world;
  {
    keel::kevent_sys::queue q({.factory = world.factory()});
    world.engine().checker().complain("seen");
  }
  CHECK(says(world.report(), "seen"));
  CHECK_FALSE(world.ok());
}
