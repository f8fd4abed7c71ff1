// Private to kevent_sys: simulated connections, listeners and pipes.
#pragma once

#include <keel/kevent_sys/sim_link.hpp>

#include "sim_object.hpp"

#include <deque>
#include <string>

namespace keel::kevent_sys {

// One direction of a connection or pipe: bytes on their way, then bytes that have arrived.
//
// INVARIANT: put == taken + inside + lost
struct sim_channel {
  explicit sim_channel(const sim_link& how) : link(how) {}

  struct segment {
    std::uint64_t due_ns;
    std::string bytes;
    bool counted;
  };

  std::size_t room() const noexcept { return link.capacity_bytes - std::min(link.capacity_bytes, inside); }
  void put_bytes(const_byte_span bytes, std::uint64_t due_ns);
  std::size_t take_bytes(byte_span target, bool keep, std::uint64_t now_ns);
  // What has not come by `until_ns` never comes.
  void lose_after(std::uint64_t until_ns) noexcept;
  bool arrived(std::uint64_t now_ns) const noexcept {
    return !segments.empty() && segments.front().due_ns <= now_ns;
  }

  const sim_link link;
  std::deque<segment> segments;
  std::size_t front_taken = 0;
  std::uint32_t inside = 0;
  std::uint64_t put = 0;
  std::uint64_t taken = 0;
  std::uint64_t lost = 0;
  std::uint64_t end_ns = never;  // when the reader learns that nothing more will come
  bool end_counted = false;
  sim_audit sent;
  sim_audit received;
};

// One end of a connection (both directions) or of a pipe (one).
class sim_stream final : public sim_object {
 public:
  // A socket that is not connected, or with `pipe` an end without channels.
  explicit sim_stream(bool pipe) : pipe_(pipe) {}

  // Makes `a` and `b` the ends of a connection. Gives its channels to whoever checks them.
  static std::vector<std::shared_ptr<sim_channel>> join(const std::shared_ptr<sim_stream>& a,
                                                        const std::shared_ptr<sim_stream>& b,
                                                        const sim_link& link);
  static std::shared_ptr<sim_channel> join_pipe(const std::shared_ptr<sim_stream>& reader,
                                                const std::shared_ptr<sim_stream>& writer,
                                                const sim_link& link);

  bool connected() const noexcept { return in_ != nullptr; }
  bool is_socket() const noexcept override { return !pipe_; }
  sim_step receive(byte_span target, std::uint32_t flags, std::uint64_t now_ns) override;
  sim_step send(const_byte_span bytes, std::uint64_t now_ns) override;
  std::uint32_t ready(std::uint64_t now_ns) override;
  std::uint64_t next_change_ns(std::uint64_t now_ns) const noexcept override;
  void close(std::uint64_t now_ns) override;
  int shutdown_send(std::uint64_t now_ns) override;
  void reset(std::uint64_t now_ns) override;
  void fail(std::uint64_t now_ns) override {
    reset(now_ns);
    reset_told_ = true;
  }

  // When a connect() that is under way will have succeeded; never when there is none.
  std::uint64_t connected_ns = never;

 private:
  void arrive(std::uint64_t now_ns) noexcept;
  bool was_reset(std::uint64_t now_ns) const noexcept { return reset_ns_ <= now_ns; }
  bool ended(std::uint64_t now_ns) const noexcept { return in_ != nullptr && in_->end_ns <= now_ns; }
  void reset_at(std::uint64_t ns) noexcept;

  const bool pipe_;
  std::shared_ptr<sim_channel> in_;
  std::shared_ptr<sim_channel> out_;
  std::weak_ptr<sim_stream> peer_;
  std::uint64_t reset_ns_ = never;
  bool reset_counted_ = false;
  bool reset_told_ = false;  // one operation has answered ECONNRESET
};

class sim_listener final : public sim_object {
 public:
  sim_listener(const sim_link& how, std::uint32_t backlog) : link(how), backlog_(backlog) {}

  // A connection for accept(); null when there is none yet.
  std::shared_ptr<sim_stream> first(std::uint64_t now_ns) noexcept;
  void pop() noexcept { pending_.pop_front(); }
  // False: there is no room.
  bool offer(std::shared_ptr<sim_stream> connection, std::uint64_t due_ns);

  std::uint32_t ready(std::uint64_t now_ns) override;
  std::uint64_t next_change_ns(std::uint64_t now_ns) const noexcept override;
  void close(std::uint64_t now_ns) override;

  const sim_link link;
  bool closed = false;

 private:
  struct pending {
    std::uint64_t due_ns;
    std::shared_ptr<sim_stream> connection;
    bool counted;
  };

  const std::uint32_t backlog_;
  std::deque<pending> pending_;
};

}  // namespace keel::kevent_sys
