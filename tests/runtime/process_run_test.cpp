#include <keel/runtime/process.hpp>

#include <keel/runtime/spawn.hpp>
#include <keel/runtime/when_all.hpp>

#include <doctest/doctest.h>

#include <csignal>
#include <cstdlib>
#include <ostream>
#include <string>
#include <vector>

#include "support/children.hpp"
#include "support/descriptors.hpp"
#include "support/frame_balance.hpp"
#include "support/in_runtime.hpp"
#include "support/sweep.hpp"

using namespace std::chrono_literals;
using keel::command;
using keel::errc;
using keel::exit_status;
using keel::process;
using keel::process_output;
using keel::result;
using keel::stdio;
using keel::task;
using keel::test::childless;
using keel::test::in_runtime;

namespace {

// Checks at its end that nothing is left.
struct nothing_left {
  nothing_left() = default;
  nothing_left(const nothing_left&) = delete;
  nothing_left& operator=(const nothing_left&) = delete;
  ~nothing_left() {
    CHECK(childless());
    CHECK(keel::test::open_descriptors() == descriptors);
  }
  std::size_t descriptors = keel::test::open_descriptors();
  keel::test::frame_balance frames;
};

// Runs `line` with a timeout that was long enough for it to say hello: longer ones for slow machines.
task<process_output> timed_out_after_hello(std::string_view line, keel::duration grace,
                                           std::string_view input = {}) {
  process_output all;
  for (keel::duration timeout = 200ms; timeout < 100s; timeout *= 3) {
    auto ran =
        co_await process::run(command::shell(line), {.input = input, .timeout = timeout, .grace = grace});
    REQUIRE(ran);
    CHECK(ran->cut_short == errc::timed_out);
    all = *std::move(ran);
    // A grandchild that has left the group says so.
    if (const int pid = std::atoi(all.err.c_str()); pid > 0) ::kill(pid, SIGKILL);
    if (all.out.starts_with("hello\n") && all.status.signal() != SIGTERM) break;
  }
  co_return all;
}

}  // namespace

TEST_CASE("process::run: gives the status and both outputs") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    const auto ran = co_await process::run(command::shell("echo out; echo err >&2; exit 3"));
    REQUIRE(ran);
    CHECK(ran->status == exit_status::exited_with(3));
    CHECK(ran->out == "out\n");
    CHECK(ran->err == "err\n");
    CHECK_FALSE(ran->cut_short);
    CHECK_FALSE(ran->success());
    const auto good = co_await process::run({"true"});
    CHECK(good->success());
    const auto merged =
        co_await process::run(command::shell("echo out; echo err >&2"), {.err = stdio::as_output()});
    CHECK(merged->out == "out\nerr\n");
  });
}

TEST_CASE("process::run: a large input and a large output at once do not block each other") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    const std::string text = keel::test::pattern(1 << 20);
    const auto cat = co_await process::run({"cat"}, {.input = text});
    REQUIRE(cat);
    CHECK(cat->out == text);
    const auto both = co_await process::run(command::shell("tee /dev/stderr"), {.input = text});
    REQUIRE(both);
    CHECK(both->out == text);
    CHECK(both->err == text);
  });
}

TEST_CASE("process::run: one that does not want its input has not failed (F6)") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    const std::string text = keel::test::pattern(1 << 20);
    const auto head = co_await process::run({"head", "-c", "3"}, {.input = text});
    CHECK(head->success());
    CHECK(head->out == text.substr(0, 3));
    const auto none = co_await process::run({"true"}, {.input = text});
    CHECK(none->success());
  });
}

TEST_CASE("process::run: what cannot be started is an error") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    const auto ran = co_await process::run({"keel-no-such-program"});
    CHECK(ran.error() == std::errc::no_such_file_or_directory);
  });
}

TEST_CASE("process::run: on a timeout it is asked to end, and what it said is there") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    const auto ran = co_await timed_out_after_hello(
        "trap 'echo bye; exit 7' TERM; echo hello; while :; do sleep 0.01; done 2>/dev/null", 1h);
    CHECK(ran.status == exit_status::exited_with(7));
    CHECK(ran.out == "hello\nbye\n");
    CHECK_FALSE(ran.success());
  });
}

TEST_CASE("process::run: one that ignores SIGTERM is killed after the grace") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    const std::string text = keel::test::pattern(1 << 20);
    const auto ran = co_await timed_out_after_hello(
        "exec 2>/dev/null; trap '' TERM; echo hello; while :; do sleep 1000; done", 20ms, text);
    CHECK(ran.status == exit_status::killed_by(SIGKILL));
    CHECK(ran.out == "hello\n");
  });
}

TEST_CASE("process::run: a grandchild that keeps the output open is ended by the timeout") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    // In its group, and out of it.
    for (const char* const line :
         {"sleep 1000 & echo hello", "setsid sleep 1000 & echo $! >&2; echo hello"}) {
      const auto ran = co_await timed_out_after_hello(line, 20ms);
      CHECK(ran.status.success());
      CHECK(ran.out == "hello\n");
    }
  });
}

TEST_CASE("process::run: one that says more than output_max is killed") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    for (const char* const line : {"yes", "yes >&2", "setsid sleep 1000 & echo $! >&2; yes"}) {
      const auto ran = co_await process::run(command::shell(line), {.output_max = 100'000});
      REQUIRE(ran);
      CHECK(ran->cut_short == std::errc::no_buffer_space);
      CHECK(ran->status == exit_status::killed_by(SIGKILL));
      CHECK((ran->out.size() == 100'000 || ran->err.size() == 100'000));
      if (ran->err.size() < 100'000 && !ran->err.empty()) ::kill(std::stoi(ran->err), SIGKILL);
    }
    const auto just = co_await process::run({"printf", "12345"}, {.output_max = 5});
    CHECK(just->success());
    CHECK(just->out == "12345");
  });
}

TEST_CASE("process::run: a stop kills its group and is told, at whatever point it comes") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    for (int turns = 0; turns < 12; ++turns) {
      CAPTURE(turns);
      auto running = keel::spawn(
          [](std::string text) -> task<result<process_output>> {
            auto ran = co_await process::run(command::shell("cat; sleep 1000 & wait"), {.input = text});
            co_return ran;
          },
          keel::test::pattern(200'000));
      co_await keel::test::some_turns(turns);
      running.request_stop();
      const auto ended = co_await std::move(running);
      CHECK(ended.error() == errc::operation_canceled);
      CHECK(childless());
    }
  });
}

TEST_CASE("process::run: stopped after any number of events, it leaves nothing behind") {
  const nothing_left check;
  const std::string text = keel::test::pattern(150'000);
  const auto runs = keel::test::sweep([&text](keel::runtime& rt) {
    rt.spawn(
        [](std::string_view input) -> task<> {
          const auto ran = co_await process::run({"cat"}, {.input = input});
          if (ran) CHECK(ran->out == input);
        },
        std::string_view(text));
  });
  CHECK(runs > 5);
}

TEST_CASE("process::run: many at once") {
  const nothing_left check;
  in_runtime([]() -> task<> {
    auto one = [](int number) -> task<bool> {
      const std::string text = std::to_string(number);
      const auto ran = co_await process::run({"cat"}, {.input = text});
      co_return ran && ran->success() && ran->out == text;
    };
    std::vector<keel::join_handle<bool>> all;
    for (int i = 0; i < 50; ++i) all.push_back(keel::spawn(one, i));
    for (auto& each : all) {
      const bool good = co_await std::move(each);
      CHECK(good);
    }
  });
}
