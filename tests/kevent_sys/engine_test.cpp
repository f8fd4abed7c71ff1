#include <doctest/doctest.h>
#include <keel/kevent_sys/engine.hpp>
#include <keel/kevent_sys/queue.hpp>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <grp.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/resource.h>
#include <system_error>
#include <unistd.h>
#include <vector>

#include "support/descriptors.hpp"
#include "support/forbid_io_uring.hpp"
#include "support/in_child.hpp"
#include "support/recorded_operation.hpp"
#include "support/skip.hpp"

using keel::errc;
using keel::kevent_sys::engine;
using keel::kevent_sys::engine_choice;
using keel::kevent_sys::engine_options;
using keel::kevent_sys::event_sink;
using keel::kevent_sys::make_engine;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::test::forbidden_calls;
using keel::test::in_child;

namespace {

constexpr int no_filter = 99;  // exit code of a child that may not have a seccomp filter

// KEEL_ENGINE for the length of a scope.
class chosen_by_environment {
 public:
  explicit chosen_by_environment(const char* value) {
    if (const char* was = std::getenv("KEEL_ENGINE")) before_ = was;
    set(value);
  }
  chosen_by_environment(const chosen_by_environment&) = delete;
  chosen_by_environment& operator=(const chosen_by_environment&) = delete;
  ~chosen_by_environment() { set(before_ ? before_->c_str() : nullptr); }

