#include <keel/kevent_sys/probe.hpp>

#include "engine_decision.hpp"
#include "refusal.hpp"
#include "uring_trial.hpp"

#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>

namespace keel::kevent_sys {
namespace {

// A system call that is known answers our nonsense with an error of its own.
trial try_call(long answer, int meaningless) noexcept {
  return {.made = true, .error_number = answer >= 0 || errno == meaningless ? 0 : errno};
}

// The number after `key` in a file of /proc, or -1.
int number_in(const char* path, const char* key) noexcept {
  std::FILE* file = std::fopen(path, "re");
  if (file == nullptr) return -1;
  char line[128];
  int number = -1;
  const std::size_t length = std::strlen(key);
  while (std::fgets(line, sizeof line, file) != nullptr) {
    if (std::strncmp(line, key, length) == 0 && std::sscanf(line + length, "%d", &number) == 1) break;
  }
  std::fclose(file);
  return number;
}

std::int64_t as_limit(rlim_t value) noexcept {
  return value == RLIM_INFINITY ? machine_report::unlimited : static_cast<std::int64_t>(value);
}

void read_limits(machine_report& report) noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_MEMLOCK, &limit) == 0) report.memlock_bytes = as_limit(limit.rlim_cur);
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    report.descriptors = as_limit(limit.rlim_cur);
    report.descriptors_max = as_limit(limit.rlim_max);
  }
}

void try_system_calls(machine_report& report) noexcept {
  const timespec no_time{};
  epoll_event event{};
  report.epoll_wait_ns =
      try_call(::syscall(SYS_epoll_pwait2, -1, &event, 1, &no_time, nullptr, _NSIG / 8), EBADF);
  const long pidfd = ::syscall(SYS_pidfd_open, ::getpid(), 0);
  report.pidfd = try_call(pidfd, 0);
  if (pidfd >= 0) ::close(static_cast<int>(pidfd));
  report.futex_waitv = try_call(::syscall(SYS_futex_waitv, nullptr, 0, 0, nullptr, 0), EINVAL);
}

void copy_text(char* to, std::size_t size, const char* from) noexcept {
  std::snprintf(to, size, "%s", from);
}

void choose(machine_report& report, engine_choice choice) {
  event_sink sink(8);
  const auto made = make_engine(sink, {.choice = choice});
  report.works = made.has_value();
  if (!made) {
    if (!decide(choice)) {
      copy_text(report.reason, sizeof report.reason, "KEEL_ENGINE names no engine of this version");
    } else {
      std::snprintf(report.reason, sizeof report.reason, "the engine that was asked for is refused: %s",
                    made.why().doing);
    }
    return;
  }
  copy_text(report.engine, sizeof report.engine, (*made)->info().name);
  copy_text(report.reason, sizeof report.reason, (*made)->info().reason);
  delete *made;
}

}  // namespace

const char* uring_report::refused_call() const noexcept {
  if (setup.made && !setup.passed()) return "io_uring_setup";
  if (registering.made && !registering.passed()) return "io_uring_register";
  if (enter.made && !enter.passed()) return "io_uring_enter";
  return nullptr;
}

int uring_report::refused_errno() const noexcept {
  for (const trial& t : {setup, registering, enter})
    if (t.error_number != 0) return t.error_number;
  return 0;
}

const char* uring_report::likely_cause() const noexcept {
  return kevent_sys::likely_cause(refused_errno());
}

machine_report probe_machine(engine_choice choice) {
  machine_report report;
  utsname system{};
  if (::uname(&system) == 0) copy_text(report.kernel, sizeof report.kernel, system.release);
  report.uring_disabled = number_in("/proc/sys/kernel/io_uring_disabled", "");
  report.seccomp_mode = number_in("/proc/self/status", "Seccomp:");
  report.more_rights = ::getauxval(AT_SECURE) != 0;
  read_limits(report);
  try_system_calls(report);
  choose(report, choice);
  const auto decided = decide(choice);
  if (decided && decided->choice != engine_choice::epoll) try_uring(report.uring);
  return report;
}

}  // namespace keel::kevent_sys
