#include <keel/net/tcp_listener.hpp>

#include <keel/runtime/runtime.hpp>

#include "acceptor.hpp"
#include "socket_calls.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <cerrno>
#include <mutex>
#include <utility>
#include <vector>

namespace keel::net {
namespace {

// The port that the schedulers of one runtime share: their n-th listeners on one endpoint belong together.
struct shared_port {
  endpoint asked;
  endpoint bound;
  std::vector<bool> joined;  // by scheduler
};

struct shared_ports {
  std::mutex mutex;
  std::vector<shared_port> ports;
};

constexpr char shared_ports_key = 0;

shared_ports& shared_ports_of(runtime& rt) {
  return *static_cast<shared_ports*>(rt.local(
      &shared_ports_key, [] { return static_cast<void*>(new shared_ports); },
      [](void* ports) { delete static_cast<shared_ports*>(ports); }));
}

result<unique_fd> new_socket(const endpoint& at) noexcept {
  unique_fd fd(::socket(at.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return last_error("socket");
  if (at.is_ip()) {
    if (auto set = set_option(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1); !set) return set.why();
    // [::] means every address, IPv4 too, whatever net.ipv6.bindv6only says.
    if (at.family() == AF_INET6) set_option(fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, 0).error();
  }
  return fd;
}

result<void> bind_to(int fd, const endpoint& at) noexcept {
  alignas(8) std::byte address[endpoint::sockaddr_size_max];
  const std::size_t size = at.to_sockaddr(address);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(address), static_cast<socklen_t>(size)) != 0)
    return last_error("bind");
  return {};
}

result<unique_fd> bind_alone(const endpoint& at) noexcept {
  auto fd = new_socket(at);
  if (!fd) return fd;
  if (auto bound = bind_to(fd->get(), at); !bound) return bound.why();
  return fd;
}

// The first binds as if it were alone, so that a second server is refused; its siblings then join its port.
result<unique_fd> bind_shared(const endpoint& at, scheduler& here) {
  shared_ports& known = shared_ports_of(here.owner());
  const std::lock_guard lock(known.mutex);
  for (shared_port& port : known.ports) {
    if (!(port.asked == at) || port.joined[here.index()]) continue;
    auto fd = new_socket(at);
    if (!fd) return fd;
    if (auto set = set_option(fd->get(), SOL_SOCKET, SO_REUSEPORT, 1); !set) return set.why();
    if (auto bound = bind_to(fd->get(), port.bound); !bound) return bound.why();
    port.joined[here.index()] = true;
    return fd;
  }
  auto fd = bind_alone(at);
  if (!fd) return fd;
  if (auto set = set_option(fd->get(), SOL_SOCKET, SO_REUSEPORT, 1); !set) return set.why();
  auto bound = local_endpoint(fd->get());
  if (!bound) return bound.why();
  shared_port port{at, *bound, std::vector<bool>(here.owner().size())};
  port.joined[here.index()] = true;
  known.ports.push_back(std::move(port));
  return fd;
}

}  // namespace

result<tcp_listener> tcp_listener::listen(std::string_view at, listen_options options) {
  const auto parsed = endpoint::parse(at);
  if (!parsed) return failure(parsed.error(), "listen");
  return listen(*parsed, options);
}

result<tcp_listener> tcp_listener::listen(const endpoint& at, listen_options options) {
  scheduler& here = keel::detail::current_scheduler();
  auto fd = options.shared && at.is_ip() ? bind_shared(at, here) : bind_alone(at);
  if (!fd) return fd.why();
  if (at.is_ip() && options.no_delay) {
    if (auto set = set_option(fd->get(), IPPROTO_TCP, TCP_NODELAY, 1); !set) return set.why();
  }
  if (::listen(fd->get(), options.backlog) != 0) return last_error("listen");
  return tcp_listener(*new acceptor(here, *std::move(fd), options.ahead));
}

tcp_listener::tcp_listener(tcp_listener&& other) noexcept
    : acceptor_(std::exchange(other.acceptor_, nullptr)) {}

tcp_listener& tcp_listener::operator=(tcp_listener&& other) noexcept {
  if (this == &other) return *this;
  close_now();
  acceptor_ = std::exchange(other.acceptor_, nullptr);
  return *this;
}

tcp_listener::~tcp_listener() {
  close_now();
}

void tcp_listener::close_now() noexcept {
  if (acceptor_ != nullptr) std::exchange(acceptor_, nullptr)->abandon();
}

endpoint tcp_listener::local() const noexcept {
  return local_endpoint(fd()).value_or(endpoint());
}
int tcp_listener::fd() const noexcept {
  return acceptor_->fd();
}

accept_op::accept_op(acceptor& from) noexcept : stop_callback(&accept_op::stopped), from_(from) {
  threshold = stop_level::graceful;
}

accept_op::accept_op(accept_op&& other) noexcept
    : stop_callback(other), wait_point(other), from_(other.from_) {}

std::coroutine_handle<> accept_op::start(waiter& up, stop_context& context) noexcept {
  KEEL_ASSERT(&context.home() == &from_.home(), "a listener belongs to the scheduler on which it was made");
  if (context.stopped(threshold)) {
    canceled_ = true;
    return give_up(up, context);
  }
  if (from_.ready()) return go_on(up, context);
  begin(up, context, "a connection");
  context.add(*this);
  from_.wait(*this);
  return std::noop_coroutine();
}

void accept_op::connection_ready() noexcept {
  static_cast<stop_callback&>(*this).unlink();
  resume();
}

void accept_op::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<accept_op&>(self);
  me.canceled_ = true;
  me.from_.forget(me);
  me.wake();
}

result<tcp_stream> accept_op::take() noexcept {
  if (canceled_) return failure(errc::operation_canceled, "accept");
  return from_.take();
}

}  // namespace keel::net
