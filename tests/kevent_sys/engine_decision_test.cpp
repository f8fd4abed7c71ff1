#include <keel/kevent_sys/engine_decision.hpp>

#include <doctest/doctest.h>

#include <ostream>
#include <string_view>

#include "support/environment.hpp"

using keel::errc;
using keel::kevent_sys::decide;
using keel::kevent_sys::engine_choice;
using keel::test::environment_variable;

TEST_CASE("engine_decision: without a word of anybody's, it is what works best") {
  for (const char* value : {static_cast<const char*>(nullptr), "", "auto"}) {
    const environment_variable set("KEEL_ENGINE", value);
    const auto decided = decide(engine_choice::automatic);
    REQUIRE(decided);
    CHECK(decided->choice == engine_choice::automatic);
    CHECK(decided->insisting == nullptr);
  }
}

TEST_CASE("engine_decision: KEEL_ENGINE decides, and is named as the one who did") {
  {
    const environment_variable set("KEEL_ENGINE", "uring");
    const auto decided = decide(engine_choice::automatic);
    REQUIRE(decided);
    CHECK(decided->choice == engine_choice::uring);
    CHECK(decided->insisting == std::string_view("KEEL_ENGINE=uring"));
  }
  {
    const environment_variable set("KEEL_ENGINE", "epoll");
    const auto decided = decide(engine_choice::automatic);
    REQUIRE(decided);
    CHECK(decided->choice == engine_choice::epoll);
    CHECK(decided->reason == std::string_view("asked for by KEEL_ENGINE"));
  }
}

TEST_CASE("engine_decision: the program's own choice comes before KEEL_ENGINE, even a wrong one") {
  for (const char* value : {"uring", "epoll", "nonsense"}) {
    const environment_variable set("KEEL_ENGINE", value);
    for (const engine_choice choice : {engine_choice::uring, engine_choice::epoll}) {
      const auto decided = decide(choice);
      REQUIRE(decided);
      CHECK(decided->choice == choice);
      CHECK(decided->reason == std::string_view("asked for by the program"));
    }
  }
}

TEST_CASE("engine_decision: a KEEL_ENGINE that names no engine is an error") {
  for (const char* value : {"io_uring", "Epoll", "epoll ", "select", "sim"}) {
    const environment_variable set("KEEL_ENGINE", value);
    CHECK(decide(engine_choice::automatic).error() == errc::not_supported);
  }
}
