#include <keel/runtime/process.hpp>

#include <keel/runtime/spawn.hpp>
#include <keel/runtime/with_timeout.hpp>

#include "process_launch.hpp"
#include "simulated.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>

namespace keel {
namespace {

// With pidfd_send_signal(2), since Linux 6.9: everybody in the group that the process leads or has led.
constexpr unsigned signal_process_group = 1u << 2;

// Of ioctl_pidfd(2), since Linux 6.15: how a process ended that was reaped already.
struct pidfd_information {
  std::uint64_t mask;
  std::uint64_t others[6];
  std::uint32_t last_id;
  std::int32_t exit_code;
};
static_assert(sizeof(pidfd_information) == 64);
constexpr std::uint64_t information_exit = 1u << 3;
constexpr unsigned long get_information = _IOWR(0xff, 11, pidfd_information);

result<void> answer_of(long value, const char* doing) noexcept {
  if (value < 0) return failure(kernel_error(errno), doing);
  return {};
}

struct streams {
  unique_fd ours[3];
  unique_fd theirs[3];
  int descriptors[3];
};

// False, and errno, when no descriptor is left.
bool open_stream(streams& all, int number, stdio how) noexcept {
  const auto at = static_cast<unsigned>(number);
  switch (how.what()) {
    case stdio::kind::inherit: all.descriptors[at] = launch_request::inherited; return true;
    case stdio::kind::output: all.descriptors[at] = launch_request::as_output; return true;
    case stdio::kind::descriptor: all.descriptors[at] = how.fd(); return true;
    case stdio::kind::null:
      all.theirs[at] = unique_fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
      if (!all.theirs[at]) return false;
      break;
    case stdio::kind::pipe: {
      int ends[2] = {-1, -1};
      if (::pipe2(ends, O_CLOEXEC) != 0) return false;
      all.ours[at] = unique_fd(ends[number == 0 ? 1 : 0]);
      all.theirs[at] = unique_fd(ends[number == 0 ? 0 : 1]);
      break;
    }
  }
  all.descriptors[at] = all.theirs[at].get();
  return true;
}

}  // namespace

result<process> process::spawn(const command& what, const process_options& options) {
  KEEL_ASSERT(options.in.what() != stdio::kind::output && options.out.what() != stdio::kind::output,
              "as_output() is for err");
  const scheduler* here = scheduler::current();
  if (here != nullptr && is_simulated(*here))
    return cannot_spawn(what, errc::not_supported, "a simulated world has no processes");
  streams all;
  const stdio wanted[3] = {options.in, options.out, options.err};
  for (int i = 0; i < 3; ++i) {
    if (!open_stream(all, i, wanted[i]))
      return cannot_spawn(what, kernel_error(errno), "no descriptor is left for its streams: see ulimit -n");
  }
  auto child = launch({.what = what,
                       .descriptors = {all.descriptors[0], all.descriptors[1], all.descriptors[2]},
                       .group = options.group,
                       .close_others = options.close_others});
  if (!child) return child.why();
  process made;
  made.pid_ = child->pid;
  made.pidfd_ = std::move(child->pidfd);
  for (int i = 0; i < 3; ++i) made.is_pipe_[i] = bool(all.ours[i]);
  made.in_ = pipe_writer(std::move(all.ours[0]));
  made.out_ = pipe_reader(std::move(all.ours[1]));
  made.err_ = pipe_reader(std::move(all.ours[2]));
  made.own_group_ = options.group != process_group::same;
  made.on_drop_ = options.on_drop;
  made.grace_ = options.grace;
  return made;
}

process::process(process&& other) noexcept
    : pid_(other.pid_),
      pidfd_(std::move(other.pidfd_)),
      in_(std::move(other.in_)),
      out_(std::move(other.out_)),
      err_(std::move(other.err_)),
      is_pipe_{other.is_pipe_[0], other.is_pipe_[1], other.is_pipe_[2]},
      grace_(other.grace_),
      own_group_(other.own_group_),
      on_drop_(other.on_drop_),
      life_(other.life_),
      status_(other.status_) {
  KEEL_ASSERT(other.waiting_.busy == nullptr, "a process was moved while somebody waits for it");
}

process& process::operator=(process&& other) noexcept {
  if (this == &other) return *this;
  this->~process();
  return *::new (this) process(std::move(other));
}

process::~process() {
  KEEL_ASSERT(waiting_.busy == nullptr, "a process was destroyed while somebody waits for it");
  if (!pidfd_) return;
  let_go();
  pidfd_.reset();
  if (scheduler* here = scheduler::current()) here->note_descriptor_freed();
}

// Sees to it that it is reaped.
void process::let_go() noexcept {
  in_ = pipe_writer();
  out_ = pipe_reader();
  err_ = pipe_reader();
  look(false);
  if (life_ != life::running) return;
  if (on_drop_ == drop_policy::kill) static_cast<void>(kill_group(SIGKILL));
  if (on_drop_ == drop_policy::terminate) static_cast<void>(kill_group(SIGTERM));
  if (scheduler* here = scheduler::current()) {
    try {
      detail::spawn_into(here->background(), &end_in_background, std::move(*this));
      return;
    } catch (const std::bad_alloc&) {
      // It is done here, then, if it is not done already.
      if (!pidfd_) return;
    }
  }
  if (on_drop_ == drop_policy::detach) return;
  static_cast<void>(kill_group(SIGKILL));
  look(true);
}

task<void> process::end_in_background(process left) {
  const duration patience = left.on_drop_ == drop_policy::terminate ? left.grace_ : duration::max();
  const auto ended = co_await with_timeout(patience, left.wait());
  if (ended || left.life_ != life::running) co_return;
  if (left.on_drop_ == drop_policy::detach) {
    // The runtime ends, and the child does not.
    left.pidfd_.reset();
    co_return;
  }
  static_cast<void>(left.kill_group(SIGKILL));
  const auto killed = co_await left.wait_to_the_end();
  static_cast<void>(killed);
}

// Learns whether it has ended, and reaps it.
void process::look(bool may_block) noexcept {
  if (life_ != life::running || !pidfd_) return;
  siginfo_t info{};
  const auto id = static_cast<id_t>(pidfd_.get());
  int answer = 0;
  do {
    answer = ::waitid(P_PIDFD, id, &info, may_block ? WEXITED : WEXITED | WNOHANG);
  } while (answer != 0 && errno == EINTR);
  if (answer == 0) {
    if (info.si_pid == 0) return;
    life_ = life::ended;
    status_ = info.si_code == CLD_EXITED ? exit_status::exited_with(info.si_status)
                                         : exit_status::killed_by(info.si_status, info.si_code == CLD_DUMPED);
    return;
  }
  // SIGCHLD is ignored, or somebody waits for all children. The kernel may still know.
  pollfd gone{pidfd_.get(), POLLIN, 0};
  if (::poll(&gone, 1, may_block ? -1 : 0) != 1) return;
  pidfd_information known{};
  known.mask = information_exit;
  const bool told =
      ::ioctl(pidfd_.get(), get_information, &known) == 0 && (known.mask & information_exit) != 0;
  life_ = told ? life::ended : life::lost;
  if (told) status_ = exit_status::from_wait(known.exit_code);
}

const exit_status* process::ended() noexcept {
  look(false);
  return life_ == life::ended ? &status_ : nullptr;
}

result<void> process::kill(int signal) noexcept {
  return answer_of(::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, 0), "kill a process");
}

