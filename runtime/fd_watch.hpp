// Readiness of a descriptor that somebody else reads and writes: a C library, for example.
//
//     // libpq does the reading and writing; keel says when. PQsocket() belongs to the connection.
//     task<result<void>> receive_result(PGconn* connection) {
//       fd_watch watch(PQsocket(connection));
//       while (PQisBusy(connection)) {
//         co_await or_return(watch.readable());
//         if (!PQconsumeInput(connection)) co_return failure(errc::connection_reset, "PQconsumeInput");
//       }
//       co_return result<void>();
//     }
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/operation_awaiter.hpp>

#include <cstdint>

namespace keel {

// What a descriptor is ready for: a set of these, with the values of poll(2).
namespace fd_event {
inline constexpr std::uint32_t readable = 0x1;        // POLLIN: data, a connection, the end of the stream
inline constexpr std::uint32_t urgent = 0x2;          // POLLPRI
inline constexpr std::uint32_t writable = 0x4;        // POLLOUT
inline constexpr std::uint32_t error = 0x8;           // POLLERR: told whether asked for or not
inline constexpr std::uint32_t hung_up = 0x10;        // POLLHUP: told whether asked for or not
inline constexpr std::uint32_t peer_closed = 0x2000;  // POLLRDHUP: the peer sends no more
}  // namespace fd_event

// Watches a descriptor without owning it. A resource; not movable: those who wait refer to it.
//
// One waits for readable(), one for writable(), and one for wait() at a time (asserted). Each wait looks
// anew, so what is ready already is told at once: as with poll(2), not once per edge. Between the answer and
// the call that follows it another thread may have taken what was there: that call must not block, so the
// descriptor should be O_NONBLOCK.
//
// Life cycle: make -> wait, any number of times -> nobody waits any more -> destroy -> the library closes
//             the descriptor. One that is closed while somebody waits for it wakes nobody: cancel() first.
// Threads:    the scheduler that waits.
class fd_watch {
 public:
  explicit fd_watch(int fd) noexcept : fd_(fd) {}
  fd_watch(const fd_watch&) = delete;
  fd_watch& operator=(const fd_watch&) = delete;
  // REQUIRES: nobody waits
  ~fd_watch();

  class wait_op;
  // Wait until a read would not block, or would fail; until a write would not; or for any set of fd_event.
  // They give what is ready, of what was asked for, and error and hung_up. A regular file is always ready. On
  // io_uring a peer that sends no more ends every wait: one for writable(), too, then with peer_closed alone
  // while there is no room.
  //
  // Errors:    EBADF, operation_canceled.
  // Cancelled: at once; nothing is taken out of the descriptor.
  // Lifetime:  *this and the descriptor must live until the co_await returns.
  // REQUIRES:  nobody else waits for the same.
  [[nodiscard]] wait_op readable() noexcept;
  [[nodiscard]] wait_op writable() noexcept;
  [[nodiscard]] wait_op wait(std::uint32_t events) noexcept;

  // Ends every wait with operation_canceled, soon; they have ended when their co_await returns.
  void cancel() noexcept;
  int fd() const noexcept { return fd_; }

 private:
  int fd_;
  io_direction reading_;
  io_direction writing_;
  io_direction any_;
};

class fd_watch::wait_op : public operation_awaiter {
 public:
  wait_op(int fd, std::uint32_t events, io_direction& direction) noexcept;
  result<std::uint32_t> take() noexcept;
};

}  // namespace keel
