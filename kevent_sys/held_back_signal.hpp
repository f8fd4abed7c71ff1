// Private to kevent_sys: calls that raise a signal besides their error, and know no MSG_NOSIGNAL.
#pragma once

#include <csignal>
#include <ctime>

namespace keel::kevent_sys {

// sendfile(2) and write(2) raise SIGPIPE on what has no reader any more, and write(2) SIGXFSZ at the limit of
// a file's size. The process's disposition is not ours to change: the signal is held back on this thread, and
// dropped if we caused it.
class held_back_signal {
 public:
  explicit held_back_signal(int signal) noexcept {
    sigemptyset(&only_);
    sigaddset(&only_, signal);
    ::pthread_sigmask(SIG_BLOCK, &only_, &before_);
    blocked_before_ = sigismember(&before_, signal) == 1;
  }
  held_back_signal(const held_back_signal&) = delete;
  held_back_signal& operator=(const held_back_signal&) = delete;
  ~held_back_signal() {
    if (!blocked_before_) ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  // After a call that moved less than was asked: it may have met the end after its first pages.
  void drop() noexcept {
    const timespec at_once{};
    if (!blocked_before_) ::sigtimedwait(&only_, nullptr, &at_once);
  }

 private:
  sigset_t only_;
  sigset_t before_;
  bool blocked_before_;
};

}  // namespace keel::kevent_sys
