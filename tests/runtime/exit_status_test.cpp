#include <keel/runtime/exit_status.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <ostream>

using keel::exit_status;

TEST_CASE("exit_status: says how a process ended") {
  CHECK(exit_status::exited_with(3).text() == "exited with 3");
  CHECK(exit_status::killed_by(SIGTERM).text() == "killed by SIGTERM");
  CHECK(exit_status::killed_by(SIGSEGV, true).text() == "killed by SIGSEGV (core dumped)");
  CHECK(exit_status::killed_by(50).text() == "killed by signal 50");
}

TEST_CASE("exit_status: success is exit code 0") {
  CHECK(exit_status::exited_with(0).success());
  CHECK_FALSE(exit_status::exited_with(1).success());
  CHECK_FALSE(exit_status::killed_by(SIGKILL).success());
  CHECK(exit_status::exited_with(7).code() == 7);
  CHECK(exit_status::killed_by(SIGKILL).code() == -1);
  CHECK(exit_status::killed_by(SIGKILL).signal() == SIGKILL);
}

TEST_CASE("exit_status: from what wait says") {
  CHECK(exit_status::from_wait(3 << 8) == exit_status::exited_with(3));
  CHECK(exit_status::from_wait(SIGKILL) == exit_status::killed_by(SIGKILL));
  CHECK(exit_status::from_wait(SIGSEGV | 0x80) == exit_status::killed_by(SIGSEGV, true));
}
