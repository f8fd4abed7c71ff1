#include <doctest/doctest.h>

#include <fcntl.h>
#include <cerrno>
#include <string>

#include "support/death_test.hpp"
#include "support/sim_queue.hpp"

using keel::kevent_sys::opcode;
using keel::test::answer_of;
using keel::test::sim_queue;

namespace {

int open_file(sim_queue& s, const char* path, std::uint32_t flags) {
  return answer_of(s.q, {.code = opcode::open, .size_bytes = 0600, .flags = flags, .data = path});
}
std::string read_at(sim_queue& s, int fd, std::uint64_t offset, std::uint32_t most = 64) {
  std::string bytes(most, '\0');
  const int n = answer_of(
      s.q, {.code = opcode::read, .fd = fd, .size_bytes = most, .data = bytes.data(), .offset = offset});
  return n > 0 ? bytes.substr(0, std::size_t(n)) : std::to_string(n);
}
int write_at(sim_queue& s, int fd, std::string_view bytes, std::uint64_t offset) {
  return answer_of(s.q, {.code = opcode::write,
                         .fd = fd,
                         .size_bytes = std::uint32_t(bytes.size()),
                         .data = bytes.data(),
                         .offset = offset});
}

}  // namespace

TEST_CASE("sim_file: what is written at an offset is read there, and the rest is zeros") {
  sim_queue s;
  s.world.put_file("greeting", "hello world");
  const int fd = open_file(s, "greeting", O_RDWR);
  CHECK(read_at(s, fd, 6) == "world");
  CHECK(read_at(s, fd, 11) == "0");
  CHECK(write_at(s, fd, "WORLD", 6) == 5);
  CHECK(write_at(s, fd, "!", 12) == 1);
  CHECK(s.world.file("greeting") == std::string_view("hello WORLD\0!", 13));
  CHECK(s.close(fd) == 0);
}

TEST_CASE("sim_file: open says what open(2) says") {
  sim_queue s;
  s.world.put_file("there", "content");
  CHECK(open_file(s, "missing", O_RDONLY) == -ENOENT);
  CHECK(open_file(s, "there", O_RDWR | O_CREAT | O_EXCL) == -EEXIST);
  CHECK(open_file(s, "there", O_DIRECTORY) == -ENOTDIR);
  CHECK(open_file(s, "new", O_WRONLY | O_CREAT) >= 0);
  CHECK(s.world.has_file("new"));
  CHECK(open_file(s, "there", O_RDWR | O_TRUNC) >= 0);
  CHECK(s.world.file("there") == "");
  s.world.remove_file("there");
  CHECK(open_file(s, "there", O_RDONLY) == -ENOENT);
}

TEST_CASE("sim_file: a mode and a position belong to the open file") {
  sim_queue s;
  s.world.put_file("log", "one ");
  const int reader = open_file(s, "log", O_RDONLY);
  const int writer = open_file(s, "log", O_WRONLY | O_APPEND);
  CHECK(write_at(s, reader, "x", 0) == -EBADF);
  CHECK(read_at(s, writer, 0) == std::to_string(-EBADF));
  CHECK(write_at(s, writer, "two ", 0) == 4);
  constexpr std::uint64_t at_position = ~std::uint64_t{0};
  CHECK(read_at(s, reader, at_position, 4) == "one ");
  CHECK(read_at(s, reader, at_position, 4) == "two ");
  CHECK(read_at(s, reader, at_position, 4) == "0");
  CHECK(write_at(s, open_file(s, "log", O_WRONLY), "x", 1u << 30) == -EFBIG);
}

TEST_CASE("F17: sim_file: a full disk takes a part, then answers ENOSPC") {
  sim_queue s({.disk_bytes = 8});
  s.world.put_file("a", "12345");
  const int fd = open_file(s, "b", O_WRONLY | O_CREAT);
  CHECK(write_at(s, fd, "abcdef", 0) == 3);
  CHECK(write_at(s, fd, "def", 3) == -ENOSPC);
  CHECK_FALSE(s.world.truncate_file("b", 4));
  CHECK(s.world.truncate_file("a", 0));
  CHECK(write_at(s, fd, "def", 3) == 3);
  CHECK(s.world.file("b") == "abcdef");
  CHECK_DEATH(s.world.put_file("c", "123456789"), "no room for this file");
}

TEST_CASE("F4: sim_file: sendfile ends with 0 where a file was cut short under it") {
  sim_queue s;
  s.world.put_file("page", "0123456789");
  const int fd = open_file(s, "page", O_RDONLY);
  const auto [a, b] = s.world.stream_pair({.capacity_bytes = 4});
  const auto slice = [&](std::uint64_t offset, std::uint64_t count) {
    return answer_of(s.q,
                     {.code = opcode::sendfile, .fd = a, .file_fd = fd, .offset = offset, .count = count});
  };
  CHECK(slice(0, 10) == 4);
  CHECK(s.recv(b) == "0123");
  CHECK(s.world.truncate_file("page", 6));
  CHECK(slice(4, 6) == 2);
  CHECK(slice(6, 4) == 0);
  CHECK(s.recv(b) == "45");
  CHECK(answer_of(s.q, {.code = opcode::sendfile, .fd = a, .file_fd = a, .count = 1}) == -ESPIPE);
  CHECK(answer_of(s.q, {.code = opcode::sendfile, .fd = a, .file_fd = -1, .count = 1}) == -EBADF);
  s.world.expect_end();
  CHECK(s.world.report() == "");
}
