// What becomes of an engine where io_uring is refused, in part or as a whole, at once or later.

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <grp.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <fstream>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>

#include "support/descriptors.hpp"
#include "support/environment.hpp"
#include "support/forbid_io_uring.hpp"
#include "support/in_child.hpp"
#include "support/recorded_operation.hpp"
#include "support/skip.hpp"

using keel::errc;
using keel::kevent_sys::engine_choice;
using keel::kevent_sys::engine_info;
using keel::kevent_sys::event_sink;
using keel::kevent_sys::make_engine;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::test::answer_of;
using keel::test::child_end;
using keel::test::environment_variable;
using keel::test::forbid_io_uring;
using keel::test::forbidden_calls;
using keel::test::in_child;
using keel::test::recorded;
using keel::test::turn_until;

namespace {

constexpr int not_possible = 99;  // exit code of a child that may not do to itself what the test needs

struct refused {
  forbidden_calls what;
  int error_number;
  const char* call;
};
const refused every_refusal[] = {
    {{.setup = true}, EPERM, "io_uring_setup"},          {{.setup = true}, ENOSYS, "io_uring_setup"},
    {{.enter = true}, EPERM, "io_uring_enter"},          {{.enter = true}, ENOSYS, "io_uring_enter"},
    {{.registering = true}, EPERM, "io_uring_register"}, {{.registering = true}, ENOSYS, "io_uring_register"},
};

queue_options with(engine_choice choice) {
  queue_options options;
  options.engine.choice = choice;
  return options;
}

bool is(const queue& q, std::string_view name) {
  return q.info().name == name;
}

bool answers_a_nop(queue& q) {
  recorded op({.code = opcode::nop});
  q.submit(op);
  return turn_until(q, [&] { return op.ended(); });
}

std::size_t count_of(std::string_view text, std::string_view part) {
  std::size_t count = 0;
  for (std::size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++count;
  return count;
}

// Mappings of this process that belong to rings.
std::size_t mapped_rings() {
  std::ifstream maps("/proc/self/maps");
  std::size_t count = 0;
  for (std::string line; std::getline(maps, line);) count += line.find("io_uring") != line.npos;
  return count;
}

// `action` where `refusal` holds, and nobody chooses. False when there can be no such place.
template <class Action>
bool in_refusal(const refused& refusal, child_end& seen, Action action) {
  CAPTURE(refusal.call);
  CAPTURE(refusal.error_number);
  seen = in_child([&] {
    const environment_variable nothing("KEEL_ENGINE", nullptr);
    return forbid_io_uring(refusal.what, refusal.error_number) ? action() : not_possible;
  });
  if (seen.exit_code == not_possible) keel::test::skip("no seccomp filter can be set here");
  return seen.exit_code != not_possible;
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

}  // namespace

TEST_CASE(
    "A1 A2 A5 A10: each call of io_uring refused: epoll works instead, and no descriptor or ring is left") {
  for (const refused& refusal : every_refusal) {
    child_end seen;
    const bool tried = in_refusal(refusal, seen, [] {
      const std::size_t descriptors = keel::test::open_descriptors();
      for (int i = 0; i < 3; ++i) {
        queue q({});
        if (!is(q, "epoll")) return 1;
        if (!answers_a_nop(q)) return 2;
      }
      if (mapped_rings() != 0) return 3;
      return keel::test::open_descriptors() == descriptors ? 0 : 4;
    });
    if (!tried) return;
    CHECK_MESSAGE(seen.exit_code == 0, seen.said);
  }
}

TEST_CASE("A1 A2 A5: info() says which call was refused, with which errno, and what the fallback costs") {
  for (const refused& refusal : every_refusal) {
    child_end seen;
    const bool tried = in_refusal(refusal, seen, [&] {
      const queue q({});
      const engine_info& info = q.info();
      if (info.refused_call == nullptr || std::strcmp(info.refused_call, refusal.call) != 0) return 1;
      if (info.refused_errno != refusal.error_number) return 2;
      const std::string_view reason = info.reason;
      if (reason.find(std::string(refusal.call) + ": " + std::strerror(refusal.error_number)) == reason.npos)
        return 3;
      return reason.find("costs") != reason.npos ? 0 : 4;
    });
    if (!tried) return;
    CHECK_MESSAGE(seen.exit_code == 0, seen.said);
  }
}

TEST_CASE("A1 A2 A5 L5: the fallback is told once per process: the call, the kernel's words, the way out") {
  for (const refused& refusal : every_refusal) {
    child_end seen;
    const bool tried = in_refusal(refusal, seen, [] {
      const queue first({});
      const queue second({});
      std::thread([] { const queue third({}); }).join();
      return 0;
    });
    if (!tried) return;
    CHECK(seen.exit_code == 0);
    CHECK(count_of(seen.said, "keel: ") == 1);
    CHECK(seen.said.find(std::string("keel: cannot make an io_uring with 256 entries: ") + refusal.call +
                         ": " + std::strerror(refusal.error_number)) != std::string::npos);
    CHECK(seen.said.find("seccomp") != std::string::npos);
    CHECK(seen.said.find("keel falls back to epoll unless KEEL_ENGINE=uring insists") != std::string::npos);
  }
}

TEST_CASE("A1 A2 A5: who insists on io_uring gets a clear error, and no epoll") {
  for (const refused& refusal : every_refusal) {
    for (const bool by_environment : {false, true}) {
      child_end seen;
      const bool tried = in_refusal(refusal, seen, [&] {
        const environment_variable set("KEEL_ENGINE", by_environment ? "uring" : nullptr);
        const auto choice = by_environment ? engine_choice::automatic : engine_choice::uring;
        const std::size_t descriptors = keel::test::open_descriptors();
        {
          event_sink sink(8);
          const auto made = make_engine(sink, {.choice = choice});
          if (made.error() != errc::engine_unavailable) return 1;
        }
        try {
          const queue q(with(choice));
          return 2;
        } catch (const std::system_error& error) {
          if (error.code() != errc::engine_unavailable) return 3;
        }
        return keel::test::open_descriptors() == descriptors ? 0 : 4;
      });
      if (!tried) return;
      CHECK_MESSAGE(seen.exit_code == 0, seen.said);
      CHECK(seen.said.find(std::string(refusal.call) + ": " + std::strerror(refusal.error_number)) !=
            std::string::npos);
      CHECK(seen.said.find(by_environment ? "but KEEL_ENGINE=uring insists" : "but the program insists") !=
            std::string::npos);
    }
  }
}

TEST_CASE(
    "A3: where a call of io_uring kills, KEEL_ENGINE=epoll and the program's choice are heard before it") {
  const auto attempt = [](const char* value, engine_choice choice) {
    return in_child([&] {
      const environment_variable set("KEEL_ENGINE", value);
      if (!forbid_io_uring(keel::test::all_of_io_uring, 0)) return not_possible;
      event_sink sink(8);
      const auto made = make_engine(sink, {.choice = choice});
      if (!made) return made.error() == errc::not_supported ? 0 : 1;
      queue q(with(choice));
      delete *made;
      return is(q, "epoll") && answers_a_nop(q) ? 0 : 2;
    });
  };
  const auto killed = attempt("uring", engine_choice::automatic);
  if (killed.exit_code == not_possible) return keel::test::skip("no seccomp filter can be set here");
  CHECK(killed.signal == SIGSYS);  // the filter works
  CHECK(attempt(nullptr, engine_choice::automatic).signal == SIGSYS);
  CHECK(attempt("epoll", engine_choice::automatic).exit_code == 0);
  CHECK(attempt("uring", engine_choice::epoll).exit_code == 0);
  CHECK(attempt("nonsense", engine_choice::automatic).exit_code == 0);
}

TEST_CASE("A9: a ring that exists goes on when later ones are refused; those who come later get epoll") {
  child_end seen = in_child([] {
    const environment_variable nothing("KEEL_ENGINE", nullptr);
    queue first({});
    if (!answers_a_nop(first)) return 1;
    if (!forbid_io_uring({.setup = true}, EPERM)) return not_possible;
    queue second({});
    if (!is(first, "uring") || !is(second, "epoll")) return 2;
    if (!answers_a_nop(second)) return 3;
    return answers_a_nop(first) ? 0 : 4;
  });
  if (seen.exit_code == not_possible) return keel::test::skip("no seccomp filter can be set here");
  CHECK_MESSAGE(seen.exit_code == 0, seen.said);
  CHECK(count_of(seen.said, "keel: ") == 1);
}

TEST_CASE("A9: engines of both kinds live in one process, and wake each other") {
  queue ring(with(engine_choice::uring));
  queue other(with(engine_choice::epoll));
  recorded ring_wakes({.code = opcode::wake, .multishot = true});
  recorded other_wakes({.code = opcode::wake, .multishot = true});
  constexpr std::size_t rounds = 1000;
  std::thread t([&] {
    other.submit(other_wakes);
    for (std::size_t round = 1; round <= rounds; ++round) {
      if (!turn_until(other, [&] { return other_wakes.answers.size() >= round; })) break;
      ring.wake();
    }
    other.cancel(other_wakes);
    turn_until(other, [&] { return !other_wakes.in_flight(); });
  });
  ring.submit(ring_wakes);
  bool answered = true;
  for (std::size_t round = 1; round <= rounds && answered; ++round) {
    other.wake();
    answered = turn_until(ring, [&] { return ring_wakes.answers.size() >= round; });
  }
  CHECK(answered);
  t.join();
  ring.cancel(ring_wakes);
  CHECK(turn_until(ring, [&] { return !ring_wakes.in_flight(); }));
}

TEST_CASE("A4: with 64 KiB of lockable memory 16 queues work: some on small rings, the others on epoll") {
  child_end seen = in_child([] {
    const environment_variable nothing("KEEL_ENGINE", nullptr);
    if (!become_limited(64 * 1024)) return not_possible;
    const std::size_t descriptors = keel::test::open_descriptors();
    {
      std::deque<queue> queues;
      for (int i = 0; i < 16; ++i) queues.emplace_back(queue_options{});
      int rings = 0;
      for (queue& q : queues) {
        if (!answers_a_nop(q)) return 1;
        if (!is(q, "uring")) {
          if (q.info().refused_errno != ENOMEM) return 2;
          continue;
        }
        ++rings;
        if (q.info().entries < 64 || q.info().entries > 256) return 3;
        const bool small = q.info().entries < 256;
        const std::string_view reason = q.info().reason;
        if (small != (reason.find("for want of lockable memory") != reason.npos)) return 4;
      }
      if (rings == 0 || rings == 16) return 5;
    }
    return keel::test::open_descriptors() == descriptors ? 0 : 6;
  });
  if (seen.exit_code == not_possible) return keel::test::skip("this process may not become another user");
  CHECK_MESSAGE(seen.exit_code == 0, seen.said);
  CHECK(count_of(seen.said, "keel: ") == 1);
  CHECK(seen.said.find("ulimit -l") != std::string::npos);
  CHECK(seen.said.find("falls back to epoll") != std::string::npos);
}

TEST_CASE("A4 E6: a ring too big for the lockable memory gets smaller, and works without provided buffers") {
  child_end seen = in_child([] {
    if (!become_limited(64 * 1024)) return not_possible;
    queue_options options = with(engine_choice::uring);
    options.engine.entries = 1024;
    queue q(options);
    if (q.info().entries >= 1024 || q.info().entries < 64) return 1;
    if (!answers_a_nop(q)) return 2;
    // No memory for the ring of buffers is left.
    return q.info().provided_buffers ? 3 : 0;
  });
  if (seen.exit_code == not_possible) return keel::test::skip("this process may not become another user");
  CHECK_MESSAGE(seen.exit_code == 0, seen.said);
}

TEST_CASE("D8: want of descriptors is no refusal: the error says EMFILE, and nothing falls back") {
  for (const engine_choice choice : {engine_choice::automatic, engine_choice::uring, engine_choice::epoll}) {
    child_end seen = in_child([&] {
      const environment_variable nothing("KEEL_ENGINE", nullptr);
      for (int left = 0; left < 2; ++left) {
        const keel::test::descriptor_limit few(left);
        event_sink sink(8);
        const auto made = make_engine(sink, {.choice = choice});
        if (made || made.error() != std::errc::too_many_files_open) return 1;
      }
      return 0;
    });
    CHECK_MESSAGE(seen.exit_code == 0, seen.said);
    CHECK(seen.said.empty());
  }
}
