#include <keel/runtime/fiber_overflow.hpp>

#include <keel/runtime/fiber.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <unistd.h>
#include <csignal>
#include <cstring>
#include <ostream>
#include <string>
#include <thread>

#include "support/build.hpp"
#include "support/in_child.hpp"

using namespace std::chrono_literals;
using keel::await;
using keel::task;

namespace {

int recurse(int depth) {
  volatile char frame[256];
  frame[0] = static_cast<char>(depth);
  if (depth == 0) return 0;
  const int rest = recurse(depth - 1);
  return rest + frame[0];
}

void no_core() {
  const struct rlimit none = {};
  ::setrlimit(RLIMIT_CORE, &none);
}

task<> overflow() {
  auto deep = [] {
    await(keel::sleep_for(1us)).value();
    recurse(10'000'000);
  };
  co_await keel::spawn_fiber(keel::named("digger", deep));
}

void old_handler(int) {
  const char said[] = "the old handler\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, said, sizeof said - 1);
  ::_exit(3);
}

}  // namespace

TEST_CASE("H5 fiber: an overflow is reported by name, and the process dies as it would have") {
  const auto end = keel::test::in_child([] {
    no_core();
    keel::report_fiber_overflows();
    keel::report_fiber_overflows();
    keel::run(overflow());
    return 0;
  });
  CHECK(end.signal == SIGSEGV);
  CHECK_MESSAGE(end.said.find("the fiber 'digger' has overflowed its stack of ") != std::string::npos,
                end.said);
}

TEST_CASE("H5 fiber: of a task without a name, by its number, on any thread") {
  const auto end = keel::test::in_child([] {
    no_core();
    keel::report_fiber_overflows();
    std::thread([] {
      keel::runtime rt;
      rt.spawn([]() -> task<> { co_await keel::fiber([] { recurse(10'000'000); }); });
      rt.run();
    }).join();
    return 0;
  });
  CHECK(end.signal == SIGSEGV);
  CHECK_MESSAGE(end.said.find("the fiber of the unnamed task 1 has overflowed") != std::string::npos,
                end.said);
}

TEST_CASE("H5 fiber: the handler that was there before has its turn afterwards") {
  const auto end = keel::test::in_child([] {
    struct sigaction old {};
    old.sa_handler = &old_handler;
    ::sigaction(SIGSEGV, &old, nullptr);
    keel::report_fiber_overflows();
    keel::run(overflow());
    return 0;
  });
  CHECK(end.exit_code == 3);
  CHECK(end.said.find("'digger' has overflowed") != std::string::npos);
  CHECK(end.said.find("the old handler") != std::string::npos);
}

TEST_CASE("report_fiber_overflows: another fault is not called an overflow") {
  const auto end = keel::test::in_child([] {
    no_core();
    keel::report_fiber_overflows();
    keel::run([]() -> task<> {
      co_await keel::fiber([] {
        volatile char* volatile nowhere = nullptr;
        *nowhere = 1;
      });
    }());
    return 0;
  });
  CHECK(end.exit_code != 0);
  CHECK(end.said.find("overflowed") == std::string::npos);
}

TEST_CASE("report_fiber_overflows: a signal that somebody sent still kills") {
  const auto end = keel::test::in_child([] {
    no_core();
    keel::report_fiber_overflows();
    ::raise(SIGSEGV);
    return 0;
  });
  CHECK(end.signal == SIGSEGV);
}

TEST_CASE("H5 fiber: nobody handles SIGSEGV unasked") {
  const auto end = keel::test::in_child([] {
    no_core();
    keel::run(overflow());
    return 0;
  });
  CHECK(end.exit_code != 0);
  CHECK(end.said.find("has overflowed its stack of") == std::string::npos);
}
