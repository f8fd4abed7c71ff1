// What is the epoll engine's own: edges, numbers that are reused, exclusive polls. What it has in common with
// the other engines is in the tests named after what they do.

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "support/death_test.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/recorded_operation.hpp"
#include "support/seed.hpp"
#include "support/skip.hpp"
#include "support/temporary_folder.hpp"

using keel::unique_fd;
using keel::kevent_sys::engine_choice;
using keel::kevent_sys::never;
using keel::kevent_sys::opcode;
using keel::kevent_sys::poll_exclusive;
using keel::kevent_sys::queue;
using keel::kevent_sys::queue_options;
using keel::kevent_sys::request;
using keel::test::answer_of;
using keel::test::fd_pair;
using keel::test::recorded;
using keel::test::turn_until;
using keel::test::unix_pair;

namespace {

constexpr std::uint64_t ms = 1'000'000;

queue_options on_epoll() {
  queue_options options;
  options.engine.choice = engine_choice::epoll;
  return options;
}

struct epoll_queue : queue {
  epoll_queue() : queue(on_epoll()) {}

  void turn(std::uint64_t sleep_ns = 0) {
    wait(sleep_ns == 0 ? 0 : fresh_now_ns() + sleep_ns);
    consume();
  }
  // Submits and lets it be tried.
  void start(recorded& op) {
    submit(op);
    turn();
  }
  void stop(recorded& op) {
    cancel(op);
    REQUIRE(turn_until(*this, [&] { return !op.in_flight(); }));
  }
};

struct receiving {
  explicit receiving(int fd)
      : op({.code = opcode::recv,
            .fd = fd,
            .size_bytes = std::uint32_t(buffer.size()),
            .data = buffer.data()}) {}
  std::string_view text() const { return {buffer.data(), std::size_t(op.value())}; }

  std::array<char, 64> buffer{};
  recorded op;
};

request polling(int fd, bool multishot = false, std::uint32_t flags = POLLIN) {
  return {.code = opcode::poll, .multishot = multishot, .fd = fd, .flags = flags};
}

std::size_t answers_of(const std::deque<recorded>& ops) {
  std::size_t count = 0;
  for (const recorded& op : ops) count += op.answers.size();
  return count;
}

}  // namespace

TEST_CASE("epoll: a queue says what it runs on, and has one descriptor besides epoll's") {
  const std::size_t before = keel::test::open_descriptors();
  epoll_queue q;
  CHECK(std::string_view(q.info().name) == "epoll");
  CHECK(std::string_view(q.info().reason) == "asked for by the program");
  CHECK(!q.info().provided_buffers);
  CHECK(keel::test::open_descriptors() == before + 2);
  CHECK(answer_of(q, {.code = opcode::nop}) == 0);
  CHECK(q.counters().submitted == 1);
  CHECK(q.counters().enters >= 1);
}

TEST_CASE("H2: epoll: what nobody takes is told once, and the queue sleeps beside it") {
  epoll_queue q;
  fd_pair pair = unix_pair();
  recorded op(polling(pair.ours.get(), true));
  q.submit(op);
  pair.put("never read");
  REQUIRE(turn_until(q, [&] { return op.answers.size() == 1; }));
  const std::uint64_t enters = q.counters().enters;
  q.turn(20 * ms);
  CHECK(q.counters().enters <= enters + 1);
  CHECK(op.answers.size() == 1);
  q.stop(op);
}

TEST_CASE("H2: epoll: bytes that arrive while nobody asks for them wake the queue once") {
  epoll_queue q;
  fd_pair pair = unix_pair();
  receiving first(pair.ours.get());
  q.start(first.op);
  pair.put("hello");
  REQUIRE(turn_until(q, [&] { return first.op.ended(); }));
  int woken = 0;
  for (int i = 0; i < 50; ++i) {
    pair.put("more");
    const std::uint64_t start = q.fresh_now_ns();
    q.wait(start + ms);
    if (q.fresh_now_ns() < start + ms) ++woken;
  }
  CHECK(woken <= 1);
  receiving all(pair.ours.get());
  CHECK(answer_of(q, all.op) == 64);
}

