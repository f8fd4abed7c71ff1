#include <keel/runtime/process.hpp>

#include <keel/kevent_sys/sim_engine.hpp>
#include <keel/runtime/signals.hpp>
#include <keel/runtime/spawn.hpp>

#include <doctest/doctest.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <array>
#include <csignal>
#include <functional>
#include <ostream>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include "support/children.hpp"
#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/in_runtime.hpp"
#include "support/temporary_folder.hpp"
#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::command;
using keel::errc;
using keel::exit_status;
using keel::process;
using keel::process_group;
using keel::process_options;
using keel::result;
using keel::stdio;
using keel::task;
using keel::test::childless;
using keel::test::in_runtime;
using keel::test::read_all;
using keel::test::some_turns;
using keel::test::started;
using keel::test::wait_for;

static_assert(std::is_nothrow_move_constructible_v<process> && !std::is_copy_constructible_v<process>);

namespace {

// What it says on its standard output.
task<std::string> said_by(command what, process_options options = {}) {
  options.out = stdio::pipe();
  auto child = process::spawn(what, options).value();
  auto said = co_await read_all(child.stdout_pipe());
  const auto status = co_await child.wait();
  CHECK_MESSAGE(status.value().success(), status.value().text());
  co_return said;
}

task<exit_status> end_of(command what) {
  auto child = process::spawn(what, {.err = stdio::null()}).value();
  const auto status = co_await child.wait();
  co_return status.value();
}

std::string why(const result<process>& failed) {
  REQUIRE_FALSE(failed.has_value());
  return failed.why().doing;
}

}  // namespace

TEST_CASE("process: an exit code, or the signal that killed it, is what wait gives") {
  in_runtime([]() -> task<> {
    const auto good = co_await end_of({"true"});
    CHECK(good.success());
    for (const int code : {1, 3, 127, 255}) {
      const auto status = co_await end_of(command::shell("exit " + std::to_string(code)));
      CHECK(status == exit_status::exited_with(code));
    }
    for (const int signal : {SIGTERM, SIGKILL, SIGUSR1}) {
      const auto status = co_await end_of(command::shell("kill -" + std::to_string(signal) + " $$"));
      CHECK(status == exit_status::killed_by(signal));
    }
    CHECK(childless());
  });
}

TEST_CASE("process: words reach the program as they are") {
  in_runtime([]() -> task<> {
    const std::string path = "two words";
    const auto said = co_await said_by({"printf", "%s|", path, "", "$HOME", "a\nb", "*"});
    CHECK(said == "two words||$HOME|a\nb|*|");
  });
}

TEST_CASE("process: has the environment and the folder of its command") {
  in_runtime([]() -> task<> {
    const auto one = co_await said_by(command("env").with_empty_environment().with_variable("A", "b c"));
    CHECK(one == "A=b c\n");
    const auto added = co_await said_by(command::shell("echo $KEEL_X $HOME").with_variable("KEEL_X", "7"));
    CHECK(added == "7 " + std::string(::getenv("HOME")) + "\n");
    const auto folder = co_await said_by(command("pwd").in_folder("/usr"));
    CHECK(folder == "/usr\n");
    const auto relative = co_await said_by(command("bin/pwd").in_folder("/usr"));
    CHECK(relative == "/usr\n");
  });
}

TEST_CASE("process: a program that cannot be started is an error that names it and the way out") {
  in_runtime([]() -> task<> {
    const auto before = keel::test::open_descriptors();
    const keel::test::temporary_folder folder;
    const std::string plain = folder / "plain";
    const std::string orphan = folder / "orphan";
    folder.write("plain", "echo no\n");
    folder.write("orphan", "#!/no/such/interpreter\n");
    ::chmod(orphan.c_str(), 0755);

    const auto missing = process::spawn({"keel-no-such-program"});
    CHECK(missing.error() == std::errc::no_such_file_or_directory);
    CHECK(why(missing) ==
          "spawn 'keel-no-such-program' (no folder of PATH has it: install it, or give its path)");
    const auto no_path = process::spawn({"/no/such/program"});
    CHECK(no_path.error() == std::errc::no_such_file_or_directory);
    CHECK(why(no_path).find("there is no such file") != std::string::npos);
    CHECK(process::spawn({""}).error() == std::errc::no_such_file_or_directory);
    const auto no_interpreter = process::spawn({orphan});
    CHECK(no_interpreter.error() == std::errc::no_such_file_or_directory);
    CHECK(why(no_interpreter).find("interpreter") != std::string::npos);
    const auto forbidden = process::spawn({plain});
    CHECK(forbidden.error() == std::errc::permission_denied);
    CHECK(why(forbidden).find("chmod +x") != std::string::npos);
    ::chmod(plain.c_str(), 0755);
    const auto no_program = process::spawn({plain});
    CHECK(no_program.error() == std::errc::executable_format_error);
    CHECK(why(no_program).find("#!") != std::string::npos);
    const auto no_folder = process::spawn(command("true").in_folder("/no/such/folder"));
    CHECK(no_folder.error() == std::errc::no_such_file_or_directory);
    CHECK(why(no_folder) == "spawn 'true' in '/no/such/folder' (its folder cannot be entered)");
    const auto too_long = process::spawn({"true", std::string(1 << 20, 'x')});
    CHECK(too_long.error() == std::errc::argument_list_too_long);
    CHECK(process::spawn({"true", std::string("a\0b", 3)}).error() == std::errc::invalid_argument);
    CHECK_THROWS_WITH(missing.value(), doctest::Contains("keel-no-such-program"));
    // The same text again is the same memory.
    CHECK(process::spawn({"keel-no-such-program"}).why().doing == missing.why().doing);

    CHECK(keel::test::open_descriptors() == before);
    CHECK(childless());
    co_await some_turns();
  });
}

