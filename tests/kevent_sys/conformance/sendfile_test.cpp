#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <fcntl.h>
#include <sys/socket.h>
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/descriptors.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

// Bytes of which no two neighbourhoods look alike.
std::string text_of(std::size_t size, unsigned salt = 0) {
  std::string text(size, '\0');
  std::uint64_t state = 88172645463325252u + salt;
  for (char& byte : text) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    byte = static_cast<char>(state);
  }
  return text;
}

// Receives on another thread, as a client does, until the stream ends.
class client {
 public:
  explicit client(keel::unique_fd fd)
      : fd_(std::move(fd)), thread_([this] {
          char buffer[65536];
          for (;;) {
            const ssize_t n = ::read(fd_.get(), buffer, sizeof buffer);
            if (n > 0) received_.append(buffer, std::size_t(n));
            if (n == 0 || (n < 0 && errno != EAGAIN)) return;
            if (n < 0) polled(fd_.get(), POLLIN, 1'000);
          }
        }) {}
  client(const client&) = delete;
  client& operator=(const client&) = delete;
  ~client() {
    ::shutdown(fd_.get(), SHUT_RDWR);
    if (thread_.joinable()) thread_.join();
  }
  std::string received() {
    thread_.join();
    return received_;
  }

 private:
  keel::unique_fd fd_;
  std::string received_;
  std::thread thread_;
};

std::uint64_t bytes_of(const ukevent& event) {
  return event.ret_data[0] | std::uint64_t(event.ret_data[1]) << 32;
}
void* as_pointer(long cookie) {
  return reinterpret_cast<void*>(cookie);
}

keel::unique_fd opened(const std::string& path) {
  keel::unique_fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(fd);
  return fd;
}

long send_path(const event_queue& queue, int socket, std::string header, std::string path, off_t offset,
               std::size_t count) {
  const long cookie = ::aio_sendfile_path(queue.fd(), socket, header.empty() ? nullptr : header.data(),
                                          header.size(), path.data(), offset, count);
  // Both were copied: what becomes of them does not matter.
  std::fill(header.begin(), header.end(), '!');
  std::fill(path.begin(), path.end(), '!');
  return cookie;
}

constexpr std::size_t everything = ~std::size_t(0) >> 1;

}  // namespace

TEST_CASE("case 134: a file of 1 MB arrives whole, and one event with the cookie tells its size") {
  const temporary_folder folder;
  const std::string text = text_of(1'000'000);
  const keel::unique_fd file = opened(folder.write("file", text));
  for (const bool tcp : {false, true}) {
    fd_pair pair = tcp ? tcp_pair() : unix_pair();
    const event_queue queue;
    client peer(std::move(pair.theirs));
    const long cookie = ::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 0, text.size());
    REQUIRE(cookie > 0);

    const ukevent got = queue.next();
    CHECK(got.type == KEVENT_AIO);
    CHECK(got.ret_flags == done);
    CHECK(got.ptr == as_pointer(cookie));
    CHECK(bytes_of(got) == text.size());
    CHECK(queue.silent(5));
    pair.ours.reset();
    CHECK(peer.received() == text);
    CHECK(::lseek(file.get(), 0, SEEK_CUR) == 0);
  }
}

TEST_CASE("case 135: count bytes from offset are sent, and counted, and not one more") {
  const temporary_folder folder;
  const std::string text = text_of(100'000);
  const keel::unique_fd file = opened(folder.write("file", text));
  fd_pair pair = unix_pair();
  const event_queue queue;
  client peer(std::move(pair.theirs));
  REQUIRE(::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 4096, 1000) > 0);
  CHECK(bytes_of(queue.next()) == 1000);
  REQUIRE(::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 99'000, 5'000) > 0);
  CHECK(bytes_of(queue.next()) == 1000);
  pair.ours.reset();
  CHECK(peer.received() == text.substr(4096, 1000) + text.substr(99'000));
}

TEST_CASE("spec 3: nothing to send completes with 0, through the queue") {
  const temporary_folder folder;
  const keel::unique_fd file = opened(folder.write("file", "text"));
  const keel::unique_fd empty = opened(folder.write("empty", ""));
  const fd_pair pair = unix_pair();
  const event_queue queue;
  for (const long cookie : {::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 0, 0),
                            ::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 4, 10),
                            ::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 1'000'000, 10),
                            ::aio_sendfile(queue.fd(), pair.ours.get(), empty.get(), 0, 10)}) {
    REQUIRE(cookie > 0);
    const ukevent got = queue.next();
    CHECK(got.ret_flags == done);
    CHECK(bytes_of(got) == 0);
    CHECK(got.ptr == as_pointer(cookie));
  }
}

