// Echo traffic, written directly against operations, on a kernel that makes every kind of fault.
//
// KEEL_SEED=n begins with the seed n: what failed is run first.
#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <algorithm>
#include <cerrno>
#include <deque>
#include <string>
#include <vector>

#include "support/seed.hpp"
#include "support/sim_queue.hpp"

using keel::kevent_sys::answer;
using keel::kevent_sys::buffer_lease;
using keel::kevent_sys::opcode;
using keel::kevent_sys::operation;
using keel::kevent_sys::request;
using keel::kevent_sys::sim_error_is_fatal;
using keel::kevent_sys::sim_faults;
using keel::kevent_sys::sim_options;
using keel::kevent_sys::sim_random;
using keel::test::answer_of;
using keel::test::sim_ms;
using keel::test::sim_queue;

namespace {

constexpr std::string_view address = "echo";
// Few: events have to wait for room in the ring.
constexpr std::uint32_t ring_events = 8;

// An operation that tells a member function of its owner.
template <class Owner, void (Owner::*Done)(answer)>
class step : public operation {
 public:
  step(Owner& owner, const request& what)
      : operation(what,
                  [](operation& self, answer a) noexcept { (static_cast<step&>(self).owner_.*Done)(a); }),
        owner_(owner) {}

 private:
  Owner& owner_;
};

// One connection, as its server sees it: what comes in goes out again.
class session {
 public:
  session(sim_queue& s, int fd)
      : s_(s),
        receive_(*this, {.code = opcode::receive, .multishot = true, .fd = fd}),
        send_(*this, {.code = opcode::send, .fd = fd}),
        close_(*this, {.code = opcode::close, .fd = fd}) {
    go_on();
  }

  bool closed() const { return closed_; }

 private:
  void received(answer a) {
    if (a.has_buffer())
      waiting_.append(buffer_lease(s_.q.buffers(), a.buffer(), std::uint32_t(a.value)).text());
    if (a.value == 0) ended_ = true;
    if (sim_error_is_fatal(-a.value)) failed_ = true;
    go_on();
  }
  void sent(answer a) {
    if (a.value > 0) sending_.erase(0, std::size_t(a.value));
    if (sim_error_is_fatal(-a.value)) failed_ = true;
    go_on();
  }
  void has_closed(answer) { closed_ = true; }

  void go_on() {
    if (failed_ || (ended_ && waiting_.empty() && sending_.empty())) {
      s_.q.cancel(receive_);
      s_.q.cancel(send_);
      const bool busy = receive_.in_flight() || send_.in_flight() || close_.in_flight();
      if (!busy && !closed_) s_.q.submit(close_);
      return;
    }
    if (!ended_ && !receive_.in_flight()) s_.q.submit(receive_);
    if (send_.in_flight()) return;
    if (sending_.empty()) sending_.swap(waiting_);
    if (sending_.empty()) return;
    send_.asked.data = sending_.data();
    send_.asked.size_bytes = std::uint32_t(sending_.size());
    s_.q.submit(send_);
  }

  sim_queue& s_;
  step<session, &session::received> receive_;
  step<session, &session::sent> send_;
  step<session, &session::has_closed> close_;
  std::string waiting_;
  std::string sending_;
  bool ended_ = false;
  bool failed_ = false;
  bool closed_ = false;
};

// The other side: sends its message, ends, and wants all of it back.
class client {
 public:
  client(sim_queue& s, std::string message, bool polls)
      : s_(s),
        fd_(s.world.socket()),
        message_(std::move(message)),
        polls_(polls),
        connect_(*this, {.code = opcode::connect,
                         .fd = fd_,
                         .size_bytes = std::uint32_t(address.size()),
                         .data = address.data()}),
        poll_(*this, {.code = opcode::poll, .fd = fd_, .flags = POLLIN}),
        recv_(*this, {.code = opcode::recv, .fd = fd_, .size_bytes = sizeof room_, .data = room_}),
        send_(*this, {.code = opcode::send, .fd = fd_}),
        close_(*this, {.code = opcode::close, .fd = fd_}) {
    s_.q.submit(connect_);
  }

  bool closed() const { return closed_; }
  bool failed() const { return failed_; }
  bool complete() const { return echoed_ == message_; }
  bool in_order() const { return message_.starts_with(echoed_); }
  // Somebody changes their mind, and reads again.
  void interrupt() {
    s_.q.cancel(recv_);
    s_.q.cancel(poll_);
  }

