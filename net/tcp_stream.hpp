// A TCP connection.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/base/unique_fd.hpp>
#include <keel/net/endpoint.hpp>
#include <keel/net/lease.hpp>
#include <keel/net/stream_ops.hpp>

#include <cstdint>
#include <string_view>

namespace keel::net {

struct send_options {
  bool more = false;  // further bytes follow at once: the kernel may wait for them to fill a segment
};

// A connected socket. A resource; movable while no operation is in flight. Destroying it closes the
// connection.
//
// One task may receive and one may send at a time (asserted); the two directions are independent.
// Lifetime: *this must neither move nor go while an operation on it is awaited.
// Thread safety: the scheduler on which its first operation ran.
class tcp_stream {
 public:
  // Takes over a connected stream socket, which becomes O_NONBLOCK.
  explicit tcp_stream(unique_fd connected) noexcept;
  tcp_stream(tcp_stream&& other) noexcept;
  tcp_stream& operator=(tcp_stream&& other) noexcept;
  ~tcp_stream();

  // Connects to `to`.
  //
  // Errors:    ECONNREFUSED, ETIMEDOUT, ENETUNREACH, EMFILE, ...; operation_canceled.
  // Cancelled: the attempt is given up; no descriptor is left.
  [[nodiscard]] static connect_op connect(const endpoint& to) noexcept { return connect_op(to); }
  // The same, with the text parsed: "127.0.0.1:80", "[::1]:80". Names need a resolver.
  //
  // Errors:    as above, and bad_address.
  // Cancelled: as above.
  [[nodiscard]] static connect_op connect(std::string_view to) { return connect_op(endpoint::parse(to)); }

  // Receives what is there: 1 to target.size() bytes, or 0 once the peer has stopped sending.
  //
  // Errors:    ECONNRESET, ETIMEDOUT, operation_canceled.
  // Cancelled: no byte is lost; a receive that had already finished reports its bytes.
  // Lifetime:  `target` and *this must live until the co_await returns.
  // REQUIRES:  !target.empty(); no other receive in flight.
  [[nodiscard]] recv_op recv(byte_span target) noexcept { return recv_op(*this, target, false); }

  // Receives exactly target.size() bytes; gives that size.
  //
  // Errors:    end_of_stream when the peer stops sending before; ECONNRESET, ETIMEDOUT, operation_canceled.
  // Cancelled: bytes that had come are in `target`, but their number is not told.
  // Lifetime:  `target` and *this must live until the co_await returns.
  // REQUIRES:  !target.empty(); no other receive in flight.
  [[nodiscard]] recv_op recv_exactly(byte_span target) noexcept { return recv_op(*this, target, true); }

  // Receives what is there into a buffer of the scheduler: an idle connection holds no memory for it. An
  // empty lease is the end of the stream. Bytes may arrive between two calls; a few buffers wait for the next
  // one.
  //
  // Errors:    ECONNRESET, ETIMEDOUT, operation_canceled.
  // Cancelled: at once; no byte is lost.
  // Lifetime:  *this must live until the co_await returns; the lease may outlive it.
  // REQUIRES:  no other receive in flight.
  [[nodiscard]] receive_op receive() noexcept { return receive_op(*this); }

  // Sends at least one byte; gives how many.
  //
  // Errors:    EPIPE, ECONNRESET, ETIMEDOUT, operation_canceled. Never SIGPIPE.
  // Cancelled: what was handed to the kernel is reported as sent.
  // Lifetime:  `bytes` and *this must live until the co_await returns.
  // REQUIRES:  !bytes.empty(); no other send in flight.
  [[nodiscard]] send_op send(const_byte_span bytes, send_options options = {}) noexcept;

  // Sends all of `bytes`.
  //
  // Errors:    EPIPE, ECONNRESET, ETIMEDOUT, operation_canceled; a part may have been sent.
  // Cancelled: a part may have been sent.
  // Lifetime:  `bytes` and *this must live until the co_await returns.
  // REQUIRES:  no other send in flight.
  [[nodiscard]] send_all_op send_all(const_byte_span bytes, send_options options = {}) noexcept;

  // Sends bytes [offset, offset + count) of `file` without copying them; gives their number. Does not use or
  // move the file's position.
  //
  // Errors:    unexpected_end_of_file when the file is shorter; EPIPE, ECONNRESET, EIO, EBADF; EINVAL or
  //            ESPIPE for what has no pages (a directory, a pipe); operation_canceled; a part may have been
  //            sent.
  // Cancelled: a part may have been sent.
  // Lifetime:  `file` and *this must live until the co_await returns.
  // REQUIRES:  no other send in flight.
  [[nodiscard]] sendfile_op sendfile(borrowed_fd file, std::uint64_t offset, std::uint64_t count) noexcept;

  // Tells the peer that nothing more will come. Receiving goes on.
  //
  // Errors: ENOTCONN.
  result<void> shutdown_send() noexcept;

  // Stops what is in flight, awaits its end, and closes the descriptor. Operations that it stops end with
  // operation_canceled.
  //
  // Errors:    none: the descriptor is gone whatever the kernel says.
  // Cancelled: no; it ends by itself.
  // REQUIRES:  nobody else closes it.
  [[nodiscard]] close_op close() noexcept { return close_op(*this); }

  bool is_open() const noexcept { return bool(fd_); }
  int fd() const noexcept { return fd_.get(); }

  // Errors: ENOTCONN, EBADF.
  result<endpoint> local() const noexcept;
  result<endpoint> peer() const noexcept;

  // Errors of these: EBADF, EINVAL.
  result<void> set_no_delay(bool on) noexcept;  // small segments at once; on by default with keel's listeners
  result<void> set_keep_alive(bool on) noexcept;  // probe a silent peer
  result<void> set_send_buffer(int bytes) noexcept;
  result<void> set_receive_buffer(int bytes) noexcept;
  result<void> set_reset_on_close() noexcept;     // RST instead of FIN: nothing lingers

 private:
  friend class acceptor;
  friend class connect_op;
  friend class recv_op;
  friend class receive_op;
  friend class send_op;
  friend class send_all_op;
  friend class sendfile_op;
  friend class close_op;

  struct already_nonblocking {};
  tcp_stream(unique_fd connected, already_nonblocking) noexcept;

  // Null when memory is short.
  receiver* receiver_on(scheduler& home) noexcept;
  bool in_use() const noexcept;
  void close_now() noexcept;

  unique_fd fd_;
  receiver* receiver_ = nullptr;  // from the first receive() on
  io_direction in_;
  io_direction out_;
};

}  // namespace keel::net
