#include <keel/kevent_sys/file_transfer.hpp>

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <fcntl.h>
#include <random>
#include <string>
#include <sys/mman.h>
#include <unistd.h>

#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/recorded_operation.hpp"
#include "support/skip.hpp"
#include "support/temporary_folder.hpp"

using keel::unique_fd;
using keel::kevent_sys::in_page_cache;
using keel::kevent_sys::opcode;
using keel::kevent_sys::queue;
using keel::kevent_sys::request;
using keel::kevent_sys::send_slice;
using keel::kevent_sys::transfer_slice;
using keel::test::answer_of;
using keel::test::fd_pair;
using keel::test::recorded;
using keel::test::turn_until;
using keel::test::unix_pair;

namespace {

std::string some_bytes(std::size_t size) {
  std::mt19937 random(1);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = char(random());
  return bytes;
}

struct test_file {
  explicit test_file(const std::string& bytes)
      : fd(::open(folder.write("file", bytes).c_str(), O_RDWR | O_CLOEXEC)) {
    REQUIRE(fd);
  }
  // Drops the file from the page cache. False where that cannot be done.
  bool cool(std::uint64_t size) const {
    ::fsync(fd.get());
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
    return !in_page_cache(fd.get(), 0, size);
  }
  request to(int socket, std::uint64_t offset, std::uint64_t count) const {
    return {.code = opcode::sendfile, .fd = socket, .file_fd = fd.get(), .offset = offset, .count = count};
  }

  keel::test::temporary_folder folder;
  unique_fd fd;
};

// Sends the range in as many steps as it takes; the peer reads meanwhile. Gives what the peer got, or "error
// N".
std::string transferred(queue& q, const fd_pair& pair, const test_file& file, std::uint64_t offset,
                        std::uint64_t count) {
  std::string got;
  while (count > 0) {
    recorded op(file.to(pair.ours.get(), offset, count));
    q.submit(op);
    REQUIRE(turn_until(q, [&] {
      for (std::string some = pair.get(); !some.empty(); some = pair.get()) got += some;
      return op.ended();
    }));
    const int moved = op.value();
    CHECK(moved <= int(transfer_slice));
    if (moved < 0) return "error " + std::to_string(-moved);
    if (moved == 0) break;
    offset += std::uint64_t(moved);
    count -= std::uint64_t(moved);
  }
  for (std::string some = pair.get(); !some.empty(); some = pair.get()) got += some;
  return got;
}

}  // namespace

TEST_CASE("file_transfer: in_page_cache knows what was written and what was dropped") {
  const std::string bytes = some_bytes(64 * 1024);
  const test_file file(bytes);
  CHECK(in_page_cache(file.fd.get(), 0, bytes.size()));
  CHECK(in_page_cache(file.fd.get(), 5000, 1));
  CHECK(in_page_cache(file.fd.get(), 0, 0));
  if (!file.cool(bytes.size()))
    return keel::test::skip("the page cache of this file system cannot be dropped");
  CHECK_FALSE(in_page_cache(file.fd.get(), 0, bytes.size()));
  CHECK_FALSE(in_page_cache(file.fd.get(), 8192, 1));
  char byte = 0;
  ::posix_fadvise(file.fd.get(), 0, 0, POSIX_FADV_RANDOM);
  CHECK(::pread(file.fd.get(), &byte, 1, 8192) == 1);
  CHECK(in_page_cache(file.fd.get(), 8192, 4096));
  CHECK_FALSE(in_page_cache(file.fd.get(), 0, bytes.size()));
}

TEST_CASE("file_transfer: a slice answers the bytes moved, 0 at the end, or the error") {
  const test_file file("hello world");
  const fd_pair pair = unix_pair();
  CHECK(send_slice(pair.ours.get(), file.fd.get(), 6, 100) == 5);
  CHECK(pair.get() == "world");
  CHECK(send_slice(pair.ours.get(), file.fd.get(), 11, 100) == 0);
  CHECK(send_slice(pair.ours.get(), 9999, 0, 1) == -EBADF);
}

TEST_CASE(
    "F6: file_transfer: a dead socket is EPIPE, without a signal, whether it was blocked before or not") {
  const auto child = keel::test::in_child([] {
    ::signal(SIGPIPE, SIG_DFL);
    const test_file file("hello world");
    sigset_t pipe_only;
    sigemptyset(&pipe_only);
    sigaddset(&pipe_only, SIGPIPE);
    for (const bool tcp : {false, true}) {
      fd_pair pair = tcp ? keel::test::tcp_pair() : unix_pair();
      pair.reset_peer();
      int answer = send_slice(pair.ours.get(), file.fd.get(), 0, 11);
      if (answer == -ECONNRESET) answer = send_slice(pair.ours.get(), file.fd.get(), 0, 11);
      if (answer != -EPIPE) return 1;
      sigset_t now;
      ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
      if (sigismember(&now, SIGPIPE) != 0) return 2;
      ::sigpending(&now);
      if (sigismember(&now, SIGPIPE) != 0) return 3;
    }
    fd_pair pair = unix_pair();
    pair.theirs.reset();
    ::pthread_sigmask(SIG_BLOCK, &pipe_only, nullptr);
    if (send_slice(pair.ours.get(), file.fd.get(), 0, 11) != -EPIPE) return 4;
    sigset_t now;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &now);
    return sigismember(&now, SIGPIPE) == 1 ? 0 : 5;
  });
  CHECK(child.signal == 0);
  CHECK(child.exit_code == 0);
}

