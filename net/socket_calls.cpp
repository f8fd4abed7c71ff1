#include "socket_calls.hpp"

#include <keel/runtime/scheduler.hpp>

#include <cerrno>
#include <sys/socket.h>

namespace keel::net {
namespace {

using name_call = int (*)(int, sockaddr*, socklen_t*);

result<endpoint> name_of(int fd, name_call call, const char* doing) noexcept {
  alignas(8) std::byte storage[endpoint::sockaddr_size_max];
  socklen_t size = sizeof storage;
  if (call(fd, reinterpret_cast<sockaddr*>(storage), &size) != 0) return last_error(doing);
  return endpoint::from_sockaddr({storage, size});
}

}  // namespace

failure last_error(const char* doing) noexcept { return failure(kernel_error(errno), doing); }

result<endpoint> local_endpoint(int fd) noexcept { return name_of(fd, &::getsockname, "getsockname"); }
result<endpoint> peer_endpoint(int fd) noexcept { return name_of(fd, &::getpeername, "getpeername"); }

result<void> set_option(int fd, int level, int name, int value) noexcept {
  if (::setsockopt(fd, level, name, &value, sizeof value) != 0) return last_error("setsockopt");
  return {};
}

void note_descriptor_freed() noexcept {
  if (scheduler* here = scheduler::current()) here->note_descriptor_freed();
}

}  // namespace keel::net
