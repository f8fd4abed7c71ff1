// Processes, directories, and memory over fork.

#include <doctest/doctest.h>

#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <cerrno>
#include <csignal>

#include "kernel/raw_ring.hpp"
#include "support/build.hpp"
#include "support/fd_pairs.hpp"
#include "support/in_child.hpp"
#include "support/temporary_folder.hpp"

using namespace keel::test;

namespace {

constexpr long syscall_pidfd_open = 434;
constexpr auto wait_by_pidfd = static_cast<idtype_t>(3);  // P_PIDFD

// A child that ends with `code` once its pipe is closed.
struct child_process {
  explicit child_process(int code) : line(pipe_pair()), pid(::fork()) {
    REQUIRE(pid >= 0);
    if (pid != 0) return;
    line.theirs.reset();
    char byte = 0;
    while (::read(line.ours.get(), &byte, 1) == -1 && errno == EINTR) continue;
    ::_exit(code);
  }
  void end() { line.theirs.reset(); }
  fd_pair line;
  pid_t pid;
};

keel::unique_fd pidfd_of(pid_t pid) {
  return keel::unique_fd(int(::syscall(syscall_pidfd_open, pid, 0)));
}

bool readable(int fd, int limit_ms) {
  pollfd one{fd, POLLIN, 0};
  return ::poll(&one, 1, limit_ms) == 1;
}

struct page {
  page() : size(std::size_t(::sysconf(_SC_PAGESIZE))) {
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(memory != MAP_FAILED);
    word = static_cast<volatile int*>(memory);
    *word = 42;
  }
  page(const page&) = delete;
  page& operator=(const page&) = delete;
  ~page() { ::munmap(const_cast<int*>(word), size); }
  int advise(int advice) const { return ::madvise(const_cast<int*>(word), size, advice) == 0 ? 0 : errno; }
  std::size_t size;
  volatile int* word = nullptr;
};

}  // namespace

TEST_CASE("pidfd: it becomes readable when the process ends, and stays so") {
  child_process child(7);
  const keel::unique_fd fd = pidfd_of(child.pid);
  REQUIRE(fd);
  CHECK_FALSE(readable(fd.get(), 0));
  child.end();
  CHECK(readable(fd.get(), int(patience_s) * 1000));
  siginfo_t info{};
  for (int i = 0; i < 2; ++i) {
    REQUIRE(::waitid(wait_by_pidfd, id_t(fd.get()), &info, WEXITED | WNOHANG | WNOWAIT) == 0);
    CHECK(info.si_pid == child.pid);
    CHECK(info.si_code == CLD_EXITED);
    CHECK(info.si_status == 7);
    CHECK(readable(fd.get(), 0));
  }
  CHECK(::waitpid(child.pid, nullptr, 0) == child.pid);
  CHECK(readable(fd.get(), 0));
  CHECK((::waitid(wait_by_pidfd, id_t(fd.get()), &info, WEXITED | WNOHANG) == -1 && errno == ECHILD));
}

TEST_CASE("pidfd: a zombie can be opened, and is readable at once") {
  child_process child(7);
  child.end();
  siginfo_t info{};
  REQUIRE(::waitid(P_PID, id_t(child.pid), &info, WEXITED | WNOWAIT) == 0);
  const keel::unique_fd fd = pidfd_of(child.pid);
  REQUIRE(fd);
  CHECK(readable(fd.get(), 0));
  REQUIRE(::waitpid(child.pid, nullptr, 0) == child.pid);
  CHECK_FALSE(pidfd_of(child.pid));
  CHECK(errno == ESRCH);
}

TEST_CASE("pidfd: a ring's poll hears the end of a process") {
  if (!can_use_rings()) return;
  raw_ring ring(owned);
  child_process child(0);
  const keel::unique_fd fd = pidfd_of(child.pid);
  ring.poll(1, fd.get(), POLLIN);
  CHECK(ring.hear() == "");
  child.end();
  CHECK(ring.hear(1) == "1=1");
  CHECK(::waitpid(child.pid, nullptr, 0) == child.pid);
}

TEST_CASE("pidfd: it is opened with close-on-exec set") {
  const keel::unique_fd fd = pidfd_of(::getpid());
  REQUIRE(fd);
  CHECK((::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC) != 0);
}

TEST_CASE("inotify: a directory can be watched by its descriptor, through /proc/self/fd, even when renamed") {
  const temporary_folder folder;
  const std::string old_name = folder / "old";
  const std::string new_name = folder / "new";
  REQUIRE(::mkdir(old_name.c_str(), 0700) == 0);
  const keel::unique_fd directory(::open(old_name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  REQUIRE(::rename(old_name.c_str(), new_name.c_str()) == 0);
  const keel::unique_fd notify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const std::string path = "/proc/self/fd/" + std::to_string(directory.get());
  const unsigned mask = IN_CREATE | IN_DELETE | IN_DELETE_SELF | IN_ONLYDIR;
  const int watch = ::inotify_add_watch(notify.get(), path.c_str(), mask);
  REQUIRE(watch > 0);
  // The same directory by another name is the same watch.
  CHECK(::inotify_add_watch(notify.get(), new_name.c_str(), mask) == watch);
  CHECK_FALSE(readable(notify.get(), 0));
  REQUIRE(keel::unique_fd(::open((new_name + "/file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600)));
  CHECK(readable(notify.get(), 0));
  alignas(inotify_event) char buffer[512];
  REQUIRE(::read(notify.get(), buffer, sizeof buffer) > 0);
  const auto* event = reinterpret_cast<const inotify_event*>(buffer);
  CHECK(event->wd == watch);
  CHECK(event->mask == IN_CREATE);
  CHECK(std::string_view(event->name) == "file");
}

TEST_CASE("inotify: a file is no directory where only one will do") {
  const temporary_folder folder;
  const keel::unique_fd file(::open(folder.write("file", "").c_str(), O_RDONLY | O_CLOEXEC));
  const keel::unique_fd notify(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  const std::string path = "/proc/self/fd/" + std::to_string(file.get());
  CHECK(::inotify_add_watch(notify.get(), path.c_str(), IN_CREATE | IN_ONLYDIR) == -1);
  CHECK(errno == ENOTDIR);
}

TEST_CASE("I3: fork: memory with MADV_WIPEONFORK is zero in the child, and as it was in the parent") {
  const page wiped;
  if (wiped.advise(MADV_WIPEONFORK) == EINVAL) return skip("no MADV_WIPEONFORK (Linux 4.14)");
  CHECK(in_child([&] { return *wiped.word; }).exit_code == 0);
  CHECK(*wiped.word == 42);
  CHECK(in_child([&] { return in_child([&] { return *wiped.word + 1; }).exit_code; }).exit_code == 1);
}

TEST_CASE("I3: fork: memory with MADV_DONTFORK is not there in the child") {
  if (sanitized) return skip("a sanitizer reports the fault itself");
  const page hidden;
  REQUIRE(hidden.advise(MADV_DONTFORK) == 0);
  CHECK(in_child([&] { return *hidden.word; }).signal == SIGSEGV);
  CHECK(*hidden.word == 42);
}