TEST_CASE("uring: sendfile moves a large file in slices, byte for byte, and waits for a slow peer") {
  const std::string bytes = some_bytes(3'000'000);
  const test_file file(bytes);
  queue q({});
  const fd_pair pair = unix_pair();
  CHECK(transferred(q, pair, file, 0, bytes.size()) == bytes);
  CHECK(transferred(q, pair, file, 1'234'567, 1'000'001) == bytes.substr(1'234'567, 1'000'001));

  // A socket that is full, until the peer reads.
  recorded op(file.to(pair.ours.get(), 0, bytes.size()));
  std::string got;
  while (true) {
    q.submit(op);
    for (int i = 0; i < 3; ++i) {
      q.wait(0);
      q.consume();
    }
    if (op.in_flight()) break;
    REQUIRE(op.value() > 0);
  }
  CHECK_FALSE(pair.get().empty());
  while (!pair.get().empty()) {
  }
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK(op.value() > 0);
}

TEST_CASE(
    "uring: sendfile brings a cold file into the page cache through the ring, not by waiting for the disk") {
  const std::string bytes = some_bytes(1'000'000);
  const test_file file(bytes);
  if (!file.cool(bytes.size()))
    return keel::test::skip("the page cache of this file system cannot be dropped");
  queue q({});
  const fd_pair pair = unix_pair();
  const std::uint64_t enters = q.counters().enters;
  CHECK(transferred(q, pair, file, 0, bytes.size()) == bytes);
  // A warm file is sent without asking the ring at all.
  CHECK(q.counters().enters > enters);
}

TEST_CASE("F4: uring: sendfile of a file that was truncated ends with 0, at once and in the middle") {
  const std::string bytes = some_bytes(600'000);
  const test_file file(bytes);
  queue q({});
  const fd_pair pair = unix_pair();
  REQUIRE(::ftruncate(file.fd.get(), 300'000) == 0);
  CHECK(transferred(q, pair, file, 0, 600'000) == bytes.substr(0, 300'000));
  CHECK(answer_of(q, file.to(pair.ours.get(), 300'000, 100)) == 0);
  REQUIRE(::ftruncate(file.fd.get(), 0) == 0);
  CHECK(answer_of(q, file.to(pair.ours.get(), 0, 100)) == 0);
}

TEST_CASE("uring: sendfile tells the errors of both sides, and works for files in memory") {
  const test_file file("hello");
  queue q({});
  fd_pair pair = unix_pair();
  request bad_file = file.to(pair.ours.get(), 0, 5);
  bad_file.file_fd = 9999;
  CHECK(answer_of(q, bad_file) == -EBADF);
  CHECK(answer_of(q, file.to(9999, 0, 5)) == -EBADF);

  const unique_fd memory(::memfd_create("file", MFD_CLOEXEC));
  REQUIRE(::write(memory.get(), "in memory", 9) == 9);
  request of_memory = file.to(pair.ours.get(), 3, 6);
  of_memory.file_fd = memory.get();
  CHECK(answer_of(q, of_memory) == 6);
  CHECK(pair.get() == "memory");

  pair.theirs.reset();
  CHECK(answer_of(q, file.to(pair.ours.get(), 0, 5)) == -EPIPE);
}

TEST_CASE(
    "uring: a sendfile can be cancelled before it starts, while it warms up, and while it waits for room") {
  const std::string bytes = some_bytes(1'000'000);
  const test_file file(bytes);
  queue q({});
  const fd_pair pair = unix_pair();
  recorded op(file.to(pair.ours.get(), 0, bytes.size()));
  q.submit(op);
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK(op.value() == -ECANCELED);
  CHECK(pair.get().empty());

  file.cool(bytes.size());
  q.submit(op);
  q.wait(0);
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK((op.value() == -ECANCELED || op.value() > 0));

  do {
    q.submit(op);
    for (int i = 0; i < 3; ++i) {
      q.wait(q.fresh_now_ns() + 5'000'000);
      q.consume();
    }
  } while (op.ended());
  q.cancel(op);
  REQUIRE(turn_until(q, [&] { return op.ended(); }));
  CHECK(op.value() == -ECANCELED);
  CHECK(q.idle());
}
