// Files, read and written without blocking the scheduler.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/base/unique_fd.hpp>
#include <keel/runtime/operation_awaiter.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace keel::fs {

class file;

// How a file is opened.
enum class open_mode : std::uint8_t {
  read,                // must exist
  write,               // write only; made if it does not exist, kept as it is if it does
  read_write,          // as write, and readable
  truncate,            // as read_write, and emptied
  create_new,          // as read_write; must not exist
};

class open_op : public operation_awaiter {
 public:
  open_op(std::string path, open_mode mode, std::uint32_t permissions);
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<file> take() noexcept;

 private:
  std::string path_;
};

class transfer_op : public operation_awaiter {
 public:
  transfer_op(kevent_sys::opcode code, int fd, const std::byte* data, std::size_t size,
              std::uint64_t offset) noexcept;
  result<std::size_t> take() noexcept;
};

class close_op : public operation_awaiter {
 public:
  explicit close_op(unique_fd fd) noexcept;
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<void> take() noexcept;

 private:
  unique_fd fd_;
};

// An open file. A resource; movable while no operation is in flight. Several operations may be in flight at
// once.
//
// Destroying it closes the descriptor and ignores what the kernel says then: after writing, close() tells.
// Lifetime: *this must live while an operation on it is awaited.
// Thread safety: as an int.
class file {
 public:
  // Takes over a descriptor of a regular file.
  explicit file(unique_fd fd) noexcept;

  // Opens `path`, with `permissions` (less the umask) when it is made. The descriptor is CLOEXEC.
  //
  // Errors:    ENOENT, EACCES, EISDIR, EEXIST, EMFILE, ...; EINVAL for a path with a zero inside;
  //            operation_canceled.
  // Cancelled: the file may have been made; no descriptor is left.
  [[nodiscard]] static open_op open(std::string path, open_mode mode = open_mode::read,
                                    std::uint32_t permissions = 0666) {
    return open_op(std::move(path), mode, permissions);
  }

  // Reads at most target.size() bytes (2 GiB less a page in one call) from `offset`; gives how many, 0 at the
  // end.
  //
  // Errors:    EIO, EBADF, EISDIR, operation_canceled.
  // Cancelled: once the kernel reads, it ends by itself, with its answer.
  // Lifetime:  `target` and *this must live until the co_await returns.
  [[nodiscard]] transfer_op read_at(byte_span target, std::uint64_t offset) noexcept;

  // Writes bytes.size() bytes at `offset`, or fewer; gives how many.
  //
  // Errors:    ENOSPC, EDQUOT, EFBIG, EIO, EBADF, operation_canceled.
  // Cancelled: once the kernel writes, it ends by itself, with its answer.
  // Lifetime:  `bytes` and *this must live until the co_await returns.
  [[nodiscard]] transfer_op write_at(const_byte_span bytes, std::uint64_t offset) noexcept;

  // Closes the descriptor, and tells what the file system had kept to itself until then.
  //
  // Errors:    EIO, ENOSPC, EDQUOT: written bytes may be lost. The descriptor is gone in any case.
  // Cancelled: no; it ends by itself.
  [[nodiscard]] close_op close() noexcept { return close_op(std::move(fd_)); }

  // The size in bytes when the file was opened.
  std::uint64_t size() const noexcept { return size_; }
  // The size now. A quick system call. Errors: EIO, EBADF.
  result<std::uint64_t> size_now() const noexcept;

  int fd() const noexcept { return fd_.get(); }
  operator borrowed_fd() const noexcept { return borrowed_fd(fd_.get()); }

 private:
  unique_fd fd_;
  std::uint64_t size_ = 0;
};

}  // namespace keel::fs
