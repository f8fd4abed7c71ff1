// What opcode::futex of uring_engine needs before the kernel waits for the first word.

#include "uring_engine.hpp"

#include <pthread.h>
#include <sys/prctl.h>
#include <csignal>

namespace keel::kevent_sys {
namespace {

// Linux 6.16: PR_FUTEX_HASH, PR_FUTEX_HASH_GET_SLOTS.
constexpr int prctl_futex_hash = 78;
constexpr unsigned long futex_hash_get_slots = 2;

// Linux 6.16 and later give a process a futex table of its own with its second thread, and do not move there
// what a ring waits for already: its wake-ups would be lost. So there has to be a second thread before, if
// only for a moment.
void have_own_futex_table() noexcept {
  if (::prctl(prctl_futex_hash, futex_hash_get_slots, 0, 0, 0) != 0) return;
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  pthread_t second{};
  const auto nothing = [](void*) -> void* { return nullptr; };
  if (::pthread_create(&second, nullptr, nothing, nullptr) == 0) ::pthread_join(second, nullptr);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace

void uring_engine::submit_futex(operation& op) noexcept {
  if (!here_.futex) {
    unknown_.push_back(op);
    return;
  }
  if (!std::exchange(futexes_prepared_, true)) have_own_futex_table();
  if (!backlog_.empty() || !fill(op)) backlog_.push_back(op);
}

}  // namespace keel::kevent_sys