TEST_CASE("process: its streams are what was asked for") {
  in_runtime([]() -> task<> {
    const auto none = co_await said_by({"cat"});
    CHECK(none == "");
    const auto merged =
        co_await said_by(command::shell("echo one; echo two >&2"), {.err = stdio::as_output()});
    CHECK(merged == "one\ntwo\n");

    auto child = process::spawn(command::shell("read a; echo $a; echo b >&2"),
                                {.in = stdio::pipe(), .out = stdio::pipe(), .err = stdio::pipe()})
                     .value();
    const auto written = co_await child.stdin_pipe().write_all(keel::as_bytes("a\n"));
    CHECK(written);
    const auto out = co_await read_all(child.stdout_pipe());
    CHECK(out == "a\n");
    const auto err = co_await read_all(child.stderr_pipe());
    CHECK(err == "b\n");
    const auto status = co_await child.wait();
    CHECK(status->success());

    // Descriptors of our own; both at once, and one of the three standard ones in another's place.
    auto ends = keel::test::pipe_pair();
    auto to_ours = process::spawn(command::shell("echo a; echo b >&2"),
                                  {.out = stdio::to(ends.theirs), .err = stdio::to(ends.theirs)})
                       .value();
    const auto ended = co_await to_ours.wait();
    CHECK(ended->success());
    std::array<char, 16> text{};
    CHECK(::read(ends.ours.get(), text.data(), text.size()) == 4);
    CHECK(std::string(text.data()) == "a\nb\n");
    auto crossed =
        process::spawn(command::shell("test /proc/self/fd/0 -ef /proc/$PPID/fd/2 &&"
                                      " test /proc/self/fd/2 -ef /proc/$PPID/fd/1"),
                       {.in = stdio::to(keel::borrowed_fd(2)), .err = stdio::to(keel::borrowed_fd(1))})
            .value();
    const auto matched = co_await crossed.wait();
    CHECK(matched->success());
  });
}

TEST_CASE("process: a child has descriptors 0, 1 and 2 and no others (D7, I4)") {
  in_runtime([]() -> task<> {
    const int leaking = ::dup(2);
    // The shell itself opens none for this.
    const std::string list =
        "fd=0; while [ $fd -lt 300 ]; do"
        " [ -e /proc/$$/fd/$fd ] && echo $fd; fd=$((fd + 1)); done; true";
    const auto closed = co_await said_by(command::shell(list));
    CHECK(closed == "0\n1\n2\n");
    // Even so none of keel's is inherited, but that one, and what we have inherited ourselves.
    const auto open = co_await said_by(command::shell(list), {.close_others = false});
    CHECK(open.find('\n' + std::to_string(leaking) + '\n') != std::string::npos);
    std::istringstream lines(open);
    for (int fd = 0; lines >> fd;) CHECK_FALSE(keel::test::is_close_on_exec(fd));
    ::close(leaking);
  });
}

TEST_CASE("process: in a child no signal is blocked, ignored or handled (I4)") {
  in_runtime([]() -> task<> {
    sigset_t blocked;
    ::sigemptyset(&blocked);
    ::sigaddset(&blocked, SIGUSR2);
    ::sigprocmask(SIG_BLOCK, &blocked, nullptr);
    const auto before = ::signal(SIGPIPE, SIG_IGN);
    keel::signals mine(SIGUSR1);
    const auto said = co_await said_by({"cat", "/proc/self/status"});
    CHECK(said.find("SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n") !=
          std::string::npos);
    sigset_t now;
    ::sigprocmask(SIG_SETMASK, nullptr, &now);
    CHECK(::sigismember(&now, SIGUSR2) == 1);
    CHECK(::sigismember(&now, SIGUSR1) == 0);
    ::sigprocmask(SIG_UNBLOCK, &blocked, nullptr);
    ::signal(SIGPIPE, before);
  });
}

