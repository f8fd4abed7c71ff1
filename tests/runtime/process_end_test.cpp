#include <keel/runtime/process.hpp>

#include <keel/runtime/spawn.hpp>

#include <doctest/doctest.h>

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <functional>
#include <ostream>
#include <string>
#include <vector>

#include "support/children.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/in_runtime.hpp"
#include "support/older_kernel.hpp"
#include "support/skip.hpp"

using namespace std::chrono_literals;
using keel::command;
using keel::drop_policy;
using keel::errc;
using keel::exit_status;
using keel::process;
using keel::result;
using keel::stdio;
using keel::task;
using keel::test::childless;
using keel::test::in_runtime;
using keel::test::read_all;
using keel::test::some_turns;
using keel::test::started;
using keel::test::wait_for;

TEST_CASE("process: a closed standard input of ours is no trouble") {
  const auto end = keel::test::in_child([] {
    ::close(0);
    ::close(1);
    bool good = false;
    keel::run([](bool* seen) -> task<> {
      // The pipes get the numbers 0 and 1 now.
      auto child = process::spawn({"cat"}, {.in = stdio::pipe(), .out = stdio::pipe()}).value();
      const auto written = co_await child.stdin_pipe().write_all(keel::as_bytes("through"));
      co_await child.stdin_pipe().close();
      const auto said = co_await read_all(child.stdout_pipe());
      const auto status = co_await child.wait();
      *seen = written && said == "through" && status->success();
    }(&good));
    return good ? 0 : 1;
  });
  CHECK_MESSAGE(end.exit_code == 0, end.said);
}

TEST_CASE("process: SIGCHLD is as it was (I2)") {
  in_runtime([]() -> task<> {
    struct sigaction before = {};
    ::sigaction(SIGCHLD, nullptr, &before);
    auto child = process::spawn({"true"}).value();
    struct sigaction now = {};
    ::sigaction(SIGCHLD, nullptr, &now);
    CHECK((now.sa_handler == before.sa_handler && now.sa_flags == before.sa_flags));
    const auto status = co_await child.wait();
    CHECK(status->success());
  });
}

TEST_CASE("process: with SIGCHLD ignored the end is seen, and the status where the kernel keeps it (I2)") {
  in_runtime([]() -> task<> {
    const auto before = ::signal(SIGCHLD, SIG_IGN);
    auto child = process::spawn(command::shell("exit 3")).value();
    const auto status = co_await child.wait();
    if (status) {
      CHECK(*status == exit_status::exited_with(3));
    } else {
      CHECK(status.error() == std::errc::no_child_process);
      CHECK(std::string(status.why().doing).find("SIGCHLD is ignored") != std::string::npos);
    }
    CHECK(process::spawn({"/no/such/program"}).error() == std::errc::no_such_file_or_directory);
    {
      auto dropped = process::spawn({"sleep", "1000"});
      CHECK(dropped);
    }
    ::signal(SIGCHLD, before);
  });
  CHECK(childless());
}

TEST_CASE("process: somebody who reaps all children hides no end (I2)") {
  in_runtime([]() -> task<> {
    auto child = process::spawn({"true"}).value();
    REQUIRE(::waitpid(child.pid(), nullptr, 0) == child.pid());
    const auto status = co_await child.wait();
    CHECK((status ? status->success() : status.error() == std::errc::no_child_process));
    CHECK(child.kill().error() == std::errc::no_such_process);
    CHECK(child.kill_group().error() == std::errc::no_such_process);
  });
}

TEST_CASE("process: one that is dropped is killed with its group, and reaped") {
  const auto before = keel::test::open_descriptors();
  int grandchild = 0;
  in_runtime([&]() -> task<> {
    auto parent = co_await started(command::shell("sleep 1000 & echo $!; wait"));
    grandchild = std::stoi(parent.said);
    CHECK(keel::test::lives(grandchild));
    const int pid = parent.child.pid();
    { const process dropped = std::move(parent.child); }
    co_await keel::test::death_of_process(pid);
  });
  CHECK(childless());
  CHECK(keel::test::open_descriptors() == before);
  in_runtime([&]() -> task<> { co_await keel::test::death_of_process(grandchild); });
}