TEST_CASE("H2: epoll: a reader that keeps up with a flood leaves the others their turns") {
  epoll_queue q;
  fd_pair flood = unix_pair();
  fd_pair quiet = unix_pair();
  std::size_t taken = 0;
  struct multishot : keel::kevent_sys::operation {
    multishot(queue& its_queue, int fd, std::size_t& count)
        : operation({.code = opcode::receive, .multishot = true, .fd = fd}, &note),
          q(its_queue),
          taken(count) {}
    static void note(operation& self, keel::kevent_sys::answer a) noexcept {
      auto& me = static_cast<multishot&>(self);
      if (a.has_buffer()) me.q.buffers().give_back(a.buffer());
      ++me.taken;
    }
    queue& q;
    std::size_t& taken;
  } reader(q, flood.ours.get(), taken);
  q.submit(reader);
  receiving other(quiet.ours.get());
  q.start(other.op);
  const std::string chunk(100'000, 'x');
  for (int turn = 0; turn < 50; ++turn) {
    while (::send(flood.theirs.get(), chunk.data(), chunk.size(), MSG_DONTWAIT) > 0) {
    }
    if (turn == 25) quiet.put("x");
    const std::size_t before = taken;
    q.turn();
    CHECK(taken - before <= 32);
    if (turn == 26) CHECK(other.op.ended());
  }
  CHECK(taken > 50);
  q.cancel(reader);
  REQUIRE(turn_until(q, [&] { return !reader.in_flight(); }));
}

TEST_CASE("D2: epoll: a number that is closed behind our back and reused works like a new one") {
  const std::uint64_t seed = keel::test::chosen_seed();
  CAPTURE(seed);
  std::mt19937_64 random(seed);
  epoll_queue q;
  for (int round = 0; round < 500; ++round) {
    fd_pair pair = unix_pair();
    receiving waits(pair.ours.get());
    recorded poll(polling(pair.ours.get()));
    const bool polled = random() % 2 == 0;
    q.start(waits.op);
    if (polled) q.start(poll);
    const std::string text = "round " + std::to_string(round);
    pair.put(text);
    REQUIRE(turn_until(q, [&] { return waits.op.ended() && (!polled || poll.ended()); }));
    REQUIRE(waits.text() == text);
    if (random() % 2 == 0) pair.theirs.reset();
    if (random() % 3 == 0) REQUIRE(answer_of(q, {.code = opcode::close, .fd = pair.ours.release()}) == 0);
  }
  CHECK(q.idle());
}

TEST_CASE(
    "D2 D6: epoll: the events of a file that lives on under another number do not reach the new tenant") {
  epoll_queue q;
  fd_pair first = unix_pair();
  const int number = first.ours.get();
  receiving before(number);
  q.start(before.op);
  first.put("first");
  REQUIRE(turn_until(q, [&] { return before.op.ended(); }));

  const unique_fd kept(::dup(number));
  fd_pair second = unix_pair();
  REQUIRE(::dup2(second.ours.get(), number) == number);
  recorded tenant(polling(number, true));
  q.start(tenant);
  const std::uint64_t stale = q.counters().stale;
  first.put("to the file that was");
  q.turn(20 * ms);
  CHECK(tenant.answers.empty());
  CHECK(q.counters().stale == stale + 1);
  second.put("to the tenant");
  REQUIRE(turn_until(q, [&] { return tenant.answers.size() == 1; }));
  q.stop(tenant);
}

TEST_CASE(
    "D2: epoll: an operation whose descriptor is closed under it does not take the next tenant's bytes") {
  for (const bool by_opcode : {false, true}) {
    CAPTURE(by_opcode);
    epoll_queue q;
    fd_pair first = unix_pair();
    const int number = first.ours.get();
    receiving forgotten(number);
    q.start(forgotten.op);
    if (by_opcode) {
      CHECK(answer_of(q, {.code = opcode::close, .fd = first.ours.release()}) == 0);
    } else {
      first.ours.reset();
    }
    fd_pair second = unix_pair();
    if (second.ours.get() != number) {
      REQUIRE(!keel::test::is_open(number));
      second.ours.reset(::dup2(second.ours.get(), number));
    }
    receiving tenant(number);
    q.start(tenant.op);
    second.put("mine");
    REQUIRE(turn_until(q, [&] { return tenant.op.ended(); }));
    CHECK(tenant.text() == "mine");
    CHECK(forgotten.op.in_flight());
    q.stop(forgotten.op);
    CHECK(forgotten.op.value() == -ECANCELED);
  }
}

TEST_CASE("epoll: of the polls of one descriptor all get the event, and of the exclusive ones one") {
  epoll_queue q;
  fd_pair pair = unix_pair();
  std::deque<recorded> plain;
  std::deque<recorded> exclusive;
  for (int i = 0; i < 3; ++i) {
    q.submit(exclusive.emplace_back(polling(pair.ours.get(), false, POLLIN | poll_exclusive)));
    q.turn();
  }
  pair.put("x");
  q.turn();
  CHECK(answers_of(exclusive) == 1);
  CHECK(exclusive[0].value() == POLLIN);
  for (int i = 0; i < 3; ++i) q.submit(plain.emplace_back(polling(pair.ours.get(), true)));
  REQUIRE(turn_until(q, [&] { return answers_of(plain) >= 3; }));
  const std::size_t plain_before = answers_of(plain);
  const std::size_t exclusive_before = answers_of(exclusive);
  if (exclusive_before < 3) {
    pair.put("y");
    q.turn();
    CHECK(answers_of(plain) == plain_before + 3);
    CHECK(answers_of(exclusive) == exclusive_before + 1);
  }
  for (recorded& op : plain) q.stop(op);
  for (recorded& op : exclusive) q.stop(op);
}

TEST_CASE("epoll: multishot exclusive polls of one descriptor take turns") {
  epoll_queue q;
  fd_pair pair = unix_pair();
  std::deque<recorded> ops;
  for (int i = 0; i < 3; ++i) {
    q.submit(ops.emplace_back(polling(pair.ours.get(), true, POLLIN | poll_exclusive)));
    q.turn();
  }
  for (std::size_t round = 1; round <= 3; ++round) {
    for (int i = 0; i < 3; ++i) {
      pair.put("x");
      q.turn();
    }
    for (const recorded& op : ops) CHECK(op.answers.size() == round);
  }
  for (recorded& op : ops) q.stop(op);
}

TEST_CASE("epoll: an exclusive poll that is cancelled after its event hands the event over") {
  epoll_queue q;
  fd_pair pair = unix_pair();
  recorded op(polling(pair.ours.get(), false, POLLIN | poll_exclusive));
  q.start(op);
  pair.put("x");
  q.stop(op);
  CHECK(op.value() == POLLIN);

  receiving rest(pair.ours.get());
  CHECK(answer_of(q, rest.op) == 1);
  recorded none(polling(pair.ours.get(), false, POLLIN | poll_exclusive));
  q.start(none);
  q.stop(none);
  CHECK(none.value() == -ECANCELED);
}

TEST_CASE("epoll: two queues that poll one descriptor exclusively lose no event") {
  fd_pair pair = unix_pair();
  epoll_queue a;
  epoll_queue b;
  recorded at_a(polling(pair.ours.get(), false, POLLIN | poll_exclusive));
  recorded at_b(polling(pair.ours.get(), false, POLLIN | poll_exclusive));
  for (int round = 0; round < 100; ++round) {
    at_a.answers.clear();
    at_b.answers.clear();
    a.start(at_a);
    b.start(at_b);
    pair.put("x");
    a.turn();
    b.turn();
    REQUIRE(at_a.answers.size() + at_b.answers.size() >= 1);
    if (at_a.in_flight()) a.stop(at_a);
    if (at_b.in_flight()) b.stop(at_b);
    char byte = 0;
    REQUIRE(::read(pair.ours.get(), &byte, 1) == 1);
  }
}

TEST_CASE("epoll: a poll of a regular file answers at once, even a multishot, and that is its end") {
  epoll_queue q;
  const keel::test::temporary_folder folder;
  const unique_fd file(::open(folder.write("file", "contents").c_str(), O_RDONLY | O_CLOEXEC));
  for (const bool multishot : {false, true}) {
    recorded op(polling(file.get(), multishot, POLLIN | POLLOUT));
    CHECK(answer_of(q, op) == (POLLIN | POLLOUT));
    CHECK(op.answers.size() == 1);
  }
}

// io_uring tries it without waiting first, and gets the descriptor at once.
TEST_CASE("epoll: an open that waits for a peer does not hold up the queue") {
  epoll_queue q;
  const keel::test::temporary_folder folder;
  const std::string path = folder / "fifo";
  REQUIRE(::mkfifo(path.c_str(), 0600) == 0);
  recorded reader({.code = opcode::open, .flags = O_RDONLY, .data = path.c_str()});
  q.submit(reader);
  CHECK(answer_of(q, {.code = opcode::nop}) == 0);
  q.cancel(reader);  // the thread has begun, or it has not: either is an end
  unique_fd writer;
  while (!writer && reader.in_flight()) {
    writer.reset(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
    q.turn();
  }
  REQUIRE(turn_until(q, [&] { return reader.ended(); }));
  const unique_fd opened(reader.value() >= 0 ? reader.value() : -1);
  CHECK((opened || reader.value() == -ECANCELED));
}

TEST_CASE("I8: epoll: where no thread can be had, files are read and written all the same") {
  const keel::test::temporary_folder folder;
  const std::string path = folder.write("file", "contents");
  REQUIRE(::chmod((folder / "").c_str(), 0755) == 0);
  REQUIRE(::chmod(path.c_str(), 0644) == 0);
  const auto child = keel::test::in_child([&] {
    epoll_queue q;
    answer_of(q, {.code = opcode::nop});
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_NPROC, &none) != 0 || ::setuid(65534) != 0) return 77;
    const int fd = answer_of(q, {.code = opcode::open, .flags = O_RDONLY, .data = path.c_str()});
    if (fd < 0) return -fd;
    std::array<char, 16> buffer{};
    const int n =
        answer_of(q, {.code = opcode::read, .fd = fd, .size_bytes = 16, .data = buffer.data(), .offset = 0});
    return n == 8 ? 0 : 1;
  });
  if (child.exit_code == 77) return keel::test::skip("this process may not become another user");
  CHECK(child.exit_code == 0);
}

