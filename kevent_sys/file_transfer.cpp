#include "file_transfer.hpp"

#include "held_back_signal.hpp"
#include "uring_constants.hpp"

#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <cerrno>

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
  struct stat status {};
  return ::fstat(file_fd, &status) == 0 && (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode));
}

bool byte_in_page_cache(int file_fd, std::uint64_t offset) noexcept {
  char byte = 0;
  const iovec target{&byte, 1};
  return ::preadv2(file_fd, &target, 1, static_cast<off_t>(offset), RWF_NOWAIT) >= 0 || errno != EAGAIN;
}

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
  held_back_signal guard(SIGPIPE);
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
