#include <keel/kevent_sys/probe.hpp>

#include <doctest/doctest.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "support/descriptors.hpp"
#include "support/environment.hpp"
#include "support/forbid_io_uring.hpp"
#include "support/in_child.hpp"
#include "support/skip.hpp"

using keel::kevent_sys::engine_choice;
using keel::kevent_sys::machine_report;
using keel::kevent_sys::probe_machine;
using keel::test::environment_variable;
using keel::test::forbid_io_uring;
using keel::test::in_child;

namespace {

constexpr int no_filter = 99;  // exit code of a child

}  // namespace

TEST_CASE("probe: it finds on this machine what a queue finds, and leaves nothing behind") {
  probe_machine();
  const std::size_t descriptors = keel::test::open_descriptors();
  const machine_report report = probe_machine();
  CHECK(report.works);
  CHECK(std::string_view(report.kernel).size() > 0);
  CHECK(report.descriptors > 0);
  CHECK(report.uring_disabled >= -1);
  CHECK(keel::test::open_descriptors() == descriptors);
  if (std::string_view(report.engine) != "uring") return keel::test::skip("io_uring does not work here");
  CHECK(report.uring.setup.passed());
  CHECK(report.uring.registering.passed());
  CHECK(report.uring.enter.passed());
  CHECK(report.uring.refused_call() == nullptr);
  CHECK(report.uring.entries == 256);
  CHECK(report.uring.completions == 1024);
  CHECK(std::string_view(report.uring.setup_flags).find("DEFER_TASKRUN") != std::string_view::npos);
  CHECK(std::string_view(report.uring.features).find("NODROP") != std::string_view::npos);
  // Both are older than the oldest kernel whose rings keel uses.
  CHECK(report.uring.multishot_accept.passed());
  CHECK(report.uring.multishot_receive.passed());
  CHECK(report.uring.request_count >= 10);
  CHECK(report.uring.requests[0].known);
}

TEST_CASE("A3: probe: where epoll is asked for no call of io_uring is made: it would kill") {
  const auto attempt = [](engine_choice choice, const char* by_environment) {
    return in_child([&] {
      const environment_variable set("KEEL_ENGINE", by_environment);
      if (!forbid_io_uring(keel::test::all_of_io_uring, 0)) return no_filter;
      const machine_report report = probe_machine(choice);
      const bool tried = report.uring.setup.made || report.uring.registering.made || report.uring.enter.made;
      return report.works && !tried && std::string_view(report.engine) == "epoll" ? 0 : 1;
    });
  };
  const auto killed = attempt(engine_choice::automatic, nullptr);
  if (killed.exit_code == no_filter) return keel::test::skip("no seccomp filter can be set here");
  CHECK(killed.signal == SIGSYS);
  CHECK(attempt(engine_choice::automatic, "epoll").exit_code == 0);
  CHECK(attempt(engine_choice::epoll, "uring").exit_code == 0);
}

TEST_CASE("A1 A2 A5: probe: it says which call is refused, with which errno, and the likely cause") {
  const auto look = [](const keel::test::forbidden_calls& what, int error_number, std::string_view call) {
    return in_child([&] {
      const environment_variable set("KEEL_ENGINE", nullptr);
      if (!forbid_io_uring(what, error_number)) return no_filter;
      const machine_report report = probe_machine();
      if (!report.works || std::string_view(report.engine) != "epoll") return 1;
      if (report.uring.refused_call() == nullptr || report.uring.refused_call() != call) return 2;
      if (report.uring.refused_errno() != error_number) return 3;
      if (std::string_view(report.uring.likely_cause()).find("seccomp") == std::string_view::npos) return 4;
      return std::string_view(report.reason).find(call) != std::string_view::npos ? 0 : 5;
    });
  };
  const auto first = look({.setup = true}, EPERM, "io_uring_setup");
  if (first.exit_code == no_filter) return keel::test::skip("no seccomp filter can be set here");
  CHECK_MESSAGE(first.exit_code == 0, first.said);
  CHECK(look({.setup = true}, ENOSYS, "io_uring_setup").exit_code == 0);
  CHECK(look({.registering = true}, EPERM, "io_uring_register").exit_code == 0);
  CHECK(look({.registering = true}, ENOSYS, "io_uring_register").exit_code == 0);
  CHECK(look({.enter = true}, EPERM, "io_uring_enter").exit_code == 0);
  CHECK(look({.enter = true}, ENOSYS, "io_uring_enter").exit_code == 0);
}

TEST_CASE("probe: a KEEL_ENGINE that names no engine is told, and nothing is tried") {
  const auto child = in_child([] {
    const environment_variable set("KEEL_ENGINE", "nonsense");
    const machine_report report = probe_machine();
    return !report.works && !report.uring.setup.made && report.reason[0] != '\0' ? 0 : 1;
  });
  CHECK(child.exit_code == 0);
}