TEST_CASE("epoll: connecting to a full AF_UNIX listener succeeds when that has room again") {
  epoll_queue q;
  const keel::test::temporary_folder folder;
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  const std::string path = folder / "socket";
  std::strncpy(at.sun_path, path.c_str(), sizeof at.sun_path - 1);
  const unique_fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  REQUIRE(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at) == 0);
  REQUIRE(::listen(listener.get(), 0) == 0);
  std::vector<unique_fd> clients;
  std::deque<recorded> ops;
  for (int i = 0; i < 4; ++i) {
    const unique_fd& fd = clients.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    q.start(ops.emplace_back(
        request{.code = opcode::connect, .fd = fd.get(), .size_bytes = sizeof at, .data = &at}));
  }
  CHECK(ops[0].ended());
  CHECK(ops[3].in_flight());
  q.stop(ops[3]);
  CHECK(ops[3].value() == -ECANCELED);
  std::size_t accepted = 0;
  REQUIRE(turn_until(q, [&] {
    const unique_fd one(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (one) ++accepted;
    return ops[1].ended() && ops[2].ended();
  }));
  for (int i = 0; i < 3; ++i) CHECK(ops[std::size_t(i)].value() == 0);
  CHECK(accepted >= 1);
  CHECK(q.idle());
}