result<void> process::kill_group(int signal) noexcept {
  if (!own_group_) return kill(signal);
  constexpr const char* doing = "kill a group of processes";
  const long answer = ::syscall(SYS_pidfd_send_signal, pidfd_.get(), signal, nullptr, signal_process_group);
  if (answer == 0 || errno != EINVAL) return answer_of(answer, doing);
  // An older kernel, or no signal. Until it is reaped, the number is that of its group.
  siginfo_t info{};
  if (::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG | WNOWAIT) != 0)
    return failure(kernel_error(ESRCH), doing);
  return answer_of(::kill(-pid_, signal), doing);
}

result<void> process::terminate_group() noexcept {
  return kill_group(SIGTERM);
}

process::wait_op process::wait() noexcept {
  return wait_op(*this);
}

process::wait_op process::wait_to_the_end() noexcept {
  wait_op op(*this);
  op.never_stop();
  return op;
}

process::wait_op::wait_op(process& of) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::poll, .fd = of.pidfd_.get(), .flags = POLLIN}), of_(of) {
  occupy(of.waiting_);
  steps_with(&look);
}

std::coroutine_handle<> process::wait_op::start(waiter& up, stop_context& context) noexcept {
  of_.look(false);
  simulated_ = is_simulated(context.home());
  if (of_.life_ != life::running || simulated_) answer_now(0);
  return operation_awaiter::start(up, context);
}

bool process::wait_op::look(operation_awaiter& self) noexcept {
  auto& me = static_cast<wait_op&>(self);
  me.of_.look(false);
  // A debugger that has it sees its end first.
  return me.value() >= 0 && me.of_.life_ == life::running;
}

result<exit_status> process::wait_op::take() noexcept {
  constexpr const char* doing = "wait for a process";
  switch (of_.life_) {
    case life::ended: return of_.status_;
    case life::lost:
      return failure(kernel_error(ECHILD),
                     "wait for a process (SIGCHLD is ignored, or somebody reaps all children)");
    case life::running: break;
  }
  if (simulated_) return failure(errc::not_supported, doing);
  return failure(kernel_error(value()), doing);
}

}  // namespace keel
