// A task that was spawned on another scheduler. Its object is held by the handle, by the journey until its
// result is at home, and by a request to stop that is on the way; the last of them destroys it. Requests
// are merged (merged_request, as it is): there is one message for them. Transcribes depart, request_stop,
// deliver_start, deliver_stop, ended, deliver_end, abandon and drop_share of runtime/spawn_on.cpp.

#include <keel/runtime/merged_request.hpp>

#include <doctest/doctest.h>

#include "models/mailbox.hpp"

using keel::test::any_of;
using keel::test::atomic;
using keel::test::expect;
using keel::test::explore;
using keel::test::findings;
using keel::test::label;
using keel::test::mail;
using keel::test::mailbox;
using keel::test::model;
using keel::test::model_atomics;
using keel::test::plain;

namespace {

enum class mutation {
  none,
  stop_holds_nothing,    // a request on the way does not keep the object
  relaxed_release,       // whoever destroys the object is not ordered after the others
  drops_at_once,         // the handle takes the object with it
  looks_from_afar,       // the handle asks the object whether the task has ended, not the message
  stops_what_has_ended,  // a request that arrives late is told to a frame that has gone
  opens_after_release,   // a request is opened when the object may have gone
};

constexpr unsigned mail_start = 1;
constexpr unsigned mail_stop = 2;
constexpr unsigned mail_done = 3;
constexpr unsigned mail_quit = 4;

constexpr int graceful = 1;
constexpr int hard = 2;

struct remote_task : model {
  explicit remote_task(mutation m) : broken(m) {
    label(&home, "home");
    label(&away, "away");
    label(&holders, "the holders");
    start.kind = mail_start;
    stop.kind = mail_stop;
    done.kind = mail_done;
    quit.kind = mail_quit;
  }
  unsigned threads() const override { return 2; }
  const char* name(unsigned thread) const override { return thread == 0 ? "home" : "away"; }
  void run(unsigned thread) override { thread == 0 ? at_home() : run_away(); }

  // The scheduler that spawned it: stops it or not, drops the handle before the end or after it.
  void at_home() {
    argument = 7;
    away.post(start);
    waits_for_stop = any_of(2) != 0;
    const bool asks = waits_for_stop || any_of(2) != 0;
    if (asks) {
      ask(graceful);
      ask(hard);
    }
    const bool drops = any_of(2) != 0;
    if (drops) {
      if (broken == mutation::drops_at_once) {
        destroy();
      } else {
        release();
      }
    }
    if (!drops && broken == mutation::looks_from_afar) {
      touch();
      if (ended) expect(result == 42, "the result is not there yet");
    }
    const mail& m = home.take();
    expect(m.kind == mail_done, "something else came home");
    touch();
    if (!drops) {
      expect(result == 42, "another result");
      release();
    }
    release();  // the task's
    away.post(quit);
  }

  void ask(int level) {
    touch();
    if (!requests.raise(level)) return;
    if (broken != mutation::stop_holds_nothing) holders.fetch_add(1, std::memory_order_relaxed);
    away.post(stop);
  }

  // The scheduler that runs it.
  void run_away() {
    for (;;) {
      switch (away.take().kind) {
        case mail_start:
          touch();
          expect(argument == 7, "it starts without its argument");
          running = true;
          if (!waits_for_stop) end();
          break;
        case mail_stop: stopped(); break;
        default: return;
      }
    }
  }

  void stopped() {
    if (broken == mutation::opens_after_release) release();
    touch();
    const int level = requests.open();
    if (broken == mutation::stops_what_has_ended) expect(running, "a frame is stopped that has gone");
    if (running && level == hard) end();
    if (broken != mutation::opens_after_release && broken != mutation::stop_holds_nothing) release();
  }

  void end() {
    running = false;
    result = 42;
    ended = true;
    home.post(done);
  }

  void touch() { expect(destroyed == 0, "the object is used after its end"); }
  void release() {
    const auto order =
        broken == mutation::relaxed_release ? std::memory_order_relaxed : std::memory_order_acq_rel;
    if (holders.fetch_sub(1, order) == 1) destroy();
  }
  void destroy() {
    expect(++destroyed == 1, "the object is destroyed twice");
    // Its destructor reads and writes all of it.
    result = 0;
    ended = false;
    argument = 0;
    expect(!stop.on_the_way && !done.on_the_way, "a message on the way is destroyed");
  }

  void finish() override { expect(destroyed == 1, "the object is never destroyed"); }

  const mutation broken;
  mailbox home;
  mailbox away;
  mail start;
  mail stop;
  mail done;
  mail quit;
  keel::detail::merged_request<int, model_atomics> requests;
  atomic<std::uint32_t> holders{2};  // the handle, and the task
  plain<int> argument{0};
  plain<int> result{0};
  plain<bool> ended{false};
  bool running = false;
  bool waits_for_stop = false;
  unsigned destroyed = 0;
};

findings run(mutation m) {
  return explore<remote_task>({.preemptions = 4, .stale_reads = 2}, m);
}

}  // namespace

TEST_CASE("remote task model, C1 G7: the result comes home once, whatever is stopped or dropped on the way") {
  CHECK(run(mutation::none).problem() == "");
}

TEST_CASE("remote task model, C1 G7: mutations use the object after its end, or see half of a result") {
  CHECK(run(mutation::stop_holds_nothing).failed());
  CHECK(run(mutation::relaxed_release).failed_with("data race"));
  CHECK(run(mutation::drops_at_once).failed());
  CHECK(run(mutation::looks_from_afar).failed_with("data race"));
  CHECK(run(mutation::stops_what_has_ended).failed_with("a frame is stopped that has gone"));
  CHECK(run(mutation::opens_after_release).failed_with("the object is used after its end"));
}
