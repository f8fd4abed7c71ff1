// How each request becomes one entry of the submission queue.

#include "uring_requests.hpp"

#include "uring_buffers.hpp"
#include "uring_constants.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

namespace keel::kevent_sys {
namespace {

std::uint64_t address_of(const void* data) noexcept {
  return reinterpret_cast<std::uintptr_t>(data);
}

void fill_poll(io_uring_sqe& sqe, int fd, std::uint32_t mask, bool multishot) noexcept {
  sqe.opcode = IORING_OP_POLL_ADD;
  sqe.fd = fd;
  sqe.poll32_events = mask;
  sqe.len = multishot ? IORING_POLL_ADD_MULTI : 0;
}

void fill_transfer(io_uring_sqe& sqe, std::uint8_t code, const request& asked) noexcept {
  sqe.opcode = code;
  sqe.fd = asked.fd;
  sqe.addr = address_of(asked.data);
  sqe.len = asked.size_bytes;
}

void fill_accept(io_uring_sqe& sqe, const request& asked) noexcept {
  sqe.opcode = IORING_OP_ACCEPT;
  sqe.fd = asked.fd;
  sqe.accept_flags = SOCK_CLOEXEC;
  if ((asked.flags & accept_blocking) == 0) sqe.accept_flags |= SOCK_NONBLOCK;
  if (asked.multishot) sqe.ioprio = IORING_ACCEPT_MULTISHOT;
}

void fill_receive(io_uring_sqe& sqe, const request& asked) noexcept {
  sqe.opcode = IORING_OP_RECV;
  sqe.fd = asked.fd;
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.buf_group = uring_buffers::group;
  // Armed without a first attempt: it would only fail, and a thousand armed at once would empty the buffer
  // ring.
  sqe.ioprio = IORING_RECVSEND_POLL_FIRST;
  if (asked.multishot) sqe.ioprio |= IORING_RECV_MULTISHOT;
}

void fill_drain(io_uring_sqe& sqe, const request& asked, bool multishot) noexcept {
  sqe.opcode = multishot ? op_read_multishot : std::uint8_t{IORING_OP_READ};
  sqe.fd = asked.fd;
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.buf_group = uring_buffers::group;
  sqe.off = ~std::uint64_t{0};
}

void fill_futex(io_uring_sqe& sqe, const request& asked) noexcept {
  sqe.opcode = op_futex_wait;
  sqe.fd = (asked.flags & futex_shared) != 0 ? futex_shared_word : futex_private_word;
  sqe.addr = address_of(asked.data);
  sqe.off = asked.offset;
  sqe.addr3 = futex_any_bit;
}

}  // namespace

void fill_request(io_uring_sqe& sqe, const request& asked, const uring_abilities& here) noexcept {
  switch (asked.code) {
    case opcode::nop: sqe.opcode = IORING_OP_NOP; break;
    // The eventfd is never read: each write is a new edge for a multishot poll.
    case opcode::wake: fill_poll(sqe, here.wake_fd, POLLIN, true); break;
    case opcode::poll: fill_poll(sqe, asked.fd, asked.flags, asked.multishot); break;
    case opcode::accept: fill_accept(sqe, asked); break;
    case opcode::connect:
      sqe.opcode = IORING_OP_CONNECT;
      sqe.fd = asked.fd;
      sqe.addr = address_of(asked.data);
      sqe.off = asked.size_bytes;
      break;
    case opcode::recv:
      fill_transfer(sqe, IORING_OP_RECV, asked);
      sqe.msg_flags = asked.flags;
      break;
    case opcode::receive:
      if (here.provided_buffers) {
        fill_receive(sqe, asked);
      } else {
        fill_poll(sqe, asked.fd, POLLIN, false);
      }
      break;
    case opcode::drain:
      if (here.provided_buffers) {
        fill_drain(sqe, asked, asked.multishot && here.multishot_read);
      } else {
        fill_poll(sqe, asked.fd, POLLIN, false);
      }
      break;
    case opcode::send:
      fill_transfer(sqe, IORING_OP_SEND, asked);
      sqe.msg_flags = asked.flags | MSG_NOSIGNAL;
      break;
    // The transfer itself is a system call once the socket has room.
    case opcode::sendfile: fill_poll(sqe, asked.fd, POLLOUT, false); break;
    case opcode::open:
      sqe.opcode = IORING_OP_OPENAT;
      sqe.fd = AT_FDCWD;
      sqe.addr = address_of(asked.data);
      sqe.len = asked.size_bytes;
      sqe.open_flags = asked.flags | O_CLOEXEC;
      break;
    case opcode::read:
      fill_transfer(sqe, IORING_OP_READ, asked);
      sqe.off = asked.offset;
      break;
    case opcode::write:
      fill_transfer(sqe, IORING_OP_WRITE, asked);
      sqe.off = asked.offset;
      if ((asked.flags & write_quietly) != 0) sqe.flags |= IOSQE_ASYNC;
      break;
    case opcode::close:
      sqe.opcode = IORING_OP_CLOSE;
      sqe.fd = asked.fd;
      break;
    case opcode::futex: fill_futex(sqe, asked); break;
    case opcode::call:
    case opcode::timer: KEEL_ASSERT(false, "no request of the kernel's"); break;
  }
}

void fill_readiness(io_uring_sqe& sqe, const request& asked) noexcept {
  const bool writes = asked.code == opcode::send || asked.code == opcode::write ||
                      asked.code == opcode::connect || asked.code == opcode::sendfile;
  fill_poll(sqe, asked.fd, writes ? POLLOUT : POLLIN, false);
}

void fill_pause(io_uring_sqe& sqe) noexcept {
  // Copied when the request is handed over.
  static const __kernel_timespec pause{0, 20'000'000};
  sqe.opcode = IORING_OP_TIMEOUT;
  sqe.fd = -1;
  sqe.addr = address_of(&pause);
  sqe.len = 1;
}

void fill_warm_up(io_uring_sqe& sqe, int file_fd, std::uint64_t offset, std::byte* scratch,
                  std::uint32_t bytes) noexcept {
  sqe.opcode = IORING_OP_READ;
  sqe.fd = file_fd;
  sqe.addr = address_of(scratch);
  sqe.len = bytes;
  sqe.off = offset;
}

}  // namespace keel::kevent_sys