TEST_CASE("case 136, clarification, completions: errors of arguments come back at once, without an event") {
  const temporary_folder folder;
  const keel::unique_fd file = opened(folder.write("file", "text"));
  const fd_pair pair = unix_pair();
  const fd_pair ends = pipe_pair();
  const event_queue queue;
  std::string path = folder / "file";
  const int socket = pair.ours.get();
  CHECK(::aio_sendfile(queue.fd(), socket, -1, 0, 1) == -EBADF);
  CHECK(::aio_sendfile(queue.fd(), socket, 1'000'000, 0, 1) == -EBADF);
  CHECK(::aio_sendfile(queue.fd(), -1, file.get(), 0, 1) == -EBADF);
  CHECK(::aio_sendfile(queue.fd(), ends.theirs.get(), file.get(), 0, 1) == -ENOTSOCK);
  CHECK(::aio_sendfile(queue.fd(), socket, file.get(), -1, 1) == -EINVAL);

  CHECK(::aio_sendfile_path(queue.fd(), -1, nullptr, 0, path.data(), 0, 1) == -EBADF);
  CHECK(::aio_sendfile_path(queue.fd(), ends.theirs.get(), nullptr, 0, path.data(), 0, 1) == -ENOTSOCK);
  CHECK(::aio_sendfile_path(queue.fd(), socket, nullptr, 3, path.data(), 0, 1) == -EINVAL);
  CHECK(::aio_sendfile_path(queue.fd(), socket, nullptr, 0, path.data(), -1, 1) == -EINVAL);
  CHECK(::aio_sendfile_path(queue.fd(), socket, nullptr, 0, nullptr, 0, 1) == -EFAULT);
  CHECK(queue.silent());
  CHECK(pair.get().empty());
}

