#include "sim_stream.hpp"

#include <sys/socket.h>
#include <cstring>
#include <utility>

namespace keel::kevent_sys {
namespace {

std::uint64_t earliest_after(std::uint64_t now_ns, std::initializer_list<std::uint64_t> times) noexcept {
  std::uint64_t found = never;
  for (const std::uint64_t t : times) {
    if (t > now_ns) found = std::min(found, t);
  }
  return found;
}

}  // namespace

void sim_channel::put_bytes(const_byte_span bytes, std::uint64_t due_ns) {
  segments.push_back({due_ns, std::string(as_text(bytes)), false});
  inside += static_cast<std::uint32_t>(bytes.size());
  put += bytes.size();
}

std::size_t sim_channel::take_bytes(byte_span target, bool keep, std::uint64_t now_ns) {
  std::size_t copied = 0;
  std::size_t skip = front_taken;
  for (std::size_t i = 0; i < segments.size() && copied < target.size();) {
    const segment& s = segments[i];
    if (s.due_ns > now_ns) break;
    const std::size_t n = std::min(target.size() - copied, s.bytes.size() - skip);
    std::memcpy(target.data() + copied, s.bytes.data() + skip, n);
    copied += n;
    skip += n;
    if (skip < s.bytes.size()) break;
    skip = 0;
    if (keep) {
      ++i;
    } else {
      segments.pop_front();
    }
  }
  if (keep) return copied;
  front_taken = skip;
  inside -= static_cast<std::uint32_t>(copied);
  taken += copied;
  return copied;
}

void sim_channel::lose_after(std::uint64_t until_ns) noexcept {
  while (!segments.empty() && segments.back().due_ns > until_ns) {
    const std::size_t left = segments.back().bytes.size() - (segments.size() == 1 ? front_taken : 0);
    inside -= static_cast<std::uint32_t>(left);
    lost += left;
    segments.pop_back();
  }
  if (segments.empty()) front_taken = 0;
}

std::vector<std::shared_ptr<sim_channel>> sim_stream::join(const std::shared_ptr<sim_stream>& a,
                                                           const std::shared_ptr<sim_stream>& b,
                                                           const sim_link& link) {
  a->out_ = b->in_ = std::make_shared<sim_channel>(link);
  b->out_ = a->in_ = std::make_shared<sim_channel>(link);
  a->peer_ = b;
  b->peer_ = a;
  return {a->out_, b->out_};
}

std::shared_ptr<sim_channel> sim_stream::join_pipe(const std::shared_ptr<sim_stream>& reader,
                                                   const std::shared_ptr<sim_stream>& writer,
                                                   const sim_link& link) {
  reader->in_ = writer->out_ = std::make_shared<sim_channel>(link);
  reader->peer_ = writer;
  writer->peer_ = reader;
  return reader->in_;
}

sim_step sim_stream::receive(byte_span target, std::uint32_t flags, std::uint64_t now_ns) {
  if (in_ == nullptr) return {.value = pipe_ ? -EBADF : -ENOTCONN};
  arrive(now_ns);
  const bool was_full = in_->room() == 0;
  const bool peek = (flags & MSG_PEEK) != 0;
  const std::uint64_t position = in_->taken;
  const std::size_t n = in_->take_bytes(target, peek, now_ns);
  if (n > 0) {
    if (const auto writer = peer_.lock(); writer && !peek) {
      if (was_full) ++writer->openings;
      writer->tell(now_ns);
    }
    return {.value = static_cast<int>(n), .audit = peek ? nullptr : &in_->received, .position = position};
  }
  if (target.empty() || ended(now_ns)) return {};
  if (was_reset(now_ns)) return {.value = std::exchange(reset_told_, true) ? 0 : -ECONNRESET};
  return sim_step::block(next_change_ns(now_ns));
}

sim_step sim_stream::send(const_byte_span bytes, std::uint64_t now_ns) {
  if (out_ == nullptr) return {.value = pipe_ ? -EBADF : -EPIPE};
  if (was_reset(now_ns)) {
    const bool quietly = std::exchange(reset_told_, true) || ended(now_ns);
    return {.value = quietly ? -EPIPE : -ECONNRESET};
  }
  if (out_->end_ns != never) return {.value = -EPIPE};
  const auto reader = peer_.lock();
  if (reader == nullptr && pipe_) return {.value = -EPIPE};
  if (bytes.empty()) return {};
  const std::size_t n = std::min<std::size_t>(bytes.size(), out_->room());
  if (n == 0) return sim_step::block(next_change_ns(now_ns));
  const std::uint64_t position = out_->put;
  const std::uint64_t due_ns = now_ns + out_->link.latency_ns;
  out_->put_bytes(bytes.first(n), due_ns);
  if (reader != nullptr) {
    reader->tell(due_ns);
  } else {
    // Nobody is there any more: the answer to these bytes is a reset.
    out_->lose_after(0);
    reset_at(due_ns + out_->link.latency_ns);
  }
  return {.value = static_cast<int>(n), .audit = &out_->sent, .position = position};
}

// Counts what has come since the last look.
void sim_stream::arrive(std::uint64_t now_ns) noexcept {
  if (in_ != nullptr) {
    for (auto s = in_->segments.rbegin(); s != in_->segments.rend() && !s->counted; ++s) {
      if (s->due_ns > now_ns) continue;
      s->counted = true;
      ++arrivals;
    }
    if (ended(now_ns) && !std::exchange(in_->end_counted, true)) ++arrivals;
  }
  if (was_reset(now_ns) && !std::exchange(reset_counted_, true)) {
    ++arrivals;
    ++openings;
  }
}

std::uint32_t sim_stream::ready(std::uint64_t now_ns) {
  arrive(now_ns);
  if (!pipe_ && in_ == nullptr) return POLLOUT | POLLHUP;
  std::uint32_t mask = 0;
  const bool gone = was_reset(now_ns);
  if (in_ != nullptr) {
    if (in_->arrived(now_ns)) mask |= POLLIN;
    if (pipe_ && ended(now_ns)) mask |= POLLHUP;
    if (!pipe_ && (gone || ended(now_ns))) mask |= POLLIN | POLLRDHUP;
  }
  if (out_ != nullptr) {
    const bool broken = gone || out_->end_ns != never || (pipe_ && peer_.expired());
    if (out_->room() > 0 || broken) mask |= POLLOUT;
    if (pipe_ && broken) mask |= POLLERR;
    if (!pipe_ && out_->end_ns != never && ended(now_ns)) mask |= POLLHUP;
  }
  if (gone) mask |= POLLHUP | (reset_told_ ? 0u : std::uint32_t{POLLERR});
  return mask;
}

std::uint64_t sim_stream::next_change_ns(std::uint64_t now_ns) const noexcept {
  std::uint64_t next = earliest_after(now_ns, {reset_ns_});
  if (in_ == nullptr) return next;
  next = std::min(next, earliest_after(now_ns, {in_->end_ns}));
  for (const sim_channel::segment& s : in_->segments) {
    if (s.due_ns > now_ns) return std::min(next, s.due_ns);
  }
  return next;
}

void sim_stream::reset_at(std::uint64_t ns) noexcept {
  // A connection that has ended in both directions hears no reset.
  if (ended(ns) && out_ != nullptr && out_->end_ns <= ns) return;
  reset_ns_ = std::min(reset_ns_, ns);
  if (in_ != nullptr) in_->lose_after(reset_ns_);
  tell(reset_ns_);
}

void sim_stream::close(std::uint64_t now_ns) {
  const auto peer = peer_.lock();
  peer_.reset();
  const bool unread = in_ != nullptr && in_->inside > 0;
  if (in_ != nullptr) in_->lose_after(0);
  if (peer != nullptr) {
    // Bytes that nobody will read end a connection with a reset instead.
    if (unread && !pipe_ && reset_ns_ == never) {
      peer->reset_at(now_ns + in_->link.latency_ns);
      reset_ns_ = now_ns;
    }
    peer->peer_.reset();
    ++peer->openings;
    peer->tell(now_ns);
  }
  if (out_ == nullptr) return;
  if (peer == nullptr) out_->lose_after(0);
  if (out_->end_ns == never && reset_ns_ == never) out_->end_ns = now_ns + out_->link.latency_ns;
  if (peer != nullptr) peer->tell(out_->end_ns);
}

int sim_stream::shutdown_send(std::uint64_t now_ns) {
  if (pipe_) return -ENOTSOCK;
  const bool told = out_ != nullptr && out_->end_ns != never;
  if (out_ == nullptr || was_reset(now_ns) || (told && ended(now_ns))) return -ENOTCONN;
  if (told) return 0;
  out_->end_ns = now_ns + out_->link.latency_ns;
  tell(now_ns);
  if (const auto peer = peer_.lock()) peer->tell(out_->end_ns);
  return 0;
}

void sim_stream::reset(std::uint64_t now_ns) {
  if (const auto peer = peer_.lock()) peer->reset_at(now_ns);
  reset_at(now_ns);
}

std::shared_ptr<sim_stream> sim_listener::first(std::uint64_t now_ns) noexcept {
  return pending_.empty() || pending_.front().due_ns > now_ns ? nullptr : pending_.front().connection;
}

bool sim_listener::offer(std::shared_ptr<sim_stream> connection, std::uint64_t due_ns) {
  if (pending_.size() >= backlog_) return false;
  pending_.push_back({due_ns, std::move(connection), false});
  tell(due_ns);
  return true;
}

std::uint32_t sim_listener::ready(std::uint64_t now_ns) {
  for (pending& p : pending_) {
    if (p.due_ns <= now_ns && !std::exchange(p.counted, true)) ++arrivals;
  }
  return first(now_ns) != nullptr ? POLLIN : 0;
}

std::uint64_t sim_listener::next_change_ns(std::uint64_t now_ns) const noexcept {
  for (const pending& p : pending_) {
    if (p.due_ns > now_ns) return p.due_ns;
  }
  return never;
}

// Whoever was not accepted is turned away.
void sim_listener::close(std::uint64_t now_ns) {
  closed = true;
  for (pending& p : pending_) {
    p.connection->reset(now_ns);
    p.connection->close(now_ns);
  }
  pending_.clear();
}

}  // namespace keel::kevent_sys