TEST_CASE("process: one that is dropped at the end of the runtime, or without one, is killed and reaped") {
  const auto before = keel::test::open_descriptors();
  in_runtime([]() -> task<> {
    const auto child = process::spawn({"sleep", "1000"});
    CHECK(child);
    co_await some_turns();
  });
  CHECK(childless());
  // While what is left is stopped.
  in_runtime([]() -> task<> {
    for (const auto policy : {drop_policy::kill, drop_policy::terminate}) {
      keel::spawn(
          [](drop_policy on_drop) -> task<> {
            auto child = process::spawn({"sleep", "1000"}, {.on_drop = on_drop}).value();
            const auto stopped = co_await child.wait();
            CHECK(stopped.error() == errc::operation_canceled);
          },
          policy);
    }
    co_await some_turns();
  });
  CHECK(childless());
  for (const auto policy : {drop_policy::kill, drop_policy::terminate}) {
    CHECK(process::spawn({"sleep", "1000"}, {.on_drop = policy}));
    CHECK(childless());
  }
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("process: drop_policy::terminate asks first, and kills after the grace") {
  in_runtime([]() -> task<> {
    auto ends = keel::test::pipe_pair();
    const std::string loop = "; echo up; while :; do sleep 0.01; done";
    const command bye = command::shell("trap 'echo bye >&2; exit' TERM" + loop);
    int pid = 0;
    {
      const auto polite = co_await started(
          bye, {.err = stdio::to(ends.theirs), .on_drop = drop_policy::terminate, .grace = 1h});
      pid = polite.child.pid();
    }
    co_await keel::test::death_of_process(pid);
    std::array<char, 64> text{};
    // A shell may also say that its sleep was terminated.
    CHECK(::read(ends.ours.get(), text.data(), text.size() - 1) >= 4);
    CHECK(std::string(text.data()).ends_with("bye\n"));
    {
      const auto deaf = co_await started(command::shell("trap '' TERM" + loop),
                                         {.on_drop = drop_policy::terminate, .grace = 10ms});
      pid = deaf.child.pid();
    }
    co_await keel::test::death_of_process(pid);
  });
  CHECK(childless());
}

TEST_CASE("process: drop_policy::detach lets it live, and reaps it when it ends") {
  const auto before = keel::test::open_descriptors();
  int survivor = 0;
  in_runtime([&]() -> task<> {
    auto ends = keel::test::pipe_pair();
    int pid = 0;
    {
      auto child =
          process::spawn({"cat"}, {.in = stdio::to(ends.ours), .on_drop = drop_policy::detach}).value();
      pid = child.pid();
    }
    co_await some_turns();
    CHECK(keel::test::lives(pid));
    ends.theirs.reset();
    co_await keel::test::death_of_process(pid);

    auto child = process::spawn({"sleep", "1000"}, {.on_drop = drop_policy::detach}).value();
    survivor = child.pid();
  });
  CHECK(keel::test::open_descriptors() == before);
  REQUIRE(::kill(survivor, SIGKILL) == 0);
  CHECK(::waitpid(survivor, nullptr, 0) == survivor);
  CHECK(childless());
}

TEST_CASE(
    "process: on an older kernel groups are signalled until they are reaped, and a status may be lost (I2)") {
  const auto end = keel::test::in_child([] {
    if (!keel::test::behave_like_linux_6_1()) return 77;
    int wrong = 0;
    keel::run([](int* seen) -> task<> {
      auto check = [seen](int bit, bool good) { *seen |= good ? 0 : bit; };
      // The first process has ended when its group is told.
      auto one = co_await started(command::shell("sleep 1000 & echo $!"));
      const int grandchild = std::stoi(one.said);
      while (keel::test::lives(one.child.pid())) co_await keel::test::pause(1ms);
      check(1, bool(one.child.kill_group(SIGKILL)));
      co_await keel::test::death_of_process(grandchild);
      const auto status = co_await one.child.wait();
      check(2, status && status->success());
      check(4, one.child.kill_group().error() == std::errc::no_such_process);

      ::signal(SIGCHLD, SIG_IGN);
      auto lost = process::spawn(command::shell("exit 3")).value();
      const auto unknown = co_await lost.wait();
      check(8, unknown.error() == std::errc::no_child_process);
      check(16, std::string(unknown.why().doing).find("SIGCHLD is ignored") != std::string::npos);
      check(32, lost.ended() == nullptr);
      const auto ran = co_await process::run({"true"});
      check(64, ran.error() == std::errc::no_child_process);
    }(&wrong));
    return wrong;
  });
  if (end.exit_code == 77) return keel::test::skip("no seccomp filter here");
  CHECK_MESSAGE(end.exit_code == 0, end.said);
}

TEST_CASE("process: where no process may be added, spawn says which limit to look at (I8)") {
  if (::geteuid() != 0) return keel::test::skip("only root becomes somebody else");
  const auto end = keel::test::in_child([] {
    const struct rlimit none = {0, 0};
    if (::setrlimit(RLIMIT_NPROC, &none) != 0 || ::setresuid(65534, 65534, 65534) != 0) return 1;
    const auto child = process::spawn({"/bin/true"});
    if (child.error() != std::errc::resource_unavailable_try_again) return 2;
    return std::string(child.why().doing).find("ulimit -u") != std::string::npos ? 0 : 3;
  });
  CHECK_MESSAGE(end.exit_code == 0, end.said);
}

TEST_CASE("process: 200 children at once leave no zombie and no descriptor (I2)") {
  const auto before = keel::test::open_descriptors();
  in_runtime([]() -> task<> {
    std::vector<process> all;
    for (int i = 0; i < 200; ++i) {
      all.push_back(process::spawn(command::shell("read x; exit " + std::to_string(i)),
                                   {.in = stdio::pipe(), .out = stdio::pipe()})
                        .value());
    }
    std::vector<keel::join_handle<result<exit_status>>> waits;
    for (process& child : all) waits.push_back(keel::spawn(&wait_for, std::ref(child)));
    co_await some_turns();
    for (process& child : all) co_await child.stdin_pipe().close();
    for (int i = 0; i < 200; ++i) {
      const auto status = co_await std::move(waits[std::size_t(i)]);
      CHECK(status.value() == exit_status::exited_with(i));
    }
    CHECK(childless());
    // And as many that nobody waits for.
    all.clear();
    for (int i = 0; i < 200; ++i) all.push_back(process::spawn({"sleep", "1000"}).value());
  });
  CHECK(childless());
  CHECK(keel::test::open_descriptors() == before);
}

TEST_CASE("process: where descriptors run out, spawn fails and leaves nothing") {
  in_runtime([]() -> task<> {
    const auto before = keel::test::open_descriptors();
    for (int left = 0; left < 9; ++left) {
      CAPTURE(left);
      const keel::test::descriptor_limit limit(left);
      const auto child =
          process::spawn({"true"}, {.in = stdio::pipe(), .out = stdio::pipe(), .err = stdio::pipe()});
      if (child) {
        CHECK(left >= 7);
      } else {
        CHECK(child.error() == std::errc::too_many_files_open);
        CHECK(std::string(child.why().doing).find("ulimit -n") != std::string::npos);
      }
    }
    // Those that were started go in the background.
    while (!childless()) co_await keel::test::pause(1ms);
    co_await some_turns();
    CHECK(keel::test::open_descriptors() == before);
  });
}
