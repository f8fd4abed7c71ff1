#include "epoll_requests.hpp"

#include "held_back_signal.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <climits>

namespace keel::kevent_sys {
namespace {

// The flags of opcode::poll that poll(2) knows; epoll's have the same values.
constexpr std::uint32_t poll_mask = 0xffff;

// What poll(2) promises of a terminal that is ready for writing.
constexpr std::size_t terminal_room = 256;

// Repeats `call` when a signal interrupts it.
template <class Call>
int answer_of(Call call) noexcept {
  ssize_t n = 0;
  do {
    n = call();
  } while (n < 0 && errno == EINTR);
  return n < 0 ? -errno : static_cast<int>(n);
}

void* target_of(const request& asked) noexcept {
  return const_cast<void*>(asked.data);
}

bool is_nonblocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags < 0 || (flags & O_NONBLOCK) != 0;
}

bool is_listening(int fd) noexcept {
  int listening = 0;
  socklen_t size = sizeof listening;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) == 0 && listening != 0;
}

// Whether preadv2 and pwritev2 refused because of RWF_NOWAIT.
bool knows_no_nowait(int error) noexcept {
  return error == -EOPNOTSUPP || error == -ENOSYS;
}

const sockaddr* address_of(const request& asked) noexcept {
  return static_cast<const sockaddr*>(asked.data);
}

int connect_without_waiting(const request& asked) noexcept {
  const int flags = ::fcntl(asked.fd, F_GETFL);
  if (flags < 0) return -errno;
  // The flag is there for the length of the call only: whoever made the socket may want it to block. Nobody
  // else uses a socket that is not connected.
  const bool blocks = (flags & O_NONBLOCK) == 0;
  if (blocks) ::fcntl(asked.fd, F_SETFL, flags | O_NONBLOCK);
  const int value = ::connect(asked.fd, address_of(asked), asked.size_bytes) == 0 ? 0 : -errno;
  if (blocks) ::fcntl(asked.fd, F_SETFL, flags);
  return value;
}

}  // namespace

std::uint32_t readiness_of(const request& asked) noexcept {
  switch (asked.code) {
    case opcode::poll: return asked.flags & poll_mask;
    case opcode::connect:
    case opcode::send:
    case opcode::sendfile:
    case opcode::write: return EPOLLOUT;
    default: return EPOLLIN;
  }
}

int accept_now(const request& asked) noexcept {
  // A listener that blocks: what poll(2) sees may still be taken by another process before our call.
  if (!is_nonblocking(asked.fd) && is_listening(asked.fd) && poll_now(asked.fd, POLLIN) == 0) return -EAGAIN;
  const int flags = SOCK_CLOEXEC | ((asked.flags & accept_blocking) != 0 ? 0 : SOCK_NONBLOCK);
  return answer_of([&] { return ::accept4(asked.fd, nullptr, nullptr, flags); });
}

int connect_now(const request& asked, bool begun) noexcept {
  const int value = connect_without_waiting(asked);
  switch (-value) {
    case EINPROGRESS:
    case EINTR: return -EAGAIN;
    case EALREADY: return begun ? -EAGAIN : value;
    case EISCONN: return begun ? 0 : value;
    case EAGAIN: return -EBUSY;
    default: return value;
  }
}

int recv_now(const request& asked, std::uint32_t done) noexcept {
  const int flags = static_cast<int>(asked.flags) | MSG_DONTWAIT;
  auto* target = static_cast<std::byte*>(target_of(asked)) + done;
  return answer_of([&] { return ::recv(asked.fd, target, asked.size_bytes - done, flags); });
}

int send_now(const request& asked, std::uint32_t done) noexcept {
  const int flags = static_cast<int>(asked.flags) | MSG_DONTWAIT | MSG_NOSIGNAL;
  const auto* bytes = static_cast<const std::byte*>(asked.data) + done;
  return answer_of([&] { return ::send(asked.fd, bytes, asked.size_bytes - done, flags); });
}

