#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <fcntl.h>
#include <sys/stat.h>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

keel::unique_fd opened(const std::string& path) {
  keel::unique_fd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(fd);
  return fd;
}

ukevent inode_event(int fd, std::uint32_t mask, std::uint32_t flags = 0) {
  return event_of(KEVENT_INODE, static_cast<std::uint32_t>(fd), mask, flags);
}

}  // namespace

TEST_CASE("case 133: a new file in a directory is an event") {
  const temporary_folder folder;
  const keel::unique_fd fd = opened(folder.path());
  const event_queue queue;
  REQUIRE(queue.add(inode_event(fd.get(), KEVENT_INODE_CREATE)) == 0);
  CHECK(queue.silent(5));
  folder.write("new", "text");
  CHECK(queue.next().ret_flags == done);
  REQUIRE(::mkdir((folder / "directory").c_str(), 0700) == 0);
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());
}

TEST_CASE("case 133: a file that is removed is an event of who asked for REMOVE only") {
  const temporary_folder folder;
  const std::string file = folder.write("old", "text");
  const keel::unique_fd fd = opened(folder.path());
  const event_queue creating, removing;
  REQUIRE(creating.add(inode_event(fd.get(), KEVENT_INODE_CREATE)) == 0);
  REQUIRE(removing.add(inode_event(fd.get(), KEVENT_INODE_REMOVE)) == 0);
  REQUIRE(::unlink(file.c_str()) == 0);
  CHECK(removing.next().ret_flags == done);
  CHECK(creating.silent());
}

TEST_CASE("case 133: ten files that nobody collects are one event") {
  const temporary_folder folder;
  const keel::unique_fd fd = opened(folder.path());
  const event_queue queue;
  REQUIRE(queue.add(inode_event(fd.get(), KEVENT_INODE_CREATE)) == 0);
  for (int i = 0; i < 10; ++i) folder.write(std::to_string(i), "");
  CHECK(queue.next().ret_flags == done);
  CHECK(queue.silent());
}

TEST_CASE("spec 2.2: what moves into a directory is created there, what moves away is removed") {
  const temporary_folder here, there;
  const std::string file = there.write("file", "text");
  const keel::unique_fd fd = opened(here.path());
  const event_queue creating, removing;
  REQUIRE(creating.add(inode_event(fd.get(), KEVENT_INODE_CREATE)) == 0);
  REQUIRE(removing.add(inode_event(fd.get(), KEVENT_INODE_REMOVE, KEVENT_REQ_WAKEUP_ALL)) == 0);
  REQUIRE(std::rename(file.c_str(), (here / "moved").c_str()) == 0);
  CHECK(creating.next().ret_flags == done);
  CHECK(removing.silent(5));
  REQUIRE(std::rename((here / "moved").c_str(), file.c_str()) == 0);
  CHECK(removing.next().ret_flags == done);
}

TEST_CASE("decision 6: a directory that is deleted is BROKEN") {
  const temporary_folder folder;
  const std::string path = folder / "doomed";
  REQUIRE(::mkdir(path.c_str(), 0700) == 0);
  keel::unique_fd fd = opened(path);
  const int number = fd.get();
  const event_queue a, b;
  REQUIRE(a.add(inode_event(number, KEVENT_INODE_CREATE)) == 0);
  REQUIRE(b.add(inode_event(number, KEVENT_INODE_CREATE)) == 0);
  REQUIRE(::rmdir(path.c_str()) == 0);
  fd.reset();
  CHECK((a.next().ret_flags & KEVENT_RET_BROKEN) != 0);
  CHECK((b.next().ret_flags & KEVENT_RET_BROKEN) != 0);
  CHECK(a.remove(inode_event(number, KEVENT_INODE_CREATE)).ret_flags == done);
}

TEST_CASE("spec 2.2: directories are told apart, and REMOVE ends the interest") {
  const temporary_folder one, two;
  const keel::unique_fd first = opened(one.path()), second = opened(two.path());
  const event_queue queue;
  REQUIRE(queue.add(inode_event(first.get(), KEVENT_INODE_CREATE)) == 0);
  REQUIRE(queue.add(inode_event(second.get(), KEVENT_INODE_CREATE)) == 0);
  two.write("new", "");
  CHECK(queue.next().id.raw[0] == static_cast<std::uint32_t>(second.get()));
  CHECK(queue.remove(inode_event(second.get(), KEVENT_INODE_CREATE)).ret_flags == done);
  two.write("newer", "");
  CHECK(queue.silent());
  one.write("new", "");
  CHECK(queue.next().id.raw[0] == static_cast<std::uint32_t>(first.get()));
}

TEST_CASE("spec 2.2: two descriptors of one directory are two registrations") {
  const temporary_folder folder;
  const keel::unique_fd first = opened(folder.path()), second = opened(folder.path());
  const event_queue queue;
  REQUIRE(queue.add(inode_event(first.get(), KEVENT_INODE_CREATE, KEVENT_REQ_WAKEUP_ALL)) == 0);
  REQUIRE(queue.add(inode_event(second.get(), KEVENT_INODE_CREATE, KEVENT_REQ_WAKEUP_ALL)) == 0);
  CHECK(queue.remove(inode_event(first.get(), KEVENT_INODE_CREATE)).ret_flags == done);
  folder.write("new", "");
  CHECK(queue.next().id.raw[0] == static_cast<std::uint32_t>(second.get()));
}

TEST_CASE("clarification, readiness: MODIFY of INODE makes nothing ready, and changes the mask") {
  const temporary_folder folder;
  const std::string file = folder.write("old", "");
  const keel::unique_fd fd = opened(folder.path());
  const event_queue queue;
  REQUIRE(queue.add(inode_event(fd.get(), KEVENT_INODE_CREATE)) == 0);
  REQUIRE(queue.modify(inode_event(fd.get(), KEVENT_INODE_REMOVE)).ret_flags == done);
  CHECK(queue.silent(5));
  folder.write("new", "");
  CHECK(queue.silent());
  REQUIRE(::unlink(file.c_str()) == 0);
  CHECK(queue.next().event == KEVENT_INODE_REMOVE);
}

TEST_CASE("clarification, types: INODE of what is no directory or file is refused") {
  const fd_pair pair = unix_pair();
  const event_queue queue;
  const ukevent bad = queue.handed_back(inode_event(1'000'000, KEVENT_INODE_CREATE));
  CHECK(bad.ret_flags == done_and_broken);
  CHECK(error_of(bad) == -EBADF);
}
