#include "field.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kev_bench {
namespace {

constexpr std::size_t latencies_max = 1 << 20;

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "kev_bench: %s: %s (%d)\n", what, std::strerror(errno), errno);
  std::exit(1);
}

void raise_descriptor_limit(std::uint32_t wanted) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur >= wanted) return;
  std::fprintf(stderr, "kev_bench: %u descriptors are needed, %llu allowed: raise ulimit -n, or lower -n\n",
               wanted, static_cast<unsigned long long>(limit.rlim_cur));
  std::exit(1);
}

int listen_on_loopback(sockaddr_in& address) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (fd < 0 || ::bind(fd, generic, size) != 0 || ::listen(fd, 16) != 0 ||
      ::getsockname(fd, generic, &size) != 0) {
    die("listen on 127.0.0.1");
  }
  return fd;
}

void tcp_pair(int (&ends)[2]) {
  static sockaddr_in address{};
  static const int listener = listen_on_loopback(address);
  ends[1] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (ends[1] < 0 || ::connect(ends[1], reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    die("connect");
  }
  ends[0] = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (ends[0] < 0) die("accept");
  const int on = 1;
  ::setsockopt(ends[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::fcntl(ends[1], F_SETFL, O_NONBLOCK);
}

}  // namespace

field::field(kind handles, std::uint32_t n) : kind_(handles), pairs_(n), slots_(new slot[n]) {
  latencies_ns_.reserve(latencies_max);
  raise_descriptor_limit(2 * n + 32);
  for (pair& p : pairs_) {
    int ends[2] = {-1, -1};
    if (handles == kind::pipe) {
      if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) die("pipe");
    } else if (handles == kind::unix_socket) {
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) != 0) die("socketpair");
    } else {
      tcp_pair(ends);
    }
    p = {ends[0], ends[1]};
  }
}

field::~field() {
  for (const pair& p : pairs_) {
    ::close(p.read_fd);
    ::close(p.write_fd);
  }
}

bool field::read_one(std::uint32_t i) const noexcept {
  char byte = 0;
  const ssize_t n =
      sockets() ? ::recv(pairs_[i].read_fd, &byte, 1, MSG_DONTWAIT) : ::read(pairs_[i].read_fd, &byte, 1);
  if (n < 0 && errno != EAGAIN) die("read");
  return n == 1;
}

void field::write_one(std::uint32_t i) noexcept {
  slot& s = slots_[i];
  s.stamp_ns.store(written_ % stamp_every == 0 ? now_ns() : 0, std::memory_order_relaxed);
  s.unread.store(true, std::memory_order_relaxed);
  ++written_;
  const char byte = 'k';
  if (::write(pairs_[i].write_fd, &byte, 1) != 1) die("write");
}

void field::note_latency(std::uint64_t stamp_ns) noexcept {
  if (latencies_ns_.size() < latencies_max) latencies_ns_.push_back(now_ns() - stamp_ns);
}

double field::latency_us(double share) {
  if (latencies_ns_.empty()) return 0;
  std::sort(latencies_ns_.begin(), latencies_ns_.end());
  const auto at = static_cast<std::size_t>(share * static_cast<double>(latencies_ns_.size() - 1));
  return static_cast<double>(latencies_ns_[at]) / 1000;
}

}  // namespace kev_bench