 private:
  static void set(const char* value) {
    if (value == nullptr) {
      ::unsetenv("KEEL_ENGINE");
    } else {
      ::setenv("KEEL_ENGINE", value, 1);
    }
  }
  std::optional<std::string> before_;
};

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

// Bits of what went wrong in a child that should be told that there is no engine.
int try_without_engine() {
  const std::size_t descriptors = keel::test::open_descriptors();
  int wrong = 0;
  {
    event_sink sink(8);
    const auto made = make_engine(sink, {});
    if (made) wrong |= 1;
    if (made.error() != errc::engine_unavailable) wrong |= 2;
  }
  try {
    const queue q({});
    wrong |= 4;
  } catch (const std::system_error& error) {
    if (error.code() != errc::engine_unavailable) wrong |= 8;
  }
  if (keel::test::open_descriptors() != descriptors) wrong |= 16;
  return wrong;
}

void check_refused(const forbidden_calls& what, int error_number, std::string_view call) {
  CAPTURE(call);
  CAPTURE(error_number);
  const auto child = in_child([&] {
    if (!keel::test::forbid_io_uring(what, error_number)) return no_filter;
    return try_without_engine();
  });
  if (child.exit_code == no_filter) return keel::test::skip("no seccomp filter can be set here");
  CHECK(child.exit_code == 0);
  CHECK(child.said.find(std::string("cannot make an io_uring with 256 entries: ") + std::string(call) + ": " +
                        std::strerror(error_number)) != std::string::npos);
  CHECK(child.said.find("seccomp") != std::string::npos);
  CHECK_MESSAGE(child.said.find("sysctl kernel.io_uring_disabled") != std::string::npos, child.said);
}

// Becomes somebody whose locked memory is limited, and who has locked none so far: as root, a user of our
// own.
bool become_limited(rlim_t locked_bytes) {
  const rlimit limit{locked_bytes, locked_bytes};
  if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return false;
  const auto somebody = uid_t(100'000 + ::getpid());
  return ::geteuid() != 0 ||
         (::setgroups(0, nullptr) == 0 && ::setgid(somebody) == 0 && ::setuid(somebody) == 0);
}

// A queue, when the kernel has freed what this user's rings before it had locked: that takes it some time.
void make_patiently(std::optional<queue>& q, const queue_options& options) {
  for (int attempt = 0; attempt < 500 && !q; ++attempt) {
    try {
      q.emplace(options);
    } catch (const std::system_error&) {
    }
  }
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
    const chosen_by_environment nothing(nullptr);
    CHECK(chosen() == "uring: the best that works here");
    CHECK(chosen({.choice = engine_choice::uring}) == "uring: asked for by the program");
  }
  {
    const chosen_by_environment empty("");
    CHECK(chosen() == "uring: the best that works here");
  }
  {
    const chosen_by_environment automatic("auto");
    CHECK(chosen() == "uring: the best that works here");
  }
  {
    const chosen_by_environment uring("uring");
    CHECK(chosen() == "uring: asked for by KEEL_ENGINE");
    CHECK(chosen({.choice = engine_choice::epoll}) == "epoll: asked for by the program");
  }
  {
    const chosen_by_environment epoll("epoll");
    CHECK(chosen() == "epoll: asked for by KEEL_ENGINE");
    CHECK(chosen({.choice = engine_choice::uring}) == "uring: asked for by the program");
  }
}

TEST_CASE(
    "engine: an unknown KEEL_ENGINE is an error that names the known ones, unless the program has chosen") {
  const chosen_by_environment bad("io_uring");
  const auto child = in_child([] {
    event_sink sink(8);
    return make_engine(sink, {}).error() == errc::not_supported ? 0 : 1;
  });
  CHECK(child.exit_code == 0);
  CHECK(child.said.find("KEEL_ENGINE=io_uring is not an engine of this version") != std::string::npos);
  CHECK(child.said.find("use KEEL_ENGINE=auto, KEEL_ENGINE=uring or KEEL_ENGINE=epoll") != std::string::npos);
  CHECK(chosen({.choice = engine_choice::uring}) == "uring: asked for by the program");
}

TEST_CASE("engine: info() and counters() say what was made and what it did") {
  queue q(with({.entries = 128}));
  CHECK(q.info().entries == 128);
  CHECK(q.info().setup_flags != 0);
  CHECK(answers_a_nop(q));
  CHECK(q.info().provided_buffers);
  CHECK(q.counters().submitted == 1);
  CHECK(q.counters().enters >= 1);
  CHECK(q.counters().stale == 0);
}

TEST_CASE("A1 A2: io_uring_setup is refused: engine_unavailable, the kernel's reason, no descriptor left") {
  check_refused({.setup = true}, ENOSYS, "io_uring_setup");
  check_refused({.setup = true}, EPERM, "io_uring_setup");
}

TEST_CASE("A5: setup passes, but enter or register is refused: the same") {
  check_refused({.enter = true}, EPERM, "io_uring_enter");
  check_refused({.enter = true}, ENOSYS, "io_uring_enter");
  check_refused({.registering = true}, EPERM, "io_uring_register");
  check_refused({.registering = true}, ENOSYS, "io_uring_register");
}

TEST_CASE("A3: KEEL_ENGINE is read before the first call that a sandbox might kill for") {
  const auto attempt = [](const char* value) {
    return in_child([&] {
      const chosen_by_environment set(value);
      if (!keel::test::forbid_io_uring(keel::test::all_of_io_uring, 0)) return no_filter;
      event_sink sink(8);
      const auto made = make_engine(sink, {});
      if (!made) return made.error() == errc::not_supported ? 1 : 2;
      delete *made;
      return 0;
    });
  };
  const auto killed = attempt("uring");
  if (killed.exit_code == no_filter) return keel::test::skip("no seccomp filter can be set here");
  CHECK(killed.signal == SIGSYS);  // the filter works
  CHECK(attempt("epoll").exit_code == 0);
  CHECK(attempt("nonsense").exit_code == 1);
}

TEST_CASE("A9: a ring that exists goes on when later ones are refused") {
  const auto child = in_child([] {
    queue first({});
    if (!answers_a_nop(first)) return 1;
    if (!keel::test::forbid_io_uring({.setup = true}, EPERM)) return no_filter;
    try {
      const queue second({});
      return 2;
    } catch (const std::system_error&) {
    }
    return answers_a_nop(first) ? 0 : 3;
  });
  if (child.exit_code == no_filter) return keel::test::skip("no seccomp filter can be set here");
  CHECK(child.exit_code == 0);
}

TEST_CASE("A4: with 64 KiB of lockable memory the ring gets smaller, or the error is clear") {
  const auto child = in_child([] {
    if (!become_limited(64 * 1024)) return no_filter;
    const std::size_t descriptors = keel::test::open_descriptors();
    {
      std::optional<queue> q;
      make_patiently(q, with({.entries = 1024}));
      if (!q || q->info().entries >= 1024 || q->info().entries < 64) return 1;
      if (!answers_a_nop(*q)) return 2;
      // No memory for the ring of buffers is left: receives work without (E6).
      if (q->info().provided_buffers) return 3;
    }
    std::vector<std::optional<queue>> queues(64);
    try {
      for (auto& q : queues) q.emplace(queue_options{});
      return 4;
    } catch (const std::system_error& error) {
      if (error.code() != errc::engine_unavailable) return 5;
    }
    queues.clear();
    return keel::test::open_descriptors() == descriptors ? 0 : 6;
  });
  if (child.exit_code == no_filter) return keel::test::skip("this process may not become another user");
  CHECK_MESSAGE(child.exit_code == 0, child.said);
  CHECK(child.said.find("io_uring_setup: Cannot allocate memory") != std::string::npos);
  CHECK(child.said.find("ulimit -l") != std::string::npos);
}
