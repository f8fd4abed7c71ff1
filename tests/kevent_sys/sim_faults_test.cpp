#include <doctest/doctest.h>
#include <keel/kevent_sys/sim_faults.hpp>

#include <cerrno>

#include "support/death_test.hpp"

using keel::kevent_sys::opcode;
using keel::kevent_sys::sim_error_is_fatal;
using keel::kevent_sys::sim_errors;
using keel::kevent_sys::sim_faults;
using keel::kevent_sys::sim_random;

TEST_CASE("sim_random: a seed gives the published sequence of splitmix64") {
  sim_random random(1234567);
  CHECK(random.next() == 6457827717110365317u);
  CHECK(random.next() == 3203168211198807973u);
  CHECK(random.next() == 9817491932198370423u);
}

TEST_CASE("sim_random: a chance of 0 takes no number, one of 1,000 always hits") {
  sim_random random(7);
  sim_random other(7);
  for (int i = 0; i < 100; ++i) CHECK_FALSE(random.hit(0));
  CHECK(random.next() == other.next());
  for (int i = 0; i < 100; ++i) CHECK(random.hit(1000));
}

TEST_CASE("sim_random: chances and bounds are kept") {
  sim_random random(8);
  int hits = 0;
  for (int i = 0; i < 10'000; ++i) {
    hits += random.hit(200) ? 1 : 0;
    CHECK(random.below(3) < 3);
  }
  CHECK(hits > 1800);
  CHECK(hits < 2200);
  CHECK_DEATH(random.below(0), "bound > 0");
}

TEST_CASE("D9: sim_errors: each opcode of the kernel has its errors, all positive; the others have none") {
  for (const opcode code :
       {opcode::poll, opcode::accept, opcode::connect, opcode::recv, opcode::receive, opcode::drain,
        opcode::send, opcode::sendfile, opcode::open, opcode::read, opcode::write, opcode::close}) {
    CHECK_FALSE(sim_errors(code).empty());
    for (const int error : sim_errors(code)) CHECK(error > 0);
  }
  for (const opcode code : {opcode::nop, opcode::wake, opcode::timer, opcode::call, opcode::futex})
    CHECK(sim_errors(code).empty());
}

TEST_CASE("F8: sim_errors: an error of a connection is fatal, a shortage is not") {
  for (const int error : {ECONNRESET, EPIPE, ETIMEDOUT}) CHECK(sim_error_is_fatal(error));
  for (const int error : {ENOMEM, ENOBUFS, EMFILE, EIO}) CHECK_FALSE(sim_error_is_fatal(error));
}

TEST_CASE("sim_faults: calm makes none, chaos makes every kind but hangs") {
  const sim_faults calm = sim_faults::calm();
  CHECK((calm.errors | calm.short_counts | calm.delays | calm.late_answers | calm.dropped_more) == 0);
  CHECK((calm.starvations | calm.refusals | calm.cancel_races | calm.spurious_wakes | calm.hangs) == 0);
  const sim_faults chaos = sim_faults::chaos();
  for (const unsigned chance :
       {chaos.errors, chaos.short_counts, chaos.delays, chaos.late_answers, chaos.dropped_more,
        chaos.starvations, chaos.refusals, chaos.cancel_races, chaos.spurious_wakes})
    CHECK(chance == 200);
  CHECK(chaos.hangs == 0);
  CHECK(sim_faults::short1().one_byte);
  CHECK(sim_faults::with_errors().errors == 10);
  CHECK(sim_faults::never_completes().hangs > 0);
}
