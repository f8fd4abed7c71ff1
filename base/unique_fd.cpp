#include <keel/base/unique_fd.hpp>

#include <cerrno>
#include <unistd.h>

namespace keel {

void unique_fd::reset(int fd) noexcept {
  const int old = std::exchange(fd_, fd);
  if (old < 0) return;
  const int saved_errno = errno;
  // EINTR too means closed on Linux. EBADF means that somebody closed what is ours: the next
  // victim would be a descriptor of somebody else.
  const int answer = ::close(old);
  KEEL_ASSERT(answer == 0 || errno != EBADF, "the descriptor was closed behind its owner's back");
  errno = saved_errno;
}

}  // namespace keel
