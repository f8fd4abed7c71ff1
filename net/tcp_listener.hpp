// Accepting TCP connections.
#pragma once

#include <keel/net/tcp_stream.hpp>
#include <keel/runtime/spawn.hpp>

#include <cstdint>
#include <string_view>

namespace keel::net {

class acceptor;

struct listen_options {
  int backlog = 4096;  // connections that wait to be accepted; the kernel's limit is net.core.somaxconn
  bool shared =
      false;  // one listener per scheduler on one port (SO_REUSEPORT): every scheduler calls listen with
              // the same endpoint; the first binds, and port 0 means the same free port for all
  bool no_delay = true;  // accepted connections send small segments at once
  bool ahead = true;  // may take connections before accept() asks for them, many in one request; false: takes
                      // exactly as many as accept() asks for, for servers that limit their connections
};

class accept_op : private stop_callback, private wait_point {
 public:
  explicit accept_op(acceptor& from) noexcept;
  accept_op(accept_op&& other) noexcept;
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<tcp_stream> take() noexcept;

 private:
  friend class acceptor;
  static void stopped(stop_callback& self, stop_level level) noexcept;
  void connection_ready() noexcept;

  acceptor& from_;
  bool canceled_ = false;
};

// A listening socket. A resource; movable while nobody accepts. Destroying it closes the socket and the
// connections that were accepted and not taken.
//
// When descriptors run out, accepting pauses for 5 to 100 ms, or until this scheduler closes one: no spin, no
// error.
// Thread safety: the scheduler on which it was made.
class tcp_listener {
 public:
  // Binds and listens at once. Called on a scheduler.
  //
  // Errors: EADDRINUSE, EADDRNOTAVAIL, EACCES (a port below 1024), EMFILE; bad_address for a text that is no
  //         endpoint.
  static result<tcp_listener> listen(const endpoint& at, listen_options options = {});
  static result<tcp_listener> listen(std::string_view at, listen_options options = {});

  tcp_listener(tcp_listener&& other) noexcept;
  tcp_listener& operator=(tcp_listener&& other) noexcept;
  ~tcp_listener();

  // The next connection.
  //
  // Errors:    EBADF, EINVAL: the socket does not listen any more; operation_canceled.
  // Cancelled: at a graceful stop; no connection is lost, the next accept() gives it.
  // Lifetime:  *this must live until the co_await returns.
  // REQUIRES:  nobody else accepts from *this.
  [[nodiscard]] accept_op accept() noexcept { return accept_op(*acceptor_); }

  // Where it listens: with the port that was chosen for port 0.
  endpoint local() const noexcept;
  int fd() const noexcept;

 private:
  explicit tcp_listener(acceptor& made) noexcept : acceptor_(&made) {}
  void close_now() noexcept;

  acceptor* acceptor_;
};

}  // namespace keel::net
