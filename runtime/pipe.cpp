#include <keel/runtime/pipe.hpp>

#include "simulated.hpp"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>

namespace keel {
namespace {

// The kernel moves at most this many bytes in one call.
constexpr std::size_t transfer_max = 0x7ffff000;

std::uint32_t clamped(std::size_t bytes) noexcept {
  return static_cast<std::uint32_t>(std::min(bytes, transfer_max));
}

kevent_sys::request write_request(int fd, const_byte_span bytes) noexcept {
  return {.code = kevent_sys::opcode::write,
          .fd = fd,
          .size_bytes = clamped(bytes.size()),
          .flags = kevent_sys::write_quietly,
          .data = bytes.data()};
}

}  // namespace

pipe_read_op::pipe_read_op(pipe_reader& from, byte_span target) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::read,
                         .fd = from.fd(),
                         .size_bytes = clamped(target.size()),
                         .data = target.data()}) {
  KEEL_ASSERT(!target.empty(), "a read needs room for at least one byte");
  occupy(from.direction_);
}

pipe_write_op::pipe_write_op(pipe_writer& to, const_byte_span bytes) noexcept
    : operation_awaiter(write_request(to.fd(), bytes)) {
  KEEL_ASSERT(!bytes.empty(), "a write needs at least one byte");
  occupy(to.direction_);
}

pipe_write_all_op::pipe_write_all_op(pipe_writer& to, const_byte_span bytes) noexcept
    : operation_awaiter(write_request(to.fd(), bytes)), left_(bytes) {
  occupy(to.direction_);
  steps_with(&written);
  if (bytes.empty()) answer_now(0);
}

bool pipe_write_all_op::written(operation_awaiter& self) noexcept {
  auto& me = static_cast<pipe_write_all_op&>(self);
  if (me.value() < 0) return false;
  me.left_ = me.left_.subspan(static_cast<std::size_t>(me.value()));
  if (me.left_.empty()) return false;
  me.asked().data = me.left_.data();
  me.asked().size_bytes = clamped(me.left_.size());
  return true;
}

std::coroutine_handle<> pipe_close_op::start(waiter& up, stop_context& context) noexcept {
  // What begins from now on finds no descriptor.
  fd_ = std::move(end_.fd_);
  if (end_.direction_.busy == nullptr) {
    end_.fd_ = std::move(fd_);
    end_.close_now();
    return up.next(&up);
  }
  waiting_.begin(up, context, "the end of what is in flight");
  end_.direction_.cancel();
  end_.direction_.tell_when_free(*this);
  return std::noop_coroutine();
}

void pipe_close_op::freed(runnable& self) noexcept {
  auto& me = static_cast<pipe_close_op&>(self);
  me.end_.fd_ = std::move(me.fd_);
  me.end_.close_now();
  me.waiting_.resume();
}

pipe_end& pipe_end::operator=(pipe_end&& other) noexcept {
  if (this == &other) return *this;
  close_now();
  fd_ = other.release();
  return *this;
}

unique_fd pipe_end::release() noexcept {
  KEEL_ASSERT(direction_.busy == nullptr, "a pipe was moved while it is in use");
  return std::move(fd_);
}

void pipe_end::close_now() noexcept {
  KEEL_ASSERT(direction_.busy == nullptr, "a pipe was destroyed while an operation is in flight");
  if (!fd_) return;
  fd_.reset();
  if (scheduler* here = scheduler::current()) here->note_descriptor_freed();
}

result<pipe_ends> make_pipe() noexcept {
  constexpr const char* doing = "make a pipe";
  if (const scheduler* here = scheduler::current(); here != nullptr && is_simulated(*here))
    return failure(errc::not_supported, doing);
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0) return failure(kernel_error(errno), doing);
  return pipe_ends{pipe_reader(unique_fd(ends[0])), pipe_writer(unique_fd(ends[1]))};
}

}  // namespace keel
