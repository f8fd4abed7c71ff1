// The kevent calls: what they check before a queue is asked, and errors as negative numbers.

#include <keel/kevent_sys/kevent.h>

#include "aio_operations.hpp"
#include "file_sends.hpp"
#include "posix_timers.hpp"
#include "queue_table.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <cerrno>
#include <cstring>
#include <limits>
#include <new>

namespace keel::kevent_sys {
namespace {

constexpr unsigned entries_max = 65536;
constexpr std::size_t bytes_max = 0x7ffff000;  // what one system call moves at most
constexpr std::uint32_t message_flags = MSG_OOB | MSG_PEEK | MSG_DONTROUTE | MSG_TRUNC | MSG_DONTWAIT |
                                        MSG_EOR | MSG_WAITALL | MSG_CONFIRM | MSG_NOSIGNAL | MSG_MORE;

// Around each call: the program's errno is not ours to change, and a thread that is cancelled inside would
// take locks with it.
class call_scope {
 public:
  call_scope() noexcept : errno_(errno) { ::pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state_); }
  call_scope(const call_scope&) = delete;
  call_scope& operator=(const call_scope&) = delete;
  ~call_scope() {
    ::pthread_setcancelstate(cancel_state_, nullptr);
    errno = errno_;
  }

 private:
  int errno_;
  int cancel_state_ = 0;
};

template <class T>
bool aligned(const T* pointer) noexcept {
  return reinterpret_cast<std::uintptr_t>(pointer) % alignof(T) == 0;
}

int init(kevent_ring* ring, unsigned num, unsigned flags) noexcept {
  if (flags != 0 || (ring == nullptr) != (num == 0) || num == 1) return -EINVAL;
  if (ring != nullptr && !aligned(reinterpret_cast<const ukevent*>(ring))) return -EFAULT;
  int error = 0;
  shared_queue* made = shared_queue::create(ring != nullptr ? user_ring(ring, num) : user_ring(), {}, error);
  if (made == nullptr) return error;
  error = queue_table::add(*made);
  if (error == 0) return made->fd();
  made->close();
  delete made;
  return error;
}

int ctl(shared_queue& queue, unsigned cmd, unsigned num, ukevent* entries) noexcept {
  if (cmd > KEVENT_CTL_READY || num > entries_max) return -EINVAL;
  if (num > 0 && (entries == nullptr || !aligned(entries))) return -EFAULT;
  switch (cmd) {
    case KEVENT_CTL_ADD: return queue.add(entries, num);
    case KEVENT_CTL_REMOVE: return queue.remove(entries, num);
    case KEVENT_CTL_MODIFY: return queue.modify(entries, num);
    default: return queue.make_ready(entries, num);
  }
}

// The limit of a wait call; null: `timeout` says no time.
struct wait_limit {
  wait_limit(const timespec& timeout, unsigned flags) noexcept
      : valid(time_limit::parse(timeout, (flags & KEVENT_FLAGS_ABSTIME) != 0, limit)) {}
  const time_limit* get() const noexcept { return valid ? &limit : nullptr; }

