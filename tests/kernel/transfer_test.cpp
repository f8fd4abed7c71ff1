// Accepting, receiving, sending: what the answers look like when something runs out or has gone.

#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/timerfd.h>
#include <array>
#include <csignal>
#include <cstdio>

#include "kernel/raw_ring.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

constexpr unsigned group = 3;

// A few provided buffers of 16 bytes each.
class buffer_ring {
 public:
  buffer_ring(raw_ring& ring, unsigned count) : ring_(ring) {
    void* memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    buffers_ = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
    registration.ring_entries = 8;
    registration.bgid = group;
    REQUIRE(io_uring_register_buf_ring(ring.raw(), &registration, 0) == 0);
    for (unsigned i = 0; i < count; ++i) give(i);
  }
  buffer_ring(const buffer_ring&) = delete;
  buffer_ring& operator=(const buffer_ring&) = delete;
  ~buffer_ring() {
    io_uring_unregister_buf_ring(ring_.raw(), group);
    ::munmap(buffers_, 4096);
  }
  void give(unsigned id) {
    const auto number = static_cast<unsigned short>(id);
    io_uring_buf_ring_add(buffers_, memory_[id].data(), 16, number, io_uring_buf_ring_mask(8), 0);
    io_uring_buf_ring_advance(buffers_, 1);
  }

 private:
  raw_ring& ring_;
  io_uring_buf_ring* buffers_ = nullptr;
  std::array<std::array<char, 16>, 8> memory_{};
};

io_uring_sqe& ask_multishot(raw_ring& ring, std::uint64_t number, std::uint8_t opcode, int fd) {
  auto& sqe = ring.ask(number, opcode, fd);
  sqe.flags = IOSQE_BUFFER_SELECT;
  sqe.buf_group = group;
  if (opcode == IORING_OP_RECV) sqe.ioprio = IORING_RECV_MULTISHOT;
  if (opcode == op_read_multishot) sqe.off = ~std::uint64_t{0};
  return sqe;
}

fd_pair datagram_pair() {
  int ends[2] = {-1, -1};
  REQUIRE(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) == 0);
  return {keel::unique_fd(ends[0]), keel::unique_fd(ends[1])};
}

fd_pair broken_pair(bool of_pipe) {
  fd_pair pair = of_pipe ? pipe_pair() : unix_pair();
  pair.ours.reset();
  return pair;
}

// What a child that writes to a broken pair answers, or the signal that kills it.
template <class Write>
std::string end_of_write(bool of_pipe, Write write) {
  const fd_pair pair = broken_pair(of_pipe);
  const child_end child = in_child([&] {
    ::signal(SIGPIPE, SIG_DFL);
    return write(pair.theirs.get());
  });
  return child.signal != 0 ? ::sigabbrev_np(child.signal) : ::strerrorname_np(child.exit_code);
}

int ring_write(std::uint8_t opcode, int fd, std::uint8_t flags = 0) {
  raw_ring ring(owned);
  ring.ask(1, opcode, fd, "x", 1).flags = flags;
  const auto answers = ring.collect(1);
  return answers.size() == 1 ? -answers[0].res : 255;
}

}  // namespace

TEST_CASE(
    "D8: accept: multishot ends with EMFILE, at each attempt to arm it again, and loses no connection") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const listening_socket listener;
  const auto arm = [&] { ring.ask(1, IORING_OP_ACCEPT, listener.fd.get()).ioprio = IORING_ACCEPT_MULTISHOT; };
  std::array<keel::unique_fd, 2> waiting{keel::unique_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)),
                                         keel::unique_fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0))};
  {
    const descriptor_limit none(0);
    for (const auto& socket : waiting)
      REQUIRE(::connect(socket.get(), listener.address(), sizeof listener.at) == 0);
    for (int i = 0; i < 3; ++i) {
      arm();
      CHECK(ring.hear(1) == "1=EMFILE");
    }
  }
  arm();
  const auto late = ring.collect(2);
  REQUIRE(late.size() == 2);
  for (const io_uring_cqe& cqe : late) {
    CHECK((cqe.flags & IORING_CQE_F_MORE) != 0);
    CHECK(keel::unique_fd(cqe.res));
  }
}

TEST_CASE("accept: the limit of descriptors is the one from when it was armed") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const listening_socket listener;
  const keel::unique_fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ring.ask(1, IORING_OP_ACCEPT, listener.fd.get());
  CHECK(ring.hear() == "");
  const descriptor_limit none(0);
  REQUIRE(::connect(client.get(), listener.address(), sizeof listener.at) == 0);
  const auto answers = ring.collect(1);
  REQUIRE(answers.size() == 1);
  CHECK(keel::unique_fd(answers[0].res));
}