 private:
  void connected(answer a) {
    if (a.value < 0) {
      s_.q.submit(connect_);
    } else {
      go_on();
    }
  }
  void polled(answer a) {
    ready_ = a.value > 0;
    go_on();
  }
  void received(answer a) {
    ready_ = false;
    if (a.value > 0) echoed_.append(room_, std::size_t(a.value));
    if (a.value == 0) ended_ = true;
    if (sim_error_is_fatal(-a.value)) failed_ = true;
    go_on();
  }
  void sent(answer a) {
    if (a.value > 0) sent_ += std::size_t(a.value);
    if (sim_error_is_fatal(-a.value)) failed_ = true;
    if (sent_ == message_.size()) s_.world.shutdown_send(fd_);
    go_on();
  }
  void has_closed(answer) { closed_ = true; }

  void go_on() {
    if (failed_ || ended_) {
      for (operation* op : {static_cast<operation*>(&poll_), static_cast<operation*>(&recv_),
                            static_cast<operation*>(&send_)})
        s_.q.cancel(*op);
      const bool busy = poll_.in_flight() || recv_.in_flight() || send_.in_flight() || close_.in_flight();
      if (!busy && !closed_) s_.q.submit(close_);
      return;
    }
    if (!recv_.in_flight() && !poll_.in_flight()) {
      if (polls_ && !ready_) {
        s_.q.submit(poll_);
      } else {
        s_.q.submit(recv_);
      }
    }
    if (send_.in_flight() || sent_ == message_.size()) return;
    send_.asked.data = message_.data() + sent_;
    send_.asked.size_bytes = std::uint32_t(message_.size() - sent_);
    s_.q.submit(send_);
  }

  sim_queue& s_;
  const int fd_;
  const std::string message_;
  const bool polls_;
  step<client, &client::connected> connect_;
  step<client, &client::polled> poll_;
  step<client, &client::received> recv_;
  step<client, &client::sent> send_;
  step<client, &client::has_closed> close_;
  char room_[64];
  std::string echoed_;
  std::size_t sent_ = 0;
  bool ready_ = false;
  bool ended_ = false;
  bool failed_ = false;
  bool closed_ = false;
};

struct outcome {
  std::uint64_t events = 0;
  std::uint64_t hash = 0;
  int complete = 0;
  int failed = 0;
  std::string report;
};

class traffic {
 public:
  traffic(const sim_options& options, int clients)
      : s_(options, ring_events),
        random_(options.seed),
        listener_(s_.world.listener(address, 2, {.capacity_bytes = 100, .latency_ns = sim_ms / 2})),
        accept_(*this, {.code = opcode::accept, .multishot = true, .fd = listener_}),
        close_(*this, {.code = opcode::close, .fd = listener_}) {
    s_.q.submit(accept_);
    for (int i = 0; i < clients; ++i) {
      const bool polls = random_.hit(500);
      clients_.emplace_back(s_, message(), polls);
    }
  }

