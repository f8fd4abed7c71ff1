#include <keel/fs/file.hpp>

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace keel::fs {
namespace {

// The kernel moves at most this many bytes in one call.
constexpr std::size_t transfer_max = 0x7ffff000;
constexpr std::uint64_t offset_max = 0x7fff'ffff'ffff'ffff;

std::uint32_t flags_of(open_mode mode) noexcept {
  switch (mode) {
    case open_mode::read: return O_RDONLY;
    case open_mode::write: return O_WRONLY | O_CREAT;
    case open_mode::read_write: return O_RDWR | O_CREAT;
    case open_mode::truncate: return O_RDWR | O_CREAT | O_TRUNC;
    case open_mode::create_new: return O_RDWR | O_CREAT | O_EXCL;
  }
  return O_RDONLY;
}

}  // namespace

open_op::open_op(std::string path, open_mode mode, std::uint32_t permissions)
    : operation_awaiter({.code = kevent_sys::opcode::open,
                         .size_bytes = permissions,
                         .flags = flags_of(mode) | O_CLOEXEC | O_NOCTTY}),
      path_(std::move(path)) {}

std::coroutine_handle<> open_op::start(waiter& up, stop_context& context) noexcept {
  // The kernel would open what stands before the zero.
  if (path_.find('\0') != std::string::npos) answer_now(-EINVAL);
  asked().data = path_.c_str();
  return operation_awaiter::start(up, context);
}

result<file> open_op::take() noexcept {
  if (value() < 0) return failure(kernel_error(value()), "open");
  return file(unique_fd(value()));
}

transfer_op::transfer_op(kevent_sys::opcode code, int fd, const std::byte* data, std::size_t size,
                         std::uint64_t offset) noexcept
    : operation_awaiter({.code = code,
                         .fd = fd,
                         .size_bytes = static_cast<std::uint32_t>(std::min(size, transfer_max)),
                         .data = data,
                         .offset = offset}) {
  if (size == 0) answer_now(0);
  // The kernel would take the largest of them for "at the file's position".
  if (offset > offset_max) answer_now(-EINVAL);
}

result<std::size_t> transfer_op::take() noexcept {
  return size_or_error(asked().code == kevent_sys::opcode::read ? "read" : "write");
}

close_op::close_op(unique_fd fd) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::close, .fd = fd.get()}), fd_(std::move(fd)) {
  never_stop();
}

std::coroutine_handle<> close_op::start(waiter& up, stop_context& context) noexcept {
  // From here on the descriptor is the kernel's to close; one that is never awaited closes with the
  // operation.
  fd_.release();
  return operation_awaiter::start(up, context);
}

result<void> close_op::take() noexcept { return void_or_error("close"); }

file::file(unique_fd fd) noexcept : fd_(std::move(fd)) { size_ = size_now().value_or(0); }

transfer_op file::read_at(byte_span target, std::uint64_t offset) noexcept {
  return transfer_op(kevent_sys::opcode::read, fd_.get(), target.data(), target.size(), offset);
}

transfer_op file::write_at(const_byte_span bytes, std::uint64_t offset) noexcept {
  return transfer_op(kevent_sys::opcode::write, fd_.get(), bytes.data(), bytes.size(), offset);
}

result<std::uint64_t> file::size_now() const noexcept {
  struct stat status{};
  if (::fstat(fd_.get(), &status) != 0) return failure(kernel_error(errno), "fstat");
  return static_cast<std::uint64_t>(status.st_size);
}

}  // namespace keel::fs