TEST_CASE("E1: recv: multishot ends with ENOBUFS when the provided buffers run out") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  buffer_ring buffers(ring, 2);
  const fd_pair pair = datagram_pair();
  ask_multishot(ring, 1, IORING_OP_RECV, pair.ours.get());
  CHECK(ring.hear() == "");
  for (const char* text : {"a", "bb", "ccc", "dddd"}) pair.put(text);
  CHECK(ring.hear() == "1=1+ 1=2+ 1=ENOBUFS");
  CHECK(ring.hear() == "");
  buffers.give(0);
  ask_multishot(ring, 2, IORING_OP_RECV, pair.ours.get());
  CHECK(ring.hear() == "2=3+ 2=ENOBUFS");
}

TEST_CASE(
    "recv: POLL_FIRST needs no buffer until there is data; without it an empty buffer ring is ENOBUFS at "
    "once") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  buffer_ring buffers(ring, 0);
  const fd_pair pair = unix_pair();
  ask_multishot(ring, 1, IORING_OP_RECV, pair.ours.get());
  CHECK(ring.hear() == "1=ENOBUFS");
  ask_multishot(ring, 2, IORING_OP_RECV, pair.ours.get()).ioprio |= IORING_RECVSEND_POLL_FIRST;
  CHECK(ring.hear() == "");
  buffers.give(0);
  pair.put("x");
  CHECK(ring.hear() == "2=1+");
  pair.put("y");
  CHECK(ring.hear() == "2=ENOBUFS");
}

TEST_CASE("recv: multishot ends with 0 when the peer has stopped, after all its bytes") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const buffer_ring buffers(ring, 4);
  fd_pair pair = tcp_pair();
  ask_multishot(ring, 1, IORING_OP_RECV, pair.ours.get());
  pair.put("bytes");
  CHECK(ring.hear(1) == "1=5+");
  pair.theirs.reset();
  CHECK(ring.hear(1) == "1=0");
}

TEST_CASE("read: multishot on a pipe gives what comes, and 0 at the end") {
  if (!can_use_opcode(op_read_multishot)) return;
  raw_ring ring(owned);
  buffer_ring buffers(ring, 2);
  for (const int flags : {0, O_NONBLOCK}) {
    fd_pair pipe = pipe_pair(flags);
    ask_multishot(ring, 1, op_read_multishot, pipe.ours.get());
    CHECK(ring.hear() == "");
    pipe.put("x");
    CHECK(ring.hear() == "1=1+");
    pipe.put("yy");
    CHECK(ring.hear() == "1=2+");
    buffers.give(0);
    buffers.give(1);
    pipe.theirs.reset();
    CHECK(ring.hear() == "1=0");
    buffers.give(0);
  }
}

TEST_CASE("F14: O_NONBLOCK or not: a request waits") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  std::uint64_t bytes = 0;
  const fd_pair pair = unix_pair();
  const fd_pair pipe = pipe_pair(O_NONBLOCK);
  const keel::unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  const keel::unique_fd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
  const keel::unique_fd notify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const auto read = [&](std::uint64_t number, int fd) {
    ring.ask(number, IORING_OP_READ, fd, &bytes, sizeof bytes).off = ~std::uint64_t{0};
    return ring.hear();
  };
  ring.ask(1, IORING_OP_RECV, pair.ours.get(), &bytes, 1);
  CHECK(ring.hear() == "");
  CHECK(read(2, pair.ours.get()) == "");
  CHECK(read(3, pipe.ours.get()) == "");
  CHECK(read(4, event.get()) == "");
  CHECK(read(5, timer.get()) == "");
  CHECK(read(6, notify.get()) == "");
  ring.ask(7, IORING_OP_ASYNC_CANCEL, -1).cancel_flags = IORING_ASYNC_CANCEL_ANY | IORING_ASYNC_CANCEL_ALL;
  CHECK(ring.hear() == "1=ECANCELED 2=ECANCELED 3=ECANCELED 4=ECANCELED 5=ECANCELED 6=ECANCELED 7=6");
}

