// Pipes.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/base/unique_fd.hpp>
#include <keel/runtime/operation_awaiter.hpp>

#include <utility>

namespace keel {

class pipe_end;
class pipe_reader;
class pipe_writer;

// What the functions of pipe ends return.
class pipe_read_op : public operation_awaiter {
 public:
  pipe_read_op(pipe_reader& from, byte_span target) noexcept;
  result<std::size_t> take() noexcept { return size_or_error("read from a pipe"); }
};

class pipe_write_op : public operation_awaiter {
 public:
  pipe_write_op(pipe_writer& to, const_byte_span bytes) noexcept;
  result<std::size_t> take() noexcept { return size_or_error("write to a pipe"); }
};

class pipe_write_all_op : public operation_awaiter {
 public:
  pipe_write_all_op(pipe_writer& to, const_byte_span bytes) noexcept;
  result<void> take() noexcept { return void_or_error("write to a pipe"); }

 private:
  static bool written(operation_awaiter& self) noexcept;

  const_byte_span left_;
};

class pipe_close_op : private runnable {
 public:
  explicit pipe_close_op(pipe_end& end) noexcept : runnable(&freed), end_(end) {}
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  void take() noexcept {}

 private:
  static void freed(runnable& self) noexcept;

  pipe_end& end_;
  unique_fd fd_;
  wait_point waiting_;
};

// What both ends have in common. A resource; movable while no operation is in flight. Destroying it closes
// the descriptor.
//
// INVARIANT: one operation at a time (asserted).
// Lifetime: *this must neither move nor go while an operation on it is awaited.
// Thread safety: one scheduler at a time.
class pipe_end {
 public:
  pipe_end(const pipe_end&) = delete;
  pipe_end& operator=(const pipe_end&) = delete;

  // Stops what is in flight, awaits its end, and closes the descriptor. What it stops ends with
  // operation_canceled.
  //
  // Errors:    none: the descriptor is gone whatever the kernel says.
  // Cancelled: no; it ends by itself.
  // REQUIRES:  nobody else closes it.
  [[nodiscard]] pipe_close_op close() noexcept { return pipe_close_op(*this); }

  // Ends what is in flight, if anything is: with operation_canceled, or with what it has done already.
  void cancel() noexcept { direction_.cancel(); }

  // Gives the descriptor away. REQUIRES: nothing is in flight
  unique_fd release() noexcept;

  bool is_open() const noexcept { return bool(fd_); }
  int fd() const noexcept { return fd_.get(); }

 protected:
  pipe_end() noexcept = default;
  explicit pipe_end(unique_fd fd) noexcept : fd_(std::move(fd)) {}
  pipe_end(pipe_end&& other) noexcept : fd_(other.release()) {}
  pipe_end& operator=(pipe_end&& other) noexcept;
  ~pipe_end() { close_now(); }

 private:
  friend class pipe_close_op;
  friend class pipe_read_op;
  friend class pipe_write_op;
  friend class pipe_write_all_op;

  void close_now() noexcept;

  unique_fd fd_;
  io_direction direction_;
};

// The end of a pipe that is read; a FIFO or a terminal will do as well.
class pipe_reader : public pipe_end {
 public:
  pipe_reader() noexcept = default;  // closed
  explicit pipe_reader(unique_fd fd) noexcept : pipe_end(std::move(fd)) {}

  // Reads what is there: 1 to target.size() bytes, or 0 once every writing end is closed and the pipe empty.
  //
  // Errors:    EIO, EBADF, operation_canceled.
  // Cancelled: no byte is lost; a read that had already finished reports its bytes.
  // Lifetime:  `target` and *this must live until the co_await returns.
  // REQUIRES:  !target.empty(); no other read in flight.
  [[nodiscard]] pipe_read_op read(byte_span target) noexcept { return pipe_read_op(*this, target); }
};

// The end of a pipe that is written. A pipe without readers raises no SIGPIPE.
class pipe_writer : public pipe_end {
 public:
  pipe_writer() noexcept = default;  // closed
  explicit pipe_writer(unique_fd fd) noexcept : pipe_end(std::move(fd)) {}

  // Writes at least one byte; gives how many.
  //
  // Errors:    EPIPE when nobody can read any more; EBADF, operation_canceled.
  // Cancelled: what was handed to the kernel is reported as written.
  // Lifetime:  `bytes` and *this must live until the co_await returns.
  // REQUIRES:  !bytes.empty(); no other write in flight.
  [[nodiscard]] pipe_write_op write(const_byte_span bytes) noexcept { return pipe_write_op(*this, bytes); }

  // Writes all of `bytes`.
  //
  // Errors:    EPIPE, EBADF, operation_canceled; a part may have been written.
  // Cancelled: a part may have been written.
  // Lifetime:  `bytes` and *this must live until the co_await returns.
  // REQUIRES:  no other write in flight.
  [[nodiscard]] pipe_write_all_op write_all(const_byte_span bytes) noexcept {
    return pipe_write_all_op(*this, bytes);
  }
};

struct pipe_ends {
  pipe_reader reader;
  pipe_writer writer;
};

// A pipe, close-on-exec. A quick system call.
//
// Errors: EMFILE, ENFILE; not_supported on a simulated scheduler: sim_world::pipe() makes one there.
result<pipe_ends> make_pipe() noexcept;

}  // namespace keel
