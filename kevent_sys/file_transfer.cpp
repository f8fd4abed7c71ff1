#include "file_transfer.hpp"

#include "uring_constants.hpp"

#include <cerrno>
#include <csignal>
#include <ctime>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

namespace keel::kevent_sys {
namespace {

constexpr std::uint64_t page_bytes = 4096;

// The arguments of cachestat(2), as the kernel lays them out.
struct cachestat_range {
  std::uint64_t offset;
  std::uint64_t length;
};
struct cachestat_answer {
  std::uint64_t cached;
  std::uint64_t others[4];
};

// A read ahead of the transfer would take bytes out of a pipe, or wait for them.
bool has_pages(int file_fd) noexcept {
  struct stat status{};
  return ::fstat(file_fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
}

bool byte_in_page_cache(int file_fd, std::uint64_t offset) noexcept {
  char byte = 0;
  const iovec target{&byte, 1};
  return ::preadv2(file_fd, &target, 1, static_cast<off_t>(offset), RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

// sendfile(2) raises SIGPIPE on a socket that its peer has reset, and knows no MSG_NOSIGNAL. The process's
// disposition is not ours to change: the signal is held back on this thread, and dropped if we caused it.
class without_sigpipe {
 public:
  without_sigpipe() noexcept {
    sigemptyset(&pipe_only_);
    sigaddset(&pipe_only_, SIGPIPE);
    ::pthread_sigmask(SIG_BLOCK, &pipe_only_, &before_);
    blocked_before_ = sigismember(&before_, SIGPIPE) == 1;
  }
  ~without_sigpipe() {
    if (!blocked_before_) ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  // After a call that moved less than was asked: it may have met the reset after its first pages.
  void drop() noexcept {
    const timespec at_once{};
    if (!blocked_before_) ::sigtimedwait(&pipe_only_, nullptr, &at_once);
  }

 private:
  sigset_t pipe_only_;
  sigset_t before_;
  bool blocked_before_;
};

}  // namespace

bool in_page_cache(int file_fd, std::uint64_t offset, std::uint64_t bytes) noexcept {
  if (bytes == 0) return true;
  cachestat_range range{offset, bytes};
  cachestat_answer answer{};
  if (::syscall(syscall_cachestat, file_fd, &range, &answer, 0) == 0) {
    const std::uint64_t pages = (offset + bytes - 1) / page_bytes - offset / page_bytes + 1;
    return answer.cached >= pages || !has_pages(file_fd);
  }
  // Before Linux 6.5, or no file of a disk: ask for the ends of the range.
  return byte_in_page_cache(file_fd, offset) && byte_in_page_cache(file_fd, offset + bytes - 1);
}

int send_slice(int socket_fd, int file_fd, std::uint64_t offset, std::uint32_t bytes) noexcept {
  without_sigpipe guard;
  auto position = static_cast<off_t>(offset);
  ssize_t moved = 0;
  do {
    moved = ::sendfile(socket_fd, file_fd, &position, bytes);
  } while (moved < 0 && errno == EINTR);
  const int error = errno;
  if (moved < static_cast<ssize_t>(bytes)) guard.drop();
  return moved < 0 ? -error : static_cast<int>(moved);
}

}  // namespace keel::kevent_sys