TEST_CASE("F6: a send raises no SIGPIPE, a write does, and not when a worker of the kernel makes it") {
  if (!can_use_rings()) return;
  CHECK(end_of_write(false, [](int fd) { return ring_write(IORING_OP_SEND, fd); }) == "EPIPE");
  CHECK(end_of_write(false, [](int fd) { return ring_write(IORING_OP_WRITE, fd); }) == "PIPE");
  CHECK(end_of_write(true, [](int fd) { return ring_write(IORING_OP_WRITE, fd); }) == "PIPE");
  CHECK(end_of_write(true, [](int fd) { return ring_write(IORING_OP_WRITE, fd, IOSQE_ASYNC); }) == "EPIPE");
}

TEST_CASE("F6: sendfile raises SIGPIPE") {
  if (!can_use_rings()) return;
  const temporary_folder folder;
  const std::string path = folder.write("file", "text");
  CHECK(end_of_write(false, [&](int fd) {
          const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
          return ::sendfile(fd, file, nullptr, 4) < 0 ? errno : 255;
        }) == "PIPE");
}

TEST_CASE("cachestat: it counts the cached pages of a range") {
  struct cachestat_range {
    std::uint64_t offset, length;
  };
  struct cachestat_answer {
    std::uint64_t cached, others[4];
  };
  constexpr long syscall_cachestat = 451;
  const temporary_folder folder;
  const std::string text(8192, 'x');
  const keel::unique_fd file(::open(folder.write("file", text).c_str(), O_RDONLY | O_CLOEXEC));
  cachestat_range range{0, 8192};
  cachestat_answer answer{};
  if (::syscall(syscall_cachestat, file.get(), &range, &answer, 0) != 0 && errno == ENOSYS)
    return skip("no cachestat (Linux 6.5)");
  CHECK(::syscall(syscall_cachestat, file.get(), &range, &answer, 0) == 0);
  CHECK(answer.cached == 2);
  range = {8192, 4096};
  CHECK(::syscall(syscall_cachestat, file.get(), &range, &answer, 0) == 0);
  CHECK(answer.cached == 0);
}

TEST_CASE("F4: sendfile answers 0 at the end of the file, however often it is asked") {
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC));
  const fd_pair pair = unix_pair();
  off_t offset = 0;
  CHECK(::sendfile(pair.ours.get(), file.get(), &offset, 10) == 4);
  CHECK(::sendfile(pair.ours.get(), file.get(), &offset, 10) == 0);
  CHECK(::sendfile(pair.ours.get(), file.get(), &offset, 10) == 0);
}

TEST_CASE(
    "D10: a connection that was reset before it is accepted is accepted, and fails at its first receive") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const listening_socket listener;
  fd_pair pair{keel::unique_fd(), listener.connected()};
  pair.reset_peer();
  ring.ask(1, IORING_OP_ACCEPT, listener.fd.get());
  const auto answers = ring.collect(1);
  REQUIRE(answers.size() == 1);
  const keel::unique_fd accepted(answers[0].res);
  REQUIRE(accepted);
  char byte = 0;
  ring.ask(2, IORING_OP_RECV, accepted.get(), &byte, 1);
  CHECK(ring.hear(1) == "2=ECONNRESET");
}

TEST_CASE("B17: a short read ends the requests that are linked to it") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "text").c_str(), O_RDONLY | O_CLOEXEC));
  char buffer[16];
  ring.ask(1, IORING_OP_READ, file.get(), buffer, sizeof buffer).flags = IOSQE_IO_LINK;
  ring.nop(2);
  CHECK(ring.hear(2) == "1=4 2=ECANCELED");
}

TEST_CASE("F17: a write beyond RLIMIT_FSIZE is short, then EFBIG, without the signal of write(2)") {
  if (!can_use_rings()) return;
  const temporary_folder folder;
  const std::string path = folder.write("file", "");
  std::fflush(stdout);  // or the child may write it, under its limit
  const child_end child = in_child([&] {
    ::signal(SIGXFSZ, SIG_DFL);
    const rlimit little{1000, 1000};
    ::setrlimit(RLIMIT_FSIZE, &little);
    const keel::unique_fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    const std::string bytes(4000, 'x');
    raw_ring ring(owned);
    ring.ask(1, IORING_OP_WRITE, file.get(), bytes.data(), bytes.size());
    if (ring.hear(1) != "1=1000") return 1;
    ring.ask(2, IORING_OP_WRITE, file.get(), bytes.data(), bytes.size()).off = 1000;
    return ring.hear(1) == "2=EFBIG" ? 0 : 2;
  });
  CHECK(child.signal == 0);
  CHECK(child.exit_code == 0);
}