  outcome run() {
    run_until(s_.now() + 3'000 * sim_ms);
    // From here on everything that can end does, in a few seconds.
    s_.world.stop_faults();
    run_until(s_.now() + 5'000 * sim_ms);
    s_.world.expect_liveness(1'000 * sim_ms);
    CHECK_MESSAGE(finished(), "the traffic does not end");
    stopping_ = true;
    s_.q.cancel(accept_);
    REQUIRE(keel::test::turn_until(s_.q, [&] { return !accept_.in_flight(); }));
    s_.q.submit(close_);
    s_.turn();
    // The last accept may have brought one more.
    run_until(s_.now() + 1'000 * sim_ms);
    outcome seen;
    for (const client& c : clients_) {
      CHECK(c.in_order());
      CHECK((c.complete() || c.failed()));
      seen.complete += c.complete() ? 1 : 0;
      seen.failed += c.failed() ? 1 : 0;
    }
    s_.world.expect_end();
    CHECK(s_.q.idle());
    CHECK(s_.world.open_descriptors() == 0);
    seen.events = s_.q.events();
    seen.hash = s_.world.trace_hash();
    seen.report = s_.world.report();
    return seen;
  }

 private:
  std::string message() {
    std::string text(1 + random_.below(300), '\0');
    for (char& c : text) c = static_cast<char>(random_.next());
    return text;
  }
  void accepted(answer a) {
    if (a.value >= 0) sessions_.emplace_back(s_, a.value);
    if (!a.more() && !stopping_) s_.q.submit(accept_);
  }
  void has_closed(answer a) { CHECK(a.value == 0); }

  bool finished() const {
    for (const client& c : clients_) {
      if (!c.closed()) return false;
    }
    for (const session& one : sessions_) {
      if (!one.closed()) return false;
    }
    return true;
  }
  void run_until(std::uint64_t limit_ns) {
    while (!finished() && s_.now() < limit_ns) {
      s_.q.wait(limit_ns);
      s_.q.consume();
      for (client& c : clients_) {
        if (random_.hit(20)) c.interrupt();
      }
    }
  }

  sim_queue s_;
  sim_random random_;
  const int listener_;
  step<traffic, &traffic::accepted> accept_;
  step<traffic, &traffic::has_closed> close_;
  std::deque<session> sessions_;
  std::deque<client> clients_;
  bool stopping_ = false;
};

constexpr int clients = 4;

outcome run(std::uint64_t seed, const sim_faults& faults) {
  traffic t({.buffers = 3, .buffers_limit = 3, .buffer_bytes = 32, .seed = seed, .faults = faults}, clients);
  return t.run();
}

// Runs many seeds. Returns what became of all connections.
outcome run_many(const sim_faults& faults, int seeds) {
  const std::uint64_t first = keel::test::chosen_seed();
  outcome all;
  for (int i = 0; i < seeds; ++i) {
    const std::uint64_t seed = first + std::uint64_t(i);
    CAPTURE(seed);
    const outcome one = run(seed, faults);
    CHECK(one.report == "");
    all.events += one.events;
    all.complete += one.complete;
    all.failed += one.failed;
  }
  return all;
}

}  // namespace

TEST_CASE("sim chaos: calm: all messages come back") {
  CHECK(run_many(sim_faults::calm(), 200).complete == 200 * clients);
}

TEST_CASE("F1: sim chaos: one byte at a time: all messages come back") {
  CHECK(run_many(sim_faults::short1(), 200).complete == 200 * clients);
}

TEST_CASE("B16: sim chaos: late and out of order: all messages come back") {
  CHECK(run_many(sim_faults::reorder(), 200).complete == 200 * clients);
}

TEST_CASE("sim chaos: errors, 1 %: what has not failed comes back") {
  const outcome all = run_many(sim_faults::with_errors(), 300);
  CHECK(all.complete > 300 * clients / 2);
  CHECK(all.failed > 0);
}

TEST_CASE("sim chaos: every fault, 20 %: what comes back is right, everything ends once") {
  const outcome all = run_many(sim_faults::chaos(), 300);
  CHECK(all.failed > 300 * clients / 2);
}

TEST_CASE("sim chaos: every fault but errors: all messages come back") {
  sim_faults faults = sim_faults::chaos();
  faults.errors = 0;
  CHECK(run_many(faults, 200).complete == 200 * clients);
}

TEST_CASE("C6: sim chaos: what never completes goes on when the faults stop") {
  CHECK(run_many(sim_faults::never_completes(), 200).complete == 200 * clients);
}

TEST_CASE("sim chaos: the same seed gives the same trace, another one another") {
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  for (const sim_faults& faults : {sim_faults::calm(), sim_faults::chaos(), sim_faults::reorder()}) {
    const outcome first = run(seed, faults);
    CHECK(first.hash == run(seed, faults).hash);
    CHECK(first.hash != run(seed + 1, faults).hash);
  }
}

TEST_CASE("F17: sim chaos: a file is copied, whatever its disk does") {
  const std::uint64_t first = keel::test::chosen_seed();
  for (std::uint64_t seed = first; seed < first + 200; ++seed) {
    CAPTURE(seed);
    sim_queue s({.seed = seed, .faults = sim_faults::chaos()});
    sim_random random(seed);
    std::string content(1 + random.below(2000), '\0');
    for (char& c : content) c = static_cast<char>(random.next());
    s.world.put_file("source", content);
    int fds[2] = {-1, -1};
    for (int i : {0, 1}) {
      while (fds[i] < 0)
        fds[i] =
            answer_of(s.q, {.code = opcode::open,
                            .flags = i == 0 ? std::uint32_t{O_RDONLY} : std::uint32_t{O_WRONLY | O_CREAT},
                            .data = i == 0 ? "source" : "target"});
    }
    char room[100];
    std::uint64_t offset = 0;
    for (int n = -1; n != 0;) {
      n = answer_of(s.q,
                    {.code = opcode::read, .fd = fds[0], .size_bytes = 100, .data = room, .offset = offset});
      for (int done = 0; done < n;) {
        const int m = answer_of(s.q, {.code = opcode::write,
                                      .fd = fds[1],
                                      .size_bytes = std::uint32_t(n - done),
                                      .data = room + done,
                                      .offset = offset});
        done += std::max(m, 0);
        offset += std::uint64_t(std::max(m, 0));
      }
    }
    CHECK(s.world.file("target") == content);
    for (const int fd : fds) s.close(fd);
    CHECK(s.world.open_descriptors() == 0);
    s.world.expect_end();
    CHECK(s.world.report() == "");
  }
}
