#include "file_sends.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <new>
#include <utility>

namespace keel::kevent_sys {
namespace {

constexpr std::uint32_t chunk_max = 64 * 1024;
constexpr std::uint32_t header_step_max = 1u << 30;

constinit std::atomic<long> last_cookie{0};

ukevent key_of(std::uint64_t socket_inode) noexcept {
  ukevent key{};
  key.type = key_file_send;
  key.id.raw_u64 = socket_inode;
  key.event = KEVENT_MASK_ALL;
  key.req_flags = KEVENT_REQ_ONESHOT | KEVENT_REQ_ALWAYS_QUEUE;
  return key;
}

bool nonblocking(int fd) noexcept {
  const int flags = ::fcntl(fd, F_GETFL);
  return flags >= 0 && (flags & O_NONBLOCK) != 0;
}

}  // namespace

file_send::working::working(file_send& of) noexcept : operation({}, &answered), owner(of) {}

file_send::file_send(shared_queue& home, send_plan&& plan) noexcept
    : registration(home, key_of(plan.socket_inode)),
      plan_(std::move(plan)),
      work_(*this),
      cookie_(last_cookie.fetch_add(1, std::memory_order_relaxed) + 1) {}

void file_send::start() noexcept {
  if (home().hidden().find(key_file_send, plan_.socket_inode) == this) run();
}

void file_send::run() noexcept {
  if (plan_.path == nullptr) {
    const int error = look_at_file();
    error != 0 ? end(error) : send_header();
    return;
  }
  // O_NONBLOCK: a FIFO is opened at once, and then refused.
  submit(step::opening, {.code = opcode::open,
                         .flags = O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
                         .data = plan_.path.get()});
}

void file_send::submit(step s, const request& what) noexcept {
  step_ = s;
  work_.asked = what;
  home().submit(work_);
}

// What is to be sent of it: 0 or -errno.
int file_send::look_at_file() noexcept {
  struct stat status {};
  if (::fstat(file(), &status) != 0) return -errno;
  if (!S_ISREG(status.st_mode)) return -EINVAL;
  const auto size = static_cast<std::uint64_t>(status.st_size);
  position_ = plan_.offset;
  end_ = position_ + std::min(plan_.count, size > position_ ? size - position_ : 0);
  return 0;
}

void file_send::send_header() noexcept {
  const std::size_t bytes = plan_.header_bytes - header_sent_;
  if (bytes == 0) {
    send_body();
    return;
  }
  submit(step::header,
         {.code = opcode::send,
          .fd = plan_.socket_fd,
          .size_bytes = static_cast<std::uint32_t>(std::min<std::size_t>(bytes, header_step_max)),
          .flags = left() > 0 ? std::uint32_t{MSG_MORE} : 0u,
          .data = plan_.header.get() + header_sent_});
}

void file_send::send_body() noexcept {
  if (left() == 0) {
    end(0);
  } else if (nonblocking(plan_.socket_fd)) {
    submit(step::sending, {.code = opcode::sendfile,
                           .fd = plan_.socket_fd,
                           .file_fd = file(),
                           .offset = position_,
                           .count = left()});
  } else {
    if (chunk_ == nullptr) chunk_.reset(new (std::nothrow) std::byte[chunk_max]);
    if (chunk_ == nullptr) {
      end(-ENOMEM);
      return;
    }
    submit(step::reading,
           {.code = opcode::read,
            .fd = file(),
            .size_bytes = static_cast<std::uint32_t>(std::min<std::uint64_t>(left(), chunk_max)),
            .data = chunk_.get(),
            .offset = position_});
  }
}

void file_send::write_chunk() noexcept {
  submit(step::writing, {.code = opcode::send,
                         .fd = plan_.socket_fd,
                         .size_bytes = chunk_bytes_ - chunk_sent_,
                         .data = chunk_.get() + chunk_sent_});
}

void file_send::answered(operation& self, answer a) noexcept {
  file_send& send = static_cast<working&>(self).owner;
  if (!send.ended_) {
    send.on_answer(a.value);
    return;
  }
  if (send.step_ == step::opening && a.value >= 0) send.own_file_.reset(a.value);
  send.home().released(send);
}

void file_send::on_answer(int value) noexcept {
  if (step_ == step::closing) {
    finish();
    return;
  }
  if (value < 0) {
    end(value);
    return;
  }
  switch (step_) {
    case step::opening: {
      own_file_.reset(value);
      const int error = look_at_file();
      error != 0 ? end(error) : send_header();
      break;
    }
    case step::header:
      header_sent_ += static_cast<std::size_t>(value);
      send_header();
      break;
    default: moved(value); break;
  }
}

// A step of the body has moved `value` bytes.
void file_send::moved(int value) noexcept {
  const auto bytes = static_cast<std::uint32_t>(value);
  switch (step_) {
    case step::reading:
      chunk_bytes_ = bytes;
      chunk_sent_ = 0;
      bytes == 0 ? end(0) : write_chunk();  // 0: the file was cut short meanwhile
      break;
    case step::writing:
      chunk_sent_ += bytes;
      position_ += bytes;
      chunk_sent_ < chunk_bytes_ ? write_chunk() : send_body();
      break;
    case step::sending:
      position_ += bytes;
      bytes == 0 ? end(0) : send_body();
      break;
    default: KEEL_ASSERT(false, "no step of a body"); break;
  }
}

void file_send::end(int error) noexcept {
  error_ = error;
  if (!own_file_) {
    finish();
    return;
  }
  submit(step::closing, {.code = opcode::close, .fd = own_file_.release()});
}

// Its event is there, and the next request has the socket.
void file_send::finish() noexcept {
  shared_queue& queue = home();
  queue.hidden().erase(*this);
  const std::uint32_t broken = error_ != 0 ? KEVENT_RET_BROKEN : 0;
  queue.set_ready(*this, verdict{KEVENT_RET_DONE | broken, {0, 0}});
  auto* next = static_cast<file_send*>(queue.hidden().find(key_file_send, plan_.socket_inode));
  if (next != nullptr) next->run();
}

void file_send::delivered(ukevent& out) noexcept {
  out.type = KEVENT_AIO;
  out.id.raw_u64 = static_cast<std::uint64_t>(cookie_);
  out.ptr = reinterpret_cast<void*>(cookie_);
  const std::uint64_t sent = position_ - std::min(position_, plan_.offset);
  out.ret_data[0] = static_cast<std::uint32_t>(sent);
  out.ret_data[1] = error_ != 0 ? static_cast<std::uint32_t>(error_) : static_cast<std::uint32_t>(sent >> 32);
}

void file_send::stop() noexcept {
  ended_ = true;
  if (work_.in_flight()) home().cancel(work_);
}

}  // namespace keel::kevent_sys
