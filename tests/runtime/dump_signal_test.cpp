// What KEEL_DUMP_SIGNAL does to any program.

#include <keel/runtime/run.hpp>

#include <doctest/doctest.h>

#include <unistd.h>
#include <csignal>
#include <ostream>
#include <string>

#include "support/environment.hpp"
#include "support/in_runtime.hpp"
#include "support/stderr_of.hpp"

using namespace std::chrono_literals;
using keel::named;
using keel::spawn;
using keel::task;
using keel::test::environment_variable;
using keel::test::pause;
using keel::test::stderr_of;

TEST_CASE("KEEL_DUMP_SIGNAL makes the program dump itself at that signal, as often as it comes") {
  for (const char* name : {"USR1", "SIGUSR1", "10"}) {
    const environment_variable wanted("KEEL_DUMP_SIGNAL", name);
    const std::string said = stderr_of([] {
      keel::test::in_runtime([]() -> task<> {
        spawn(named("session", keel::test::pause), 1h);
        for (int i = 0; i < 2; ++i) {
          ::kill(::getpid(), SIGUSR1);
          co_await pause(100ms);
        }
      });
    });
    CHECK(said.find("session #") != std::string::npos);
    CHECK(said.find(" waits for a time, ") != std::string::npos);
    CHECK(said.find("dump_at_signal #") != std::string::npos);
  }
}

TEST_CASE("KEEL_DUMP_SIGNAL that is no signal is told of, and ignored") {
  for (const char* name : {"NOTHING", "KILL", "0", "99", "-1", "USR1 "}) {
    const environment_variable wrong("KEEL_DUMP_SIGNAL", name);
    const std::string said = stderr_of([] { keel::run(pause(1ms)); });
    CHECK(said.find(std::string("keel: KEEL_DUMP_SIGNAL=") + name +
                    " is no signal that can be caught: try USR1\n") != std::string::npos);
  }
}

TEST_CASE("KEEL_DUMP_SIGNAL: without it no handler is installed") {
  const environment_variable nothing("KEEL_DUMP_SIGNAL", nullptr);
  keel::run(pause(1ms));
  struct sigaction now = {};
  REQUIRE(::sigaction(SIGUSR2, nullptr, &now) == 0);
  const bool untouched = now.sa_handler == SIG_DFL;
  CHECK(untouched);
}