bool wants_all(const request& asked) noexcept {
  if ((asked.flags & MSG_WAITALL) == 0 || (asked.flags & (MSG_PEEK | MSG_DONTWAIT)) != 0) return false;
  int type = 0;
  socklen_t size = sizeof type;
  return ::getsockopt(asked.fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0 &&
         (type == SOCK_STREAM || type == SOCK_SEQPACKET);
}

int recv_into(int fd, std::byte* target, std::size_t size_bytes) noexcept {
  return answer_of([&] { return ::recv(fd, target, size_bytes, MSG_DONTWAIT); });
}

int drain_into(int fd, std::byte* target, std::size_t size_bytes) noexcept {
  const iovec into{target, size_bytes};
  const int value = answer_of([&] { return ::preadv2(fd, &into, 1, -1, RWF_NOWAIT); });
  if (!knows_no_nowait(value)) return value;
  // A terminal, or a pipe before Linux 6.4. What is there is given at once.
  if (poll_now(fd, POLLIN) == 0) return -EAGAIN;
  return answer_of([&] { return ::read(fd, target, size_bytes); });
}

int read_stream_now(const request& asked) noexcept {
  return drain_into(asked.fd, static_cast<std::byte*>(target_of(asked)), asked.size_bytes);
}

int write_stream_now(const request& asked) noexcept {
  held_back_signal guard(SIGPIPE);
  const iovec from{target_of(asked), asked.size_bytes};
  int value = answer_of([&] { return ::pwritev2(asked.fd, &from, 1, -1, RWF_NOWAIT); });
  if (knows_no_nowait(value)) {
    if (poll_now(asked.fd, POLLOUT) == 0) return -EAGAIN;
    struct stat status {};
    const bool pipe = ::fstat(asked.fd, &status) == 0 && S_ISFIFO(status.st_mode);
    const std::size_t room = pipe ? std::size_t{PIPE_BUF} : terminal_room;
    value = answer_of(
        [&] { return ::write(asked.fd, asked.data, std::min<std::size_t>(room, asked.size_bytes)); });
  }
  if (value < 0 || static_cast<std::uint32_t>(value) < asked.size_bytes) guard.drop();
  return value;
}

int read_cached(const request& asked) noexcept {
  const iovec into{target_of(asked), asked.size_bytes};
  const auto offset = static_cast<off_t>(asked.offset);
  // At the descriptor's own position a second attempt would read what comes behind.
  if (offset < 0) return -EAGAIN;
  const int value = answer_of([&] { return ::preadv2(asked.fd, &into, 1, offset, RWF_NOWAIT); });
  if (knows_no_nowait(value)) return -EAGAIN;
  if (value <= 0 || static_cast<std::uint32_t>(value) == asked.size_bytes) return value;
  // The end of the file, or of what is in memory.
  char byte = 0;
  const iovec behind{&byte, 1};
  const int more = answer_of([&] { return ::preadv2(asked.fd, &behind, 1, offset + value, RWF_NOWAIT); });
  return more == 0 ? value : -EAGAIN;
}

int poll_now(int fd, std::uint32_t mask) noexcept {
  pollfd one{fd, static_cast<short>(mask), 0};
  const int n = answer_of([&] { return ::poll(&one, 1, 0); });
  if (n < 0) return n;
  if ((one.revents & POLLNVAL) != 0) return -EBADF;
  return one.revents;
}

bool is_file(int fd) noexcept {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return false;
  return S_ISREG(status.st_mode) || S_ISBLK(status.st_mode) || S_ISDIR(status.st_mode);
}

int open_file(const request& asked) noexcept {
  const int flags = static_cast<int>(asked.flags) | O_CLOEXEC;
  // A null path is the kernel's to refuse.
  return answer_of([&] { return ::syscall(SYS_openat, AT_FDCWD, asked.data, flags, asked.size_bytes); });
}

int read_file(const request& asked) noexcept {
  const iovec into{target_of(asked), asked.size_bytes};
  return answer_of([&] { return ::preadv2(asked.fd, &into, 1, static_cast<off_t>(asked.offset), 0); });
}

int write_file(const request& asked) noexcept {
  held_back_signal guard(SIGXFSZ);
  const iovec from{target_of(asked), asked.size_bytes};
  const auto offset = static_cast<off_t>(asked.offset);
  const int value = answer_of([&] { return ::pwritev2(asked.fd, &from, 1, offset, 0); });
  if (value < 0 || static_cast<std::uint32_t>(value) < asked.size_bytes) guard.drop();
  return value;
}

int warm_up(const request& asked, std::uint32_t bytes_max) noexcept {
  char nobody_looks[16384];
  const auto bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(asked.count, bytes_max));
  for (std::uint32_t done = 0; done < bytes;) {
    const std::size_t size = std::min<std::size_t>(sizeof nobody_looks, bytes - done);
    const auto at = static_cast<off_t>(asked.offset + done);
    const int value = answer_of([&] { return ::pread(asked.file_fd, nobody_looks, size, at); });
    if (value < 0) return value;
    if (value == 0) break;
    done += static_cast<std::uint32_t>(value);
  }
  return 0;
}

// Not repeated: the descriptor is gone whatever close(2) says.
int close_file(const request& asked) noexcept {
  return ::close(asked.fd) == 0 ? 0 : -errno;
}

}  // namespace keel::kevent_sys