  time_limit limit;
  bool valid;
};

// 0 or -errno.
int check_socket(int fd) noexcept {
  struct stat status {};
  if (::fstat(fd, &status) != 0) return -errno;
  return S_ISSOCK(status.st_mode) ? 0 : -ENOTSOCK;
}

bool is_pipe(int fd) noexcept {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && S_ISFIFO(status.st_mode);
}

int check_file(int fd) noexcept {
  return ::fcntl(fd, F_GETFD) >= 0 ? 0 : -EBADF;
}

int check_buffer(const void* buffer, std::size_t size) noexcept {
  return buffer == nullptr && size > 0 ? -EFAULT : 0;
}

request transfer(opcode code, int fd, const void* buffer, std::size_t size) noexcept {
  return {.code = code,
          .fd = fd,
          .size_bytes = static_cast<std::uint32_t>(size < bytes_max ? size : bytes_max),
          .data = buffer};
}

int submit(shared_queue& queue, std::uint32_t type, const request& what, void* user) noexcept {
  return queue.take_over(new (std::nothrow) aio_operation(queue, type, what, user), true);
}

int message(int kevent_fd, const request& what, void* user) noexcept {
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  if (const int error = check_socket(what.fd); error != 0) return error;
  if ((what.flags & ~message_flags) != 0) return -EINVAL;
  if (const int error = check_buffer(what.data, what.size_bytes); error != 0) return error;
  return submit(*queue, KEVENT_NAIO, what, user);
}

int file_transfer(int kevent_fd, request what, off_t offset, void* user) noexcept {
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  if (const int error = check_file(what.fd); error != 0) return error;
  if (offset < -1) return -EINVAL;
  if (const int error = check_buffer(what.data, what.size_bytes); error != 0) return error;
  what.offset = static_cast<std::uint64_t>(offset);
  return submit(*queue, KEVENT_AIO, what, user);
}

long send_file(int kevent_fd, int sock_fd, off_t offset, std::size_t count, send_plan&& plan) noexcept {
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  struct stat status {};
  if (::fstat(sock_fd, &status) != 0) return -errno;
  if (!S_ISSOCK(status.st_mode)) return -ENOTSOCK;
  if (offset < 0) return -EINVAL;
  plan.socket_fd = sock_fd;
  plan.socket_inode = status.st_ino;
  plan.offset = static_cast<std::uint64_t>(offset);
  plan.count = count;
  auto* made = new (std::nothrow) file_send(*queue, std::move(plan));
  if (made == nullptr) return -ENOMEM;
  // It may have ended, and been collected by another thread, before the call returns.
  const long cookie = made->cookie();
  const int error = queue->take_over(made, true);
  return error == 0 ? cookie : error;
}

// A copy of `size` bytes, or null: no memory, or nothing to copy.
template <class T>
std::unique_ptr<T[]> copy_of(const void* from, std::size_t size) noexcept {
  std::unique_ptr<T[]> copy(size != 0 ? new (std::nothrow) T[size] : nullptr);
  if (copy != nullptr) std::memcpy(copy.get(), from, size);
  return copy;
}

}  // namespace
}  // namespace keel::kevent_sys

using namespace keel::kevent_sys;

int kevent_init(kevent_ring* ring, unsigned num, unsigned flags) {
  const call_scope scope;
  return init(ring, num, flags);
}

int kevent_close(int fd) {
  const call_scope scope;
  return queue_table::close(fd);
}

int kevent_ctl(int fd, unsigned cmd, unsigned num, ukevent* arg) {
  const call_scope scope;
  const queue_table::visit queue(fd);
  return queue.error() != 0 ? queue.error() : ctl(*queue, cmd, num, arg);
}

int kevent_get_events(int fd, unsigned min_nr, unsigned max_nr, timespec timeout, ukevent* buf,
                      unsigned flags) {
  const call_scope scope;
  const queue_table::visit queue(fd);
  if (queue.error() != 0) return queue.error();
  if ((flags & ~KEVENT_FLAGS_ABSTIME) != 0) return -EINVAL;
  if (max_nr > 0 && (buf == nullptr || !aligned(buf))) return -EFAULT;
  const wait_limit limit(timeout, flags);
  return queue->get_events(min_nr, max_nr, limit.get(), buf);
}

int kevent_wait(int fd, unsigned num, unsigned old_uidx, timespec timeout, unsigned flags) {
  const call_scope scope;
  const queue_table::visit queue(fd);
  if (queue.error() != 0) return queue.error();
  if ((flags & ~KEVENT_FLAGS_ABSTIME) != 0) return -EINVAL;
  const wait_limit limit(timeout, flags);
  return queue->wait(num, old_uidx, limit.get());
}

int kevent_commit(int fd, unsigned new_uidx, unsigned over) {
  const call_scope scope;
  const queue_table::visit queue(fd);
  return queue.error() != 0 ? queue.error() : queue->commit(new_uidx, over);
}

long aio_sendfile(int kevent_fd, int sock_fd, int in_fd, off_t offset, size_t count) {
  const call_scope scope;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  if (const int error = check_file(in_fd); error != 0) return error;
  send_plan plan;
  plan.file_fd = in_fd;
  return send_file(kevent_fd, sock_fd, offset, count, std::move(plan));
}

long aio_sendfile_path(int kevent_fd, int sock_fd, void* header, size_t header_size, char* filename,
                       off_t offset, size_t count) {
  const call_scope scope;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  if (filename == nullptr) return -EFAULT;
  if (header == nullptr && header_size > 0) return -EINVAL;
  send_plan plan;
  plan.path = copy_of<char>(filename, std::strlen(filename) + 1);
  plan.header = copy_of<std::byte>(header, header_size);
  plan.header_bytes = header_size;
  if (plan.path == nullptr || (plan.header == nullptr && header_size > 0)) return -ENOMEM;
  return send_file(kevent_fd, sock_fd, offset, count, std::move(plan));
}

