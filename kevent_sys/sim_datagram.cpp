#include "sim_datagram.hpp"

#include <sys/socket.h>
#include <cstring>
#include <utility>

namespace keel::kevent_sys {
namespace {

constexpr std::size_t datagram_bytes_max = 65507;

}  // namespace

sim_step sim_datagram_socket::receive(byte_span target, std::uint32_t flags, std::uint64_t now_ns) {
  if (std::exchange(refused_, false)) return {.value = -ECONNREFUSED};
  ready(now_ns);
  const auto first = coming_.begin();
  if (first == coming_.end() || first->first > now_ns) return sim_step::block(next_change_ns(now_ns));
  const std::string& bytes = first->second.bytes;
  const std::size_t n = std::min(target.size(), bytes.size());
  if (n > 0) std::memcpy(target.data(), bytes.data(), n);
  const auto value = static_cast<int>((flags & MSG_TRUNC) != 0 ? bytes.size() : n);
  if ((flags & MSG_PEEK) == 0) coming_.erase(first);
  return {.value = value};
}

sim_step sim_datagram_socket::send(const_byte_span bytes, std::uint64_t now_ns) {
  if (std::exchange(refused_, false)) return {.value = -ECONNREFUSED};
  if (bytes.size() > datagram_bytes_max) return {.value = -EMSGSIZE};
  const sim_step sent{.value = static_cast<int>(bytes.size())};
  const auto peer = peer_.lock();
  if (peer == nullptr) {
    refused_ = true;
    tell(now_ns + 2 * link_.latency_ns);
    return sent;
  }
  if (random_.hit(link_.loss) || peer->coming_.size() >= link_.capacity_datagrams) return sent;
  const std::uint64_t jitter_ns = link_.jitter_ns == 0 ? 0 : random_.below(link_.jitter_ns + 1);
  const std::uint64_t due_ns = now_ns + link_.latency_ns + jitter_ns;
  peer->coming_.emplace(due_ns, datagram{std::string(as_text(bytes)), false});
  peer->tell(due_ns);
  return sent;
}

std::uint32_t sim_datagram_socket::ready(std::uint64_t now_ns) {
  for (auto& [due_ns, d] : coming_) {
    if (due_ns > now_ns) break;
    if (!std::exchange(d.counted, true)) ++arrivals;
  }
  const bool readable = !coming_.empty() && coming_.begin()->first <= now_ns;
  return POLLOUT | (readable ? std::uint32_t{POLLIN} : 0u) | (refused_ ? std::uint32_t{POLLERR} : 0u);
}

std::uint64_t sim_datagram_socket::next_change_ns(std::uint64_t now_ns) const noexcept {
  const auto next = coming_.upper_bound(now_ns);
  return next == coming_.end() ? never : next->first;
}

void sim_datagram_socket::close(std::uint64_t) {
  if (const auto peer = peer_.lock()) peer->peer_.reset();
  peer_.reset();
}

}  // namespace keel::kevent_sys
