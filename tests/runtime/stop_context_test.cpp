#include <keel/runtime/stop_context.hpp>

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "support/death_test.hpp"

using keel::stop_callback;
using keel::stop_context;
using keel::stop_level;

namespace {

// Notes what it is told; does something then.
struct listener : stop_callback {
  explicit listener(stop_level at = stop_level::hard) : stop_callback(&told) { threshold = at; }

  static void told(stop_callback& self, stop_level level) noexcept {
    auto& me = static_cast<listener&>(self);
    me.levels.push_back(level);
    if (me.action != nullptr) me.action(me.context, me.other);
  }

  std::vector<stop_level> levels;
  void (*action)(void* context, void* other) = nullptr;
  void* context = nullptr;
  void* other = nullptr;
};

const std::vector<stop_level> nothing;
const std::vector<stop_level> graceful_once{stop_level::graceful};
const std::vector<stop_level> hard_once{stop_level::hard};

}  // namespace

TEST_CASE("stop_context: levels only rise") {
  stop_context context;
  CHECK(context.level() == stop_level::none);
  CHECK(!context.stopped(stop_level::graceful));
  context.request_stop(stop_level::graceful);
  CHECK(context.stopped(stop_level::graceful));
  CHECK(!context.stopped());
  context.request_stop(stop_level::hard);
  context.request_stop(stop_level::graceful);
  CHECK(context.stopped());
}

TEST_CASE("stop_context: a callback is told once, at its threshold") {
  stop_context context;
  listener eager(stop_level::graceful);
  listener patient(stop_level::hard);
  context.add(eager);
  context.add(patient);

  context.request_stop(stop_level::graceful);
  CHECK(eager.levels == graceful_once);
  CHECK(patient.levels == nothing);

  context.request_stop(stop_level::hard);
  context.request_stop(stop_level::hard);
  CHECK(eager.levels == graceful_once);
  CHECK(patient.levels == hard_once);
}

TEST_CASE("stop_context: a hard stop also tells those who wait for a graceful one") {
  stop_context context;
  listener eager(stop_level::graceful);
  context.add(eager);
  context.request_stop(stop_level::hard);
  CHECK(eager.levels == hard_once);
}

TEST_CASE("stop_context: what unregisters is not told") {
  stop_context context;
  listener gone;
  context.add(gone);
  gone.unlink();
  context.request_stop(stop_level::hard);
  CHECK(gone.levels == nothing);
}

TEST_CASE("stop_context: a child hears of both levels, once each, and tells nobody above it") {
  stop_context root;
  stop_context child;
  child.attach(root);
  listener eager(stop_level::graceful);
  listener patient(stop_level::hard);
  child.add(eager);
  child.add(patient);

  root.request_stop(stop_level::graceful);
  CHECK(child.level() == stop_level::graceful);
  CHECK(eager.levels == graceful_once);
  CHECK(patient.levels == nothing);
  root.request_stop(stop_level::hard);
  CHECK(patient.levels == hard_once);

  stop_context other_root;
  stop_context other_child;
  other_child.attach(other_root);
  other_child.request_stop(stop_level::hard);
  CHECK(other_root.level() == stop_level::none);
}

TEST_CASE("stop_context: a child starts at its parent's level") {
  for (const stop_level level : {stop_level::none, stop_level::graceful, stop_level::hard}) {
    CAPTURE(static_cast<int>(level));
    stop_context root;
    root.request_stop(level);
    stop_context child;
    child.attach(root);
    CHECK(child.level() == level);
    root.request_stop(stop_level::hard);
    CHECK(child.level() == stop_level::hard);
  }
}

TEST_CASE("stop_context: a child that stopped by itself further than its parent keeps its level") {
  stop_context root;
  stop_context child;
  child.request_stop(stop_level::hard);
  child.attach(root);
  CHECK(child.stopped());
  root.request_stop(stop_level::graceful);
  CHECK(child.stopped());
}

TEST_CASE("stop_context: a child that has gone, or was detached, is not told") {
  stop_context root;
  stop_context detached;
  detached.attach(root);
  {
    stop_context gone;
    gone.attach(root);
  }
  detached.detach();
  root.request_stop(stop_level::hard);
  CHECK(detached.level() == stop_level::none);
}

TEST_CASE("stop_context: a callback may unregister another that would have been told next") {
  stop_context context;
  listener first;
  listener second;
  first.other = &second;
  first.action = [](void*, void* other) { static_cast<listener*>(other)->unlink(); };
  context.add(first);
  context.add(second);
  context.request_stop(stop_level::hard);
  CHECK(first.levels == hard_once);
  CHECK(second.levels == nothing);
}

TEST_CASE("stop_context: a callback may register one for the next level") {
  stop_context context;
  listener first(stop_level::graceful);
  listener second(stop_level::hard);
  first.context = &context;
  first.other = &second;
  first.action = [](void* of, void* other) {
    static_cast<stop_context*>(of)->add(*static_cast<listener*>(other));
  };
  context.add(first);
  context.request_stop(stop_level::graceful);
  CHECK(second.levels == nothing);
  context.request_stop(stop_level::hard);
  CHECK(second.levels == hard_once);
}

TEST_CASE(
    "stop_context: a callback may raise the level: everybody is told once, the rest of the higher level") {
  stop_context root;
  stop_context child;
  listener first(stop_level::graceful);
  first.context = &root;
  first.action = [](void* of, void*) { static_cast<stop_context*>(of)->request_stop(stop_level::hard); };
  listener second(stop_level::graceful);
  listener third(stop_level::hard);
  listener in_child(stop_level::hard);
  root.add(first);
  child.attach(root);
  child.add(in_child);
  root.add(second);
  root.add(third);

  root.request_stop(stop_level::graceful);
  CHECK(first.levels == graceful_once);
  CHECK(second.levels == hard_once);
  CHECK(third.levels == hard_once);
  CHECK(in_child.levels == hard_once);
}

TEST_CASE("stop_context: a callback in a child may raise the level of the root") {
  stop_context root;
  stop_context child;
  child.attach(root);
  listener in_child(stop_level::graceful);
  in_child.context = &root;
  in_child.action = [](void* of, void*) { static_cast<stop_context*>(of)->request_stop(stop_level::hard); };
  listener later_in_child(stop_level::hard);
  child.add(in_child);
  child.add(later_in_child);
  listener in_root(stop_level::hard);
  root.add(in_root);

  root.request_stop(stop_level::graceful);
  CHECK(child.stopped());
  CHECK(later_in_child.levels == hard_once);
  CHECK(in_root.levels == hard_once);
}

TEST_CASE("stop_context: two parents, and a registration that outlives its context, are bugs") {
  CHECK_DEATH(
      [] {
        stop_context root;
        stop_context child;
        child.attach(root);
        child.attach(root);
      }(),
      "a stop context has one parent");
  CHECK_DEATH(
      [] {
        listener late;
        stop_context context;
        context.add(late);
      }(),
      "destroyed");
}