int kevent_aio_accept(int kevent_fd, int fd, unsigned flags, void* user) {
  const call_scope scope;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  if (const int error = check_socket(fd); error != 0) return error;
  if ((flags & ~unsigned{SOCK_NONBLOCK | SOCK_CLOEXEC}) != 0) return -EINVAL;
  const bool blocks = (flags & SOCK_NONBLOCK) == 0;
  const request what{.code = opcode::accept, .fd = fd, .flags = blocks ? accept_blocking : 0};
  return submit(*queue, KEVENT_NAIO, what, user);
}

int kevent_aio_connect(int kevent_fd, int fd, const void* addr, unsigned addr_len, void* user) {
  const call_scope scope;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  if (const int error = check_socket(fd); error != 0) return error;
  if (addr == nullptr) return -EFAULT;
  if (addr_len == 0 || addr_len > address_bytes_max) return -EINVAL;
  const request what{.code = opcode::connect, .fd = fd};
  auto* made = new (std::nothrow) aio_operation(*queue, KEVENT_NAIO, what, user);
  if (made != nullptr) made->keep_address(addr, addr_len);
  return queue->take_over(made, true);
}

int kevent_aio_recv(int kevent_fd, int fd, void* buf, size_t size, unsigned flags, void* user) {
  const call_scope scope;
  request what = transfer(opcode::recv, fd, buf, size);
  what.flags = flags;
  return message(kevent_fd, what, user);
}

int kevent_aio_send(int kevent_fd, int fd, const void* buf, size_t size, unsigned flags, void* user) {
  const call_scope scope;
  request what = transfer(opcode::send, fd, buf, size);
  what.flags = flags;
  return message(kevent_fd, what, user);
}

int kevent_aio_read(int kevent_fd, int fd, void* buf, size_t size, off_t offset, void* user) {
  const call_scope scope;
  return file_transfer(kevent_fd, transfer(opcode::read, fd, buf, size), offset, user);
}

int kevent_aio_write(int kevent_fd, int fd, const void* buf, size_t size, off_t offset, void* user) {
  const call_scope scope;
  request what = transfer(opcode::write, fd, buf, size);
  if (is_pipe(fd)) what.flags = write_quietly;
  return file_transfer(kevent_fd, what, offset, user);
}

int kevent_aio_cancel(int kevent_fd, void* user) {
  const call_scope scope;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  return queue->change([&] { return aio_operation::cancel(*queue, user); });
}

int kevent_timer_create(int kevent_fd, int clock_id, void* sival_ptr) {
  const call_scope scope;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error();
  if (clock_id != CLOCK_REALTIME && clock_id != CLOCK_MONOTONIC && clock_id != CLOCK_BOOTTIME) return -EINVAL;
  const int id = timer_table::add(kevent_fd);
  if (id < 0) return id;
  const int error = queue->take_over(new (std::nothrow) posix_timer(*queue, id, clock_id, sival_ptr), false);
  if (error != 0) timer_table::remove(id);
  return error == 0 ? id : error;
}

int kevent_timer_settime(int timer_id, int flags, const itimerspec* value) {
  const call_scope scope;
  const int kevent_fd = timer_table::queue_of(timer_id);
  if (kevent_fd < 0) return -EINVAL;
  if (value == nullptr) return -EFAULT;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error() == -EOWNERDEAD ? -EOWNERDEAD : -EINVAL;
  return queue->change([&] {
    auto* timer =
        static_cast<posix_timer*>(queue->find(KEVENT_POSIX_TIMER, static_cast<std::uint64_t>(timer_id)));
    return timer != nullptr ? timer->set(flags, *value) : -EINVAL;
  });
}

int kevent_timer_delete(int timer_id) {
  const call_scope scope;
  const int kevent_fd = timer_table::queue_of(timer_id);
  if (kevent_fd < 0) return -EINVAL;
  const queue_table::visit queue(kevent_fd);
  if (queue.error() != 0) return queue.error() == -EOWNERDEAD ? -EOWNERDEAD : -EINVAL;
  return queue->change([&] {
    registration* timer = queue->find(KEVENT_POSIX_TIMER, static_cast<std::uint64_t>(timer_id));
    if (timer != nullptr) queue->retire(*timer);
    return timer != nullptr ? 0 : -EINVAL;
  });
}