TEST_CASE("epoll: whoever watches the descriptor learns that a turn left something over") {
  queue_options options = on_epoll();
  options.ring_events = 2;
  queue q(options);
  pollfd at{q.fd(), POLLIN, 0};
  CHECK(::poll(&at, 1, 0) == 0);
  fd_pair pair = unix_pair();
  std::size_t bytes = 0;
  struct drainer : keel::kevent_sys::operation {
    drainer(queue& its_queue, int fd, std::size_t& count)
        : operation({.code = opcode::receive, .multishot = true, .fd = fd}, &note),
          q(its_queue),
          bytes(count) {}
    static void note(operation& self, keel::kevent_sys::answer a) noexcept {
      auto& me = static_cast<drainer&>(self);
      if (a.has_buffer()) me.q.buffers().give_back(a.buffer());
      if (a.value > 0) me.bytes += std::size_t(a.value);
    }
    queue& q;
    std::size_t& bytes;
  } op(q, pair.ours.get(), bytes);
  q.submit(op);
  const std::string chunk(150'000, 'x');
  const ssize_t sent = ::send(pair.theirs.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
  REQUIRE(sent > 70'000);
  q.wait(0);
  q.consume();
  while (bytes < std::size_t(sent)) {
    REQUIRE(::poll(&at, 1, 20'000) == 1);
    q.wait(0);
    q.consume();
  }
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return !op.in_flight(); }));
}

TEST_CASE("B13: epoll: use from a second thread is told at once") {
  const auto second_thread = [] {
    epoll_queue q;
    answer_of(q, {.code = opcode::nop});
    std::thread([&] { q.wait(0); }).join();
  };
  CHECK_DEATH(second_thread(), "was it used from a second thread?");
}