TEST_CASE("process: a wait that is stopped loses no status, and one that has ended may be repeated") {
  in_runtime([]() -> task<> {
    auto child = process::spawn({"cat"}, {.in = stdio::pipe(), .out = stdio::null()}).value();
    auto waiting = keel::spawn(&wait_for, std::ref(child));
    co_await some_turns();
    CHECK(child.ended() == nullptr);
    waiting.request_stop();
    const auto stopped = co_await std::move(waiting);
    CHECK(stopped.error() == errc::operation_canceled);
    auto at_once = keel::spawn(&wait_for, std::ref(child));
    at_once.request_stop();
    const auto none = co_await std::move(at_once);
    CHECK(none.error() == errc::operation_canceled);

    // Both at once: whoever asks next has the status.
    auto racing = keel::spawn(&wait_for, std::ref(child));
    co_await some_turns();
    CHECK(child.kill(SIGTERM));
    racing.request_stop();
    const auto first = co_await std::move(racing);
    if (first) CHECK(*first == exit_status::killed_by(SIGTERM));
    for (int i = 0; i < 3; ++i) {
      const auto again = co_await child.wait();
      CHECK(*again == exit_status::killed_by(SIGTERM));
    }
    REQUIRE(child.ended() != nullptr);
    CHECK(*child.ended() == exit_status::killed_by(SIGTERM));
    // It is known, also to a task that was stopped.
    auto late = keel::spawn(&wait_for, std::ref(child));
    late.request_stop();
    const auto known = co_await std::move(late);
    CHECK(known);
    CHECK(childless());
  });
}

TEST_CASE("process: signals reach it, or its group, until it has ended") {
  in_runtime([]() -> task<> {
    // Its own child waits for ever, with the pipe.
    auto one = co_await started(command::shell("trap '' TERM; sleep 1000 & echo $!; wait; wait"));
    process child = std::move(one.child);
    CHECK(child.kill(0));
    CHECK(child.kill_group(0));
    CHECK(child.kill(-1).error() == std::errc::invalid_argument);
    CHECK(child.kill_group(SIGKILL));
    const auto rest = co_await read_all(child.stdout_pipe());
    CHECK(rest == "");
    const auto status = co_await child.wait();
    CHECK(*status == exit_status::killed_by(SIGKILL));
    CHECK(child.kill().error() == std::errc::no_such_process);
  });
}

TEST_CASE("process: has a group of its own, or ours, or a session") {
  in_runtime([]() -> task<> {
    const std::string ids = "cut -d' ' -f1,5,6 /proc/$$/stat";
    auto line = [](int pid, int group, int session) {
      return std::to_string(pid) + ' ' + std::to_string(group) + ' ' + std::to_string(session) + '\n';
    };
    for (const auto group : {process_group::own, process_group::same, process_group::session}) {
      auto child = process::spawn(command::shell(ids), {.out = stdio::pipe(), .group = group}).value();
      const auto said = co_await read_all(child.stdout_pipe());
      const int own = child.pid();
      if (group == process_group::own) CHECK(said == line(own, own, ::getsid(0)));
      if (group == process_group::same) CHECK(said == line(own, ::getpgrp(), ::getsid(0)));
      if (group == process_group::session) CHECK(said == line(own, own, own));
      const auto status = co_await child.wait();
      CHECK(status->success());
    }
  });
}

TEST_CASE("process: may be moved, and assigned") {
  in_runtime([]() -> task<> {
    auto first = process::spawn(command::shell("exit 1"), {.out = stdio::pipe()}).value();
    auto second = process::spawn(command::shell("exit 2"), {.out = stdio::pipe()}).value();
    first = std::move(second);
    const auto none = co_await read_all(first.stdout_pipe());
    CHECK(none == "");
    const auto status = co_await first.wait();
    CHECK(*status == exit_status::exited_with(2));
  });
  CHECK(childless());
}

TEST_CASE("process: a simulated world has none") {
  keel::kevent_sys::sim_world world;
  keel::runtime_options options;
  options.factory = world.factory();
  auto outside = process::spawn({"cat"}, {.in = stdio::pipe(), .out = stdio::null()}).value();
  keel::run(
      [](process& child) -> task<> {
        const auto refused = process::spawn({"true"});
        CHECK(refused.error() == errc::not_supported);
        CHECK(why(refused).find("a simulated world has no processes") != std::string::npos);
        const auto status = co_await child.wait();
        CHECK(status.error() == errc::not_supported);
      }(outside),
      options);
}

TEST_CASE("process: two who wait, one that goes while it is awaited, and a stream that is no pipe are bugs") {
  // It goes with us.
  auto forever = [] {
    return process::spawn({"cat"}, {.in = stdio::pipe(), .out = stdio::null(), .err = stdio::null()}).value();
  };
  auto two = [forever]() -> task<> {
    auto child = forever();
    auto one = keel::spawn(&wait_for, std::ref(child));
    auto other = keel::spawn(&wait_for, std::ref(child));
    co_await some_turns();
  };
  CHECK_DEATH(keel::run(two()), "one reader and one writer at a time");
  auto goes = [forever]() -> task<> {
    auto child = forever();
    auto one = keel::spawn(&wait_for, std::ref(child));
    co_await some_turns();
    const process other = std::move(child);
  };
  CHECK_DEATH(keel::run(goes()), "a process was moved while somebody waits for it");
  CHECK_DEATH(forever().stdout_pipe(), "spawn it with stdio::pipe()");
  CHECK_DEATH((void)process::spawn({"true"}, {.out = stdio::as_output()}), "as_output() is for err");
}
