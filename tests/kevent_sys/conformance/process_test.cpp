#include <doctest/doctest.h>
#include <keel/base/unique_fd.hpp>

#include <sys/syscall.h>
#include <sys/wait.h>
#include <csignal>
#include <vector>

#include "kevent_sys/conformance/kevent_support.hpp"
#include "support/fd_pairs.hpp"

using namespace keel::test;

namespace {

// A child that lives until it is told to end.
class child_process {
 public:
  explicit child_process(int exit_code) {
    fd_pair ends = pipe_pair();
    id_ = ::fork();
    REQUIRE(id_ >= 0);
    if (id_ == 0) {
      ends.theirs.reset();
      char byte = 0;
      (void)!::read(ends.ours.get(), &byte, 1);
      ::_exit(exit_code);
    }
    leash_ = std::move(ends.theirs);
  }
  child_process(const child_process&) = delete;
  child_process& operator=(const child_process&) = delete;
  ~child_process() {
    end();
    reap();
  }

  pid_t id() const { return id_; }
  keel::unique_fd pidfd() const {
    return keel::unique_fd(static_cast<int>(::syscall(SYS_pidfd_open, id_, 0)));
  }
  void end() { leash_.reset(); }
  void kill() const { ::kill(id_, SIGKILL); }
  void wait_until_zombie() const {
    siginfo_t info{};
    ::waitid(P_PID, static_cast<id_t>(id_), &info, WEXITED | WNOWAIT);
  }
  // Its wait status, or -1 when it was reaped before.
  int reap() {
    int status = -1;
    if (reaped_ || ::waitpid(id_, &status, 0) != id_) return -1;
    reaped_ = true;
    return status;
  }

 private:
  pid_t id_ = -1;
  bool reaped_ = false;
  keel::unique_fd leash_;
};

ukevent process_event(pid_t id, std::uint32_t flags = 0) {
  return event_of(KEVENT_PROC, static_cast<std::uint32_t>(id), KEVENT_PROC_EXIT, flags);
}
ukevent pidfd_event(int fd, std::uint32_t flags = 0) {
  ukevent event = event_of(KEVENT_PROC, static_cast<std::uint32_t>(fd), KEVENT_PROC_EXIT, flags);
  event.id.raw[1] = 1;
  return event;
}

}  // namespace

TEST_CASE("PROC: the exit of a child is an event with its wait status, and the child is not reaped") {
  child_process child(7);
  const event_queue queue;
  REQUIRE(queue.add(with_cookie(process_event(child.id()), 42)) == 0);
  CHECK(queue.silent());

  child.end();

  const ukevent got = queue.next();
  CHECK((got.ret_flags & KEVENT_RET_DONE) != 0);
  CHECK(WIFEXITED(static_cast<int>(got.ret_data[0])));
  CHECK(WEXITSTATUS(static_cast<int>(got.ret_data[0])) == 7);
  CHECK(got.user[0] == 42);
  CHECK(got.id.raw[0] == static_cast<std::uint32_t>(child.id()));
  CHECK(child.reap() == static_cast<int>(got.ret_data[0]));
  CHECK(queue.silent());
}

TEST_CASE("PROC: the status of a child that was killed tells the signal") {
  child_process child(0);
  const event_queue queue;
  REQUIRE(queue.add(process_event(child.id(), KEVENT_REQ_ONESHOT)) == 0);
  child.kill();
  const int status = static_cast<int>(queue.next().ret_data[0]);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
}

TEST_CASE("PROC: a pidfd is watched when raw[1] is 1, and stays the caller's") {
  child_process child(3);
  const keel::unique_fd pidfd = child.pidfd();
  REQUIRE(pidfd);
  const event_queue queue;
  REQUIRE(queue.add(pidfd_event(pidfd.get())) == 0);
  child.end();
  const ukevent got = queue.next();
  CHECK(WEXITSTATUS(static_cast<int>(got.ret_data[0])) == 3);
  CHECK(got.id.raw[1] == 1);
  CHECK(queue.remove(pidfd_event(pidfd.get())).ret_flags == done);
  CHECK(::fcntl(pidfd.get(), F_GETFD) != -1);
}

TEST_CASE("PROC: a zombie is ready at ADD") {
  child_process child(9);
  child.end();
  child.wait_until_zombie();
  const event_queue queue;
  const ukevent entry = queue.handed_back(process_event(child.id()));
  CHECK((entry.ret_flags & KEVENT_RET_DONE) != 0);
  CHECK(WEXITSTATUS(static_cast<int>(entry.ret_data[0])) == 9);

  REQUIRE(queue.add(process_event(child.id(), KEVENT_REQ_ALWAYS_QUEUE)) == 0);
  CHECK(WEXITSTATUS(static_cast<int>(queue.next().ret_data[0])) == 9);
  CHECK(WEXITSTATUS(child.reap()) == 9);
}