TEST_CASE("case 138: the peer sees the header and then the file, and there is one event") {
  const temporary_folder folder;
  const std::string text = text_of(300'000);
  const std::string path = folder.write("file", text);
  const std::size_t before = open_descriptors();
  {
    fd_pair pair = tcp_pair();
    const event_queue queue;
    client peer(std::move(pair.theirs));
    const long cookie = send_path(queue, pair.ours.get(), "the header\n", path, 0, everything);
    REQUIRE(cookie > 0);
    const ukevent got = queue.next();
    CHECK(got.type == KEVENT_AIO);
    CHECK(got.ret_flags == done);
    CHECK(got.ptr == as_pointer(cookie));
    CHECK(bytes_of(got) == text.size());
    CHECK(queue.silent(5));
    pair.ours.reset();
    CHECK(peer.received() == "the header\n" + text);
  }
  CHECK(open_descriptors() == before);
}

TEST_CASE("case 138, decision 10: header and range, header alone, range alone") {
  const temporary_folder folder;
  const std::string text = text_of(10'000);
  const std::string path = folder.write("file", text);
  fd_pair pair = unix_pair();
  const event_queue queue;
  client peer(std::move(pair.theirs));
  REQUIRE(send_path(queue, pair.ours.get(), "one", path, 100, 50) > 0);
  CHECK(bytes_of(queue.next()) == 50);
  REQUIRE(send_path(queue, pair.ours.get(), "two", path, 0, 0) > 0);
  CHECK(bytes_of(queue.next()) == 0);
  REQUIRE(send_path(queue, pair.ours.get(), "", path, 9'990, 100) > 0);
  CHECK(bytes_of(queue.next()) == 10);
  pair.ours.reset();
  CHECK(peer.received() == "one" + text.substr(100, 50) + "two" + text.substr(9'990));
}

TEST_CASE("case 139, clarification, completions: errors of the open are a BROKEN event") {
  const temporary_folder folder;
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const long cookie = send_path(queue, pair.ours.get(), "header", folder / "missing", 0, 10);
  REQUIRE(cookie > 0);
  const ukevent missing = queue.next();
  CHECK(missing.ret_flags == done_and_broken);
  CHECK(error_of(missing) == -ENOENT);
  CHECK(missing.ret_data[0] == 0);
  CHECK(missing.ptr == as_pointer(cookie));
  CHECK(pair.get().empty());
}

TEST_CASE("clarification, completions: what is no regular file is BROKEN with EINVAL") {
  const temporary_folder folder;
  const fd_pair pair = unix_pair();
  const fd_pair ends = pipe_pair();
  const keel::unique_fd directory(::open(folder.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const event_queue queue;
  REQUIRE(send_path(queue, pair.ours.get(), "", folder.path(), 0, 10) > 0);
  const ukevent by_path = queue.next();
  CHECK(by_path.ret_flags == done_and_broken);
  CHECK(error_of(by_path) == -EINVAL);
  for (const int fd : {ends.ours.get(), directory.get()}) {
    REQUIRE(::aio_sendfile(queue.fd(), pair.ours.get(), fd, 0, 10) > 0);
    const ukevent got = queue.next();
    CHECK(got.ret_flags == done_and_broken);
    CHECK(error_of(got) == -EINVAL);
  }
}

TEST_CASE("case 140: of 100 requests on one socket each header is followed by its own file, in order") {
  const temporary_folder folder;
  fd_pair pair = unix_pair();
  const event_queue queue;
  client peer(std::move(pair.theirs));
  std::string expected;
  std::vector<long> cookies;
  for (unsigned i = 0; i < 100; ++i) {
    const std::string text = text_of(1 + i * 997 % 40'000, i);
    const std::string header = "header " + std::to_string(i) + "\n";
    expected += header + text;
    cookies.push_back(
        send_path(queue, pair.ours.get(), header, folder.write(std::to_string(i), text), 0, everything));
    REQUIRE(cookies.back() > 0);
  }
  std::vector<long> completed;
  while (completed.size() < 100) {
    const ukevent got = queue.next();
    REQUIRE(got.ret_flags == done);
    completed.push_back(reinterpret_cast<long>(got.ptr));
  }
  CHECK(completed == cookies);
  pair.ours.reset();
  const std::string received = peer.received();
  CHECK(received.size() == expected.size());
  CHECK((received == expected));
}

TEST_CASE("case 140: a request that fails does not stop those behind it") {
  const temporary_folder folder;
  fd_pair pair = unix_pair();
  const event_queue queue;
  client peer(std::move(pair.theirs));
  const std::string path = folder.write("file", "content");
  REQUIRE(send_path(queue, pair.ours.get(), "1:", path, 0, everything) > 0);
  REQUIRE(send_path(queue, pair.ours.get(), "2:", folder / "missing", 0, everything) > 0);
  REQUIRE(send_path(queue, pair.ours.get(), "3:", path, 0, everything) > 0);
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.next().ret_flags == done_and_broken);
  CHECK(queue.next().ret_flags == done);
  pair.ours.reset();
  CHECK(peer.received() == "1:content3:content");
}

TEST_CASE("case 141: a peer that closes in the middle is one BROKEN event, and no SIGPIPE") {
  const temporary_folder folder;
  const keel::unique_fd file = opened(folder.write("file", text_of(20'000'000)));
  for (const bool tcp : {false, true}) {
    CAPTURE(tcp);
    fd_pair pair = tcp ? tcp_pair() : unix_pair();
    const event_queue queue;
    const long cookie = ::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 0, 20'000'000);
    REQUIRE(cookie > 0);
    CHECK(queue.silent(30));
    std::size_t received = 0;
    for (int tries = 0; tries < 10'000 && received < 100'000; ++tries) {
      received += pair.get().size();
      CHECK(queue.get(0, 1, no_wait).empty());
    }
    pair.theirs.reset();

    const ukevent got = queue.next();
    CHECK(got.ret_flags == done_and_broken);
    CHECK((error_of(got) == -EPIPE || error_of(got) == -ECONNRESET));
    CHECK(got.ret_data[0] >= 100'000);
    CHECK(got.ret_data[0] < 20'000'000);
    CHECK(got.ptr == as_pointer(cookie));
    CHECK(queue.silent(5));
  }
}

TEST_CASE("decision 10: a submission never blocks, though the peer does not read") {
  const temporary_folder folder;
  const std::string path = folder.write("file", text_of(5'000'000));
  const keel::unique_fd file = opened(path);
  fd_pair pair = unix_pair();
  const event_queue queue;
  const stopwatch time;
  for (int i = 0; i < 3; ++i) {
    REQUIRE(::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 0, 5'000'000) > 0);
    REQUIRE(send_path(queue, pair.ours.get(), "", path, 0, everything) > 0);
  }
  CHECK(time.elapsed_ms() < 8'000);
  CHECK(queue.silent(20));
  client peer(std::move(pair.theirs));
  for (int i = 0; i < 6; ++i) CHECK(bytes_of(queue.next()) == 5'000'000);
  pair.ours.reset();
  CHECK(peer.received().size() == 30'000'000);
}

TEST_CASE("clarification, completions: O_NONBLOCK or not, the socket is waited for") {
  const temporary_folder folder;
  const std::string text = text_of(3'000'000);
  const keel::unique_fd file = opened(folder.write("file", text));
  fd_pair pair = unix_pair();
  ::fcntl(pair.ours.get(), F_SETFL, ::fcntl(pair.ours.get(), F_GETFL) & ~O_NONBLOCK);
  const event_queue queue;
  REQUIRE(::aio_sendfile(queue.fd(), pair.ours.get(), file.get(), 0, text.size()) > 0);
  CHECK(queue.silent(20));
  client peer(std::move(pair.theirs));
  CHECK(bytes_of(queue.next()) == text.size());
  pair.ours.reset();
  CHECK((peer.received() == text));
}

TEST_CASE("kevent_close: a transfer that is under way ends, and its file is closed") {
  const temporary_folder folder;
  const std::string path = folder.write("file", text_of(5'000'000));
  const std::size_t before = open_descriptors();
  {
    const fd_pair pair = unix_pair();
    event_queue queue;
    REQUIRE(send_path(queue, pair.ours.get(), "header", path, 0, everything) > 0);
    CHECK(queue.silent(10));
    CHECK(queue.close() == 0);
  }
  CHECK(open_descriptors() == before);
}
