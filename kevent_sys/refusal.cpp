#include "refusal.hpp"

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>

namespace keel::kevent_sys {
namespace {

constinit std::atomic<bool> told{false};

bool first_to_tell() noexcept {
  return !told.exchange(true, std::memory_order_relaxed);
}

constexpr std::size_t text_size = 160;

}  // namespace

int errno_of(std::error_code code) noexcept {
  return code.category() == std::system_category() ? code.value() : ENOTSUP;
}

const char* likely_cause(int error_number) noexcept {
  switch (error_number) {
    case EPERM:
    case EACCES:
      return "io_uring is forbidden here: see 'sysctl kernel.io_uring_disabled' and the container's seccomp "
             "profile";
    case ENOSYS:
      return "this kernel has no io_uring, or a sandbox hides it: see the container's seccomp profile";
    case ENOMEM: return "the locked memory of this user is used up: see 'ulimit -l'";
    case EMFILE:
    case ENFILE: return "there are too many open files: see 'ulimit -n'";
    default: return "io_uring is too old here: keel needs that of Linux 6.1 or newer";
  }
}

void print_refusal(char* text, std::size_t size, const failure& why) noexcept {
  const char* call = why.doing != nullptr ? why.doing : "io_uring";
  std::snprintf(text, size, "%s: %s (%d)", call, why.code.message().c_str(), errno_of(why.code));
}

void say_uring_unavailable(const failure& why, std::uint32_t entries, const char* insisting) noexcept {
  char refusal[text_size];
  print_refusal(refusal, sizeof refusal, why);
  std::fprintf(stderr,
               "keel: cannot make an io_uring with %u entries: %s\n"
               "      %s;\n"
               "      keel would fall back to epoll, but %s insists\n",
               entries, refusal, likely_cause(errno_of(why.code)), insisting);
}

void say_epoll_unavailable(const failure& why) noexcept {
  char refusal[text_size];
  print_refusal(refusal, sizeof refusal, why);
  std::fprintf(stderr, "keel: cannot make an epoll queue: %s\n", refusal);
}

void say_falls_back(const failure& why, std::uint32_t entries) noexcept {
  if (!first_to_tell()) return;
  char refusal[text_size];
  print_refusal(refusal, sizeof refusal, why);
  std::fprintf(stderr,
               "keel: cannot make an io_uring with %u entries: %s\n"
               "      %s;\n"
               "      keel falls back to epoll unless KEEL_ENGINE=uring insists\n",
               entries, refusal, likely_cause(errno_of(why.code)));
}

void say_small_ring(std::uint32_t asked, std::uint32_t got) noexcept {
  if (!first_to_tell()) return;
  std::fprintf(stderr,
               "keel: cannot make an io_uring with %u entries: too little memory that this user may lock\n"
               "      see 'ulimit -l';\n"
               "      keel makes do with %u, and falls back to epoll where there is none left\n",
               asked, got);
}

void say_left_alone() noexcept {
  if (!first_to_tell()) return;
  std::fprintf(stderr,
               "keel: this program runs with more rights than its user: keel leaves io_uring alone\n"
               "      and waits with epoll, unless the program chooses engine_choice::uring\n");
}

void say_unknown_engine() noexcept {
  const char* text = ::secure_getenv("KEEL_ENGINE");
  std::fprintf(stderr,
               "keel: KEEL_ENGINE=%.64s is not an engine of this version\n"
               "      use KEEL_ENGINE=auto, KEEL_ENGINE=uring or KEEL_ENGINE=epoll\n",
               text != nullptr ? text : "");
}

}  // namespace keel::kevent_sys
