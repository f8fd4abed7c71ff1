// Child processes.
#pragma once

#include <keel/base/unique_fd.hpp>
#include <keel/runtime/command.hpp>
#include <keel/runtime/exit_status.hpp>
#include <keel/runtime/operation_awaiter.hpp>
#include <keel/runtime/pipe.hpp>
#include <keel/runtime/time.hpp>

#include <cstdint>

namespace keel {

template <class T>
class task;

// What stands behind the standard input, output or error of a child. A value.
class stdio {
 public:
  enum class kind : std::uint8_t { inherit, null, pipe, descriptor, output };

  static constexpr stdio inherit() noexcept { return {kind::inherit, -1}; }  // as this process
  static constexpr stdio null() noexcept { return {kind::null, -1}; }        // /dev/null
  static constexpr stdio pipe() noexcept { return {kind::pipe, -1}; }        // see process::stdin_pipe() etc.
  // Open until spawn() has returned.
  static constexpr stdio to(borrowed_fd fd) noexcept { return {kind::descriptor, fd.get()}; }
  // Of `err`: the same as `out`.
  static constexpr stdio as_output() noexcept { return {kind::output, -1}; }

  constexpr kind what() const noexcept { return what_; }
  constexpr int fd() const noexcept { return fd_; }

 private:
  constexpr stdio(kind what, int fd) noexcept : what_(what), fd_(fd) {}
  kind what_;
  int fd_;
};

// Whom signals for groups reach, the terminal's Ctrl-C for one.
enum class process_group : std::uint8_t {
  own,      // the child and its descendants are a group; it cannot read from the terminal
  same,     // they belong to the group of this process
  session,  // a group in a session of its own, without a terminal
};

// What becomes of a child whose `process` goes before it has ended. Its group is meant where it has its own.
enum class drop_policy : std::uint8_t {
  kill,       // SIGKILL
  terminate,  // SIGTERM, and SIGKILL after `grace`
  detach,     // it lives on
};

struct process_options {
  stdio in = stdio::null();
  stdio out = stdio::inherit();
  stdio err = stdio::inherit();
  process_group group = process_group::own;
  // Beyond 0, 1 and 2 it has no descriptor; else it has those that are not close-on-exec: none of keel's.
  bool close_others = true;
  drop_policy on_drop = drop_policy::kill;
  duration grace = std::chrono::seconds(5);
};

struct process_run_options {
  std::string_view input = {};               // lives until run() has ended
  duration timeout = duration::max();        // then SIGTERM to the group
  duration grace = std::chrono::seconds(2);  // after SIGTERM, then SIGKILL
  std::size_t output_max = 64u << 20;        // bytes of each output: with more it is killed
  stdio err = stdio::pipe();
};

// What run() collected. A value.
struct process_output {
  process_output() = default;

  exit_status status = exit_status::exited_with(0);
  // timed_out, or no_buffer_space for too much output: then it was killed, and what came before is here.
  std::error_code cut_short;
  std::string out;
  std::string err;

  // Ended by itself, with exit code 0.
  bool success() const noexcept { return !cut_short && status.success(); }
};

// A child process. A resource; movable while nobody waits. No SIGCHLD handler is involved; whoever in this
// process reaps all children, or ignores SIGCHLD, takes its status away on kernels before 6.15.
//
// Life cycle: spawn() -> runs -> ended, and reaped by wait() -> destroyed. Destroyed before that it is dealt
// with by its drop_policy, and reaped: in the background of the scheduler, or at once where none runs.
// INVARIANT: no zombie and no descriptor is left, but of a detached child when the runtime ends before it.
// Thread safety: one scheduler at a time.
class process {
 public:
  // Starts `what`. In the child no signal is blocked, ignored or handled. Returns when the program runs or
  // has failed to: some 100 us in which this thread does nothing else, however large this process is.
  //
  // Errors: those of the attempt, whose text names the program and the way out: ENOENT, EACCES, ENOEXEC,
  //         E2BIG, EMFILE, EAGAIN (too many processes), EINVAL (a word with a zero inside); not_supported on
  //         a simulated scheduler.
  // Throws: std::bad_alloc.
  static result<process> spawn(const command& what, const process_options& options = process_options());

  // Runs `what` to its end: gives it the input, and collects what it says meanwhile. It has a group of its
  // own.
  //
  // Errors:    those of spawn(); operation_canceled. Neither its exit code nor a timeout is one: see
  //            process_output.
  // Cancelled: its group is killed; its end is awaited.
  // Lifetime:  options.input must live until the co_await returns.
  // Throws:    std::bad_alloc.
  static task<result<process_output>> run(command what, process_run_options options = process_run_options());

  process(process&& other) noexcept;
  process& operator=(process&& other) noexcept;
  ~process();

  class wait_op;

  // Waits for its end; how it ended. May be asked again.
  //
  // Errors:    ECHILD when somebody else has reaped it (see above); not_supported on a simulated scheduler;
  //            operation_canceled.
  // Cancelled: at once; the status is kept for the next wait.
  // Lifetime:  *this must neither move nor go until the co_await returns.
  // REQUIRES:  nobody else waits.
  [[nodiscard]] wait_op wait() noexcept;

  // How it ended; null while it runs, or when wait() says ECHILD. A quick system call.
  const exit_status* ended() noexcept;

  // Sends a signal to it, or to its whole group. A pid that was given to somebody else meanwhile is not hit.
  // Without a group of its own, the second one does what the first does.
  //
  // Errors: ESRCH when there is nobody any more; EPERM, EINVAL.
  result<void> kill(int signal = 9) noexcept;
  result<void> kill_group(int signal = 9) noexcept;
  // SIGTERM.
  result<void> terminate_group() noexcept;

  int pid() const noexcept { return pid_; }

  // REQUIRES: that stream was made with stdio::pipe()
  pipe_writer& stdin_pipe() noexcept { return asked_for(in_, 0); }
  pipe_reader& stdout_pipe() noexcept { return asked_for(out_, 1); }
  pipe_reader& stderr_pipe() noexcept { return asked_for(err_, 2); }

 private:
  enum class life : std::uint8_t {
    running,
    ended,  // reaped; status_ says how
    lost,   // reaped by somebody else
  };

  process() noexcept = default;
  template <class End>
  End& asked_for(End& end, int number) noexcept {
    KEEL_ASSERT(is_pipe_[number], "this stream of the child is no pipe: spawn it with stdio::pipe()");
    return end;
  }
  void look(bool may_block) noexcept;
  void let_go() noexcept;
  static task<void> end_in_background(process left);
  wait_op wait_to_the_end() noexcept;

  int pid_ = -1;
  unique_fd pidfd_;
  pipe_writer in_;
  pipe_reader out_;
  pipe_reader err_;
  bool is_pipe_[3] = {};
  io_direction waiting_;
  duration grace_{0};
  bool own_group_ = false;
  drop_policy on_drop_ = drop_policy::kill;
  life life_ = life::running;
  exit_status status_ = exit_status::exited_with(0);

  friend class process_session;
};

class process::wait_op : public operation_awaiter {
 public:
  explicit wait_op(process& of) noexcept;
  std::coroutine_handle<> start(waiter& up, stop_context& context) noexcept;
  result<exit_status> take() noexcept;

 private:
  friend class process;
  static bool look(operation_awaiter& self) noexcept;

  process& of_;
  bool simulated_ = false;
};

}  // namespace keel