TEST_CASE("PROC: an unknown process is ESRCH, a bad pidfd EBADF") {
  pid_t gone = 0;
  {
    child_process child(0);
    gone = child.id();
  }
  const event_queue queue;
  const ukevent entry = queue.handed_back(process_event(gone));
  CHECK(entry.ret_flags == done_and_broken);
  CHECK(error_of(entry) == -ESRCH);
  const ukevent bad = queue.handed_back(pidfd_event(1'000'000));
  CHECK(bad.ret_flags == done_and_broken);
  CHECK(error_of(bad) == -EBADF);
}

TEST_CASE("PROC: the exit of a process that is no child of ours is an event with ECHILD") {
  int ends[2] = {-1, -1};
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  fd_pair leash = pipe_pair();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    leash.theirs.reset();
    const pid_t grandchild = ::fork();
    if (grandchild == 0) {
      char byte = 0;
      (void)!::read(leash.ours.get(), &byte, 1);
      ::_exit(5);
    }
    (void)!::write(ends[1], &grandchild, sizeof grandchild);
    int status = 0;
    ::waitpid(grandchild, &status, 0);
    ::_exit(0);
  }
  pid_t grandchild = 0;
  REQUIRE(::read(ends[0], &grandchild, sizeof grandchild) == sizeof grandchild);
  const event_queue queue;
  REQUIRE(queue.add(process_event(grandchild)) == 0);
  leash.theirs.reset();

  const ukevent got = queue.next();
  CHECK((got.ret_flags & KEVENT_RET_DONE) != 0);
  CHECK(error_of(got) == -ECHILD);

  int status = -1;
  CHECK(::waitpid(child, &status, 0) == child);
  for (const int end : ends) ::close(end);
}

TEST_CASE("PROC: of a child that was reaped already the pidfd is an event with ECHILD") {
  child_process child(4);
  const keel::unique_fd pidfd = child.pidfd();
  REQUIRE(pidfd);
  child.end();
  CHECK(WEXITSTATUS(child.reap()) == 4);
  const event_queue queue;
  const ukevent entry = queue.handed_back(pidfd_event(pidfd.get()));
  CHECK((entry.ret_flags & KEVENT_RET_DONE) != 0);
  CHECK(error_of(entry) == -ECHILD);
}

TEST_CASE("PROC: while SIGCHLD is ignored the exit of a child is an event with ECHILD") {
  struct sigaction ignore = {}, before = {};
  ignore.sa_handler = SIG_IGN;
  REQUIRE(::sigaction(SIGCHLD, &ignore, &before) == 0);
  {
    child_process child(4);
    const event_queue queue;
    REQUIRE(queue.add(process_event(child.id())) == 0);
    child.end();
    const ukevent got = queue.next();
    CHECK((got.ret_flags & KEVENT_RET_DONE) != 0);
    CHECK(error_of(got) == -ECHILD);
  }
  ::sigaction(SIGCHLD, &before, nullptr);
}

TEST_CASE("PROC: REMOVE ends the interest, and a process may be watched by several queues") {
  child_process child(1);
  const event_queue a, b, c;
  for (const event_queue* queue : {&a, &b, &c})
    REQUIRE(queue->add(process_event(child.id(), KEVENT_REQ_WAKEUP_ALL)) == 0);
  CHECK(b.remove(process_event(child.id())).ret_flags == done);
  child.end();
  CHECK((a.next().ret_flags & KEVENT_RET_DONE) != 0);
  CHECK((c.next().ret_flags & KEVENT_RET_DONE) != 0);
  CHECK(b.silent());
}

TEST_CASE("decision 6, PROC: a process that ends is told to every listener") {
  child_process child(1);
  const event_queue a, b;
  REQUIRE(a.add(process_event(child.id())) == 0);
  REQUIRE(b.add(process_event(child.id())) == 0);
  child.end();
  CHECK((a.next().ret_flags & KEVENT_RET_DONE) != 0);
  CHECK((b.next().ret_flags & KEVENT_RET_DONE) != 0);
}

TEST_CASE("clarification, readiness: MODIFY of PROC makes nothing ready") {
  child_process child(1);
  const event_queue queue;
  REQUIRE(queue.add(process_event(child.id())) == 0);
  REQUIRE(queue.modify(process_event(child.id(), KEVENT_REQ_ONESHOT)).ret_flags == done);
  CHECK(queue.silent(5));
  child.end();
  CHECK((queue.next().ret_flags & KEVENT_RET_DONE) != 0);
}
