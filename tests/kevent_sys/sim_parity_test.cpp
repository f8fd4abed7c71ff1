// The simulation beside the kernel: random programs on a connection and on a pipe get the same answers.
//
// KEEL_SEED=n begins with the seed n: what differed is run first.
#include <doctest/doctest.h>

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <csignal>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "support/fd_pairs.hpp"
#include "support/seed.hpp"
#include "support/sim_queue.hpp"
#include "support/skip.hpp"

using keel::kevent_sys::engine_choice;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::request;
using keel::kevent_sys::sim_random;
using keel::kevent_sys::sim_world;
using keel::test::recorded;
using keel::test::sim_ms;

namespace {

enum class act : std::uint8_t { send, recv, peek, receive, read, write, poll, shut_down, close };

struct move {
  act what;
  int end;  // 0 or 1
  std::uint32_t size_bytes;
};

const char* name_of(act what) {
  static constexpr const char* names[] = {"send",  "recv", "peek",      "receive", "read",
                                          "write", "poll", "shut_down", "close"};
  return names[std::size_t(what)];
}

// What both kernels are told: with the queue of one of them, and two ends.
struct stage {
  queue& q;
  std::array<int, 2> ends;
  std::uint64_t patience_ns;  // until an operation counts as one that waits
  int (*shut_down)(stage& self, int fd);
  void* world = nullptr;

  std::string answer_to(const request& what) {
    recorded op(what);
    q.submit(op);
    const std::uint64_t until_ns = q.fresh_now_ns() + patience_ns;
    do {
      q.wait(until_ns);
      q.consume();
    } while (op.in_flight() && q.fresh_now_ns() < until_ns);
    if (op.in_flight()) {
      q.cancel(op);
      REQUIRE(keel::test::turn_until(q, [&] { return !op.in_flight(); }));
      // A cancel may meet what has just come.
      if (op.value() == -ECANCELED) return "waits";
    }
    const auto a = op.answers.back();
    if (a.has_buffer()) {
      const keel::kevent_sys::buffer_lease lease(q.buffers(), a.buffer(), std::uint32_t(a.value));
      return std::string(lease.text());
    }
    const bool reads = what.code == opcode::recv || what.code == opcode::read;
    if (reads && a.value > 0) return {static_cast<const char*>(what.data), std::size_t(a.value)};
    return std::to_string(a.value);
  }

  std::string perform(const move& m) {
    static const std::string letters = "abcdefghijklmnopqrstuvwxyz";
    static std::array<char, 32> room;
    const int fd = ends[std::size_t(m.end)];
    const auto out = [&](opcode code) {
      return request{.code = code, .fd = fd, .size_bytes = m.size_bytes, .data = letters.data()};
    };
    const auto in = [&](opcode code, std::uint32_t flags) {
      return request{.code = code, .fd = fd, .size_bytes = m.size_bytes, .flags = flags, .data = room.data()};
    };
    switch (m.what) {
      case act::send: return answer_to(out(opcode::send));
      case act::recv: return answer_to(in(opcode::recv, 0));
      case act::peek: return answer_to(in(opcode::recv, MSG_PEEK));
      case act::receive: return answer_to({.code = opcode::receive, .fd = fd});
      case act::read: return answer_to(in(opcode::read, 0));
      case act::write: return answer_to(out(opcode::write));
      case act::poll:
        return answer_to({.code = opcode::poll, .fd = fd, .flags = POLLIN | POLLOUT | POLLRDHUP});
      case act::shut_down: return std::to_string(shut_down(*this, fd));
      case act::close: return answer_to({.code = opcode::close, .fd = fd});
    }
    return "";
  }
};

std::string play(stage s, const std::vector<move>& program) {
  std::string seen;
  bool open[2] = {true, true};
  for (const move& m : program) {
    if (!open[m.end]) continue;
    seen += std::string(name_of(m.what)) + " " + std::to_string(m.end) + ": " + s.perform(m) + "\n";
    if (m.what == act::close) open[m.end] = false;
  }
  for (int end : {0, 1}) {
    if (open[end]) s.perform({act::close, end, 0});
  }
  return seen;
}

std::string play_simulated(const std::vector<move>& program, bool pipe) {
  keel::test::sim_queue s;
  const auto [a, b] = pipe ? s.world.pipe() : s.world.stream_pair();
  const auto shut = [](stage& self, int fd) {
    return static_cast<sim_world*>(self.world)->shutdown_send(fd);
  };
  return play({s.q, {a, b}, sim_ms, shut, &s.world}, program);
}

std::string play_real(queue& q, const std::vector<move>& program, bool pipe, std::uint64_t patience_ns) {
  keel::test::fd_pair pair = pipe ? keel::test::pipe_pair() : keel::test::tcp_pair();
  // Otherwise small segments wait for each other.
  const int on = 1;
  for (const int fd : {pair.ours.get(), pair.theirs.get()})
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const auto shut = [](stage&, int fd) { return ::shutdown(fd, SHUT_WR) == 0 ? 0 : -errno; };
  return play({q, {pair.ours.release(), pair.theirs.release()}, patience_ns, shut}, program);
}

// Programs for which both kernels give different answers.
void compare(bool pipe, int programs, move (*next)(sim_random& random)) {
  const auto engine = keel::kevent_sys::engine_options{.choice = engine_choice::uring};
  std::optional<queue> q;
  try {
    q.emplace(keel::kevent_sys::queue_options{.engine = engine});
  } catch (const std::system_error&) {
    return keel::test::skip("no io_uring here");
  }
  // A write to a pipe without readers raises it.
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  const std::uint64_t first = keel::test::chosen_seed();
  for (int i = 0; i < programs; ++i) {
    const std::uint64_t seed = first + std::uint64_t(i);
    CAPTURE(seed);
    sim_random random(seed);
    std::vector<move> program;
    for (std::uint64_t n = 3 + random.below(10); n > 0; --n) program.push_back(next(random));
    const std::string simulated = play_simulated(program, pipe);
    std::string real = play_real(*q, program, pipe, sim_ms);
    // A busy machine may take its time over the loopback device.
    if (real != simulated) real = play_real(*q, program, pipe, 200 * sim_ms);
    CHECK(simulated == real);
  }
  std::signal(SIGPIPE, before);
}

move next_on_connection(sim_random& random) {
  static constexpr act acts[] = {act::send, act::send,    act::send, act::recv,      act::recv,  act::peek,
                                 act::poll, act::receive, act::poll, act::shut_down, act::close, act::read};
  return {acts[random.below(std::size(acts))], int(random.below(2)), std::uint32_t(1 + random.below(20))};
}

move next_on_pipe(sim_random& random) {
  static constexpr act reader[] = {act::read, act::read, act::poll, act::recv, act::close};
  static constexpr act writer[] = {act::write, act::write, act::poll, act::send, act::close};
  const int end = int(random.below(2));
  const act what =
      end == 0 ? reader[random.below(std::size(reader))] : writer[random.below(std::size(writer))];
  return {what, end, std::uint32_t(1 + random.below(20))};
}

}  // namespace

TEST_CASE("F7, F8: sim parity: a connection answers as one of TCP does") {
  compare(false, 150, &next_on_connection);
}

TEST_CASE("F6: sim parity: a pipe answers as one of the kernel does") {
  compare(true, 100, &next_on_pipe);
}
