#include <doctest/doctest.h>
#include <keel/kevent_sys/engine.hpp>
#include <keel/kevent_sys/queue.hpp>

#include <string>
#include <string_view>

#include "support/environment.hpp"
#include "support/in_child.hpp"

using keel::errc;
using keel::kevent_sys::engine;
using keel::kevent_sys::engine_choice;
using keel::kevent_sys::engine_options;
using keel::kevent_sys::event_sink;
using keel::kevent_sys::make_engine;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::test::environment_variable;
using keel::test::in_child;

namespace {

queue_options with(const engine_options& engine) {
  queue_options options;
  options.engine = engine;
  return options;
}

// Which engine a queue gets, and why: "uring: the best that works here".
std::string chosen(const engine_options& options = {}) {
  const queue q(with(options));
  return std::string(q.info().name) + ": " + q.info().reason;
}

bool answers_a_nop(queue& q) {
  keel::kevent_sys::operation op({.code = opcode::nop}, [](auto&, auto) noexcept {});
  q.submit(op);
  for (int turn = 0; turn < 1000 && op.in_flight(); ++turn) {
    q.wait(q.fresh_now_ns() + 1'000'000'000);
    q.consume();
  }
  return !op.in_flight();
}

}  // namespace

TEST_CASE("engine: the best that works here is chosen, unless the program or KEEL_ENGINE says otherwise") {
  {
    const environment_variable nothing("KEEL_ENGINE", nullptr);
    CHECK(chosen() == "uring: the best that works here");
    CHECK(chosen({.choice = engine_choice::uring}) == "uring: asked for by the program");
    CHECK(chosen({.choice = engine_choice::epoll}) == "epoll: asked for by the program");
  }
  {
    const environment_variable uring("KEEL_ENGINE", "uring");
    CHECK(chosen() == "uring: asked for by KEEL_ENGINE");
    CHECK(chosen({.choice = engine_choice::epoll}) == "epoll: asked for by the program");
  }
  {
    const environment_variable epoll("KEEL_ENGINE", "epoll");
    CHECK(chosen() == "epoll: asked for by KEEL_ENGINE");
    CHECK(chosen({.choice = engine_choice::uring}) == "uring: asked for by the program");
  }
}

TEST_CASE(
    "engine: an unknown KEEL_ENGINE is an error that names the known ones, unless the program has chosen") {
  const environment_variable bad("KEEL_ENGINE", "io_uring");
  const auto child = in_child([] {
    event_sink sink(8);
    return make_engine(sink, {}).error() == errc::not_supported ? 0 : 1;
  });
  CHECK(child.exit_code == 0);
  CHECK(child.said.find("KEEL_ENGINE=io_uring is not an engine of this version") != std::string::npos);
  CHECK(child.said.find("use KEEL_ENGINE=auto, KEEL_ENGINE=uring or KEEL_ENGINE=epoll") != std::string::npos);
  CHECK(chosen({.choice = engine_choice::uring}) == "uring: asked for by the program");
}

TEST_CASE("engine: what was asked for and got is nothing to talk about") {
  const auto child = in_child([] {
    for (const char* value : {"auto", "uring", "epoll"}) {
      const environment_variable set("KEEL_ENGINE", value);
      const queue q({});
    }
    const queue q(with({.choice = engine_choice::epoll}));
    return 0;
  });
  CHECK(child.exit_code == 0);
  CHECK(child.said.empty());
}

TEST_CASE("engine: info() and counters() say what was made and what it did") {
  queue q(with({.choice = engine_choice::uring, .entries = 128}));
  CHECK(q.info().entries == 128);
  CHECK(q.info().setup_flags != 0);
  CHECK(q.info().refused_call == nullptr);
  CHECK(answers_a_nop(q));
  CHECK(q.info().provided_buffers);
  CHECK(q.counters().submitted == 1);
  CHECK(q.counters().enters >= 1);
  CHECK(q.counters().stale == 0);
}

TEST_CASE("engine: the reason of an engine is a copy, and cut where it is too long") {
  queue q({});
  {
    std::string reason = "because";
    q.used_engine().set_reason(reason.c_str());
    reason = "overwritten";
  }
  CHECK(q.info().reason == std::string_view("because"));
  q.used_engine().set_reason(std::string(1000, 'x').c_str());
  CHECK(std::string_view(q.info().reason).size() == engine::reason_size - 1);
}
