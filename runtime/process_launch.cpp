// clone(CLONE_VM | CLONE_VFORK | CLONE_PIDFD): no copy of this process's memory, whose cost would grow with
// it; a descriptor of the child that can never be somebody else's; and an error that says which step it was.
// posix_spawn has neither of the last two. The child runs on memory of its parent, which waits: it makes
// nothing but system calls, and by syscall(), which no sanitizer intercepts.

#include "process_launch.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <vector>

#if defined(__SANITIZE_THREAD__)
#define KEEL_THREAD_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KEEL_THREAD_SANITIZER 1
#endif
#endif

#if defined(__clang__)
#define KEEL_UNINSTRUMENTED __attribute__((disable_sanitizer_instrumentation))
#else
#define KEEL_UNINSTRUMENTED __attribute__((no_sanitize("address", "thread", "undefined")))
#endif

namespace keel {
namespace {

constexpr unsigned first_free_fd = 3;
constexpr int signal_max = 64;
constexpr unsigned close_range_cloexec = 1u << 2;
constexpr std::size_t signal_set_bytes = 8;

enum class step : int { none, group, folder, descriptors, program };

// What the child needs, made by its parent; and what it has to say.
struct child_plan {
  int descriptors[3];
  process_group group;
  bool close_others;
  const char* folder;
  const char* const* candidates;  // paths of the program, null at the end
  char* const* arguments;
  char* const* environment;
  step failed = step::none;
  int error = 0;
};

// As struct sigaction is for the kernel: SIG_DFL and no flags, on every machine.
struct kernel_action {
  unsigned long words[5];
};

KEEL_UNINSTRUMENTED bool failed(child_plan& plan, step at) noexcept {
  plan.failed = at;
  plan.error = errno;
  return false;
}

KEEL_UNINSTRUMENTED void reset_signals() noexcept {
  const kernel_action by_default = {};
  for (int signal = 1; signal <= signal_max; ++signal)
    ::syscall(SYS_rt_sigaction, signal, &by_default, nullptr, signal_set_bytes);
  const unsigned long none = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, nullptr, signal_set_bytes);
}

KEEL_UNINSTRUMENTED bool arrange_descriptors(child_plan& plan) noexcept {
  int(&from)[3] = plan.descriptors;
  if (from[2] == launch_request::as_output) from[2] = from[1] >= 0 ? from[1] : 1;
  // One that stands where another is to be put goes out of the way first.
  for (int i = 0; i < 3; ++i) {
    if (from[i] < 0 || from[i] == i || from[i] > 2) continue;
    from[i] = static_cast<int>(::syscall(SYS_fcntl, from[i], F_DUPFD_CLOEXEC, first_free_fd));
    if (from[i] < 0) return failed(plan, step::descriptors);
  }
  for (int i = 0; i < 3; ++i) {
    if (from[i] < 0) continue;
    const long answer =
        from[i] == i ? ::syscall(SYS_fcntl, i, F_SETFD, 0) : ::syscall(SYS_dup3, from[i], i, 0);
    if (answer < 0) return failed(plan, step::descriptors);
  }
  // Not closed but marked: the program itself may be one of them (/proc/self/fd/7).
  if (plan.close_others) ::syscall(SYS_close_range, first_free_fd, ~0u, close_range_cloexec);
  return true;
}

KEEL_UNINSTRUMENTED bool execute(child_plan& plan) noexcept {
  bool forbidden = false;
  errno = ENOENT;
  for (const char* const* path = plan.candidates; *path != nullptr; ++path) {
    ::syscall(SYS_execve, *path, plan.arguments, plan.environment);
    if (errno == EACCES) {
      forbidden = true;
    } else if (errno != ENOENT && errno != ENOTDIR && errno != ENODEV && errno != ESTALE) {
      return failed(plan, step::program);
    }
  }
  if (forbidden) errno = EACCES;
  return failed(plan, step::program);
}

KEEL_UNINSTRUMENTED bool become(child_plan& plan) noexcept {
  if (plan.group == process_group::own && ::syscall(SYS_setpgid, 0, 0) != 0) return failed(plan, step::group);
  if (plan.group == process_group::session && ::syscall(SYS_setsid) < 0) return failed(plan, step::group);
  if (plan.folder != nullptr && ::syscall(SYS_chdir, plan.folder) != 0) return failed(plan, step::folder);
  if (!arrange_descriptors(plan)) return false;
  // No handler of the parent's is left when the mask opens.
  reset_signals();
  return execute(plan);
}

KEEL_UNINSTRUMENTED int run_child(void* plan) noexcept {
  become(*static_cast<child_plan*>(plan));
  for (;;) ::syscall(SYS_exit_group, 127);
}

// The plan, and the child's stack behind it.
class child_memory {
 public:
  child_memory() {
    // Shared: without CLONE_VM the parent has to see what the child says, too.
    at_ = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at_ == MAP_FAILED) throw std::bad_alloc();
  }
  child_memory(const child_memory&) = delete;
  child_memory& operator=(const child_memory&) = delete;
  ~child_memory() { ::munmap(at_, bytes); }

  child_plan& plan(const child_plan& initial) noexcept { return *::new (at_) child_plan(initial); }
  void* stack_top() const noexcept { return static_cast<char*>(at_) + bytes; }

 private:
  static constexpr std::size_t bytes = 64 * 1024;
  void* at_;
};

// Gives a pid, or a negative errno.
int start_child([[maybe_unused]] child_memory& memory, child_plan& plan, int& pidfd) noexcept {
  // A signal that reaches the child meanwhile must not run our handlers in it.
  const unsigned long all = ~0ul;
  unsigned long before = 0;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, signal_set_bytes);
#if defined(KEEL_THREAD_SANITIZER)
  // Its interceptor of clone() takes every child for a copy: it gets one.
  const auto pid =
      static_cast<int>(::syscall(SYS_clone, CLONE_PIDFD | CLONE_VFORK | SIGCHLD, nullptr, &pidfd, 0, 0));
  if (pid == 0) run_child(&plan);
#else
  constexpr int flags = CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD;
  const int pid = ::clone(&run_child, memory.stack_top(), flags, &plan, &pidfd);
#endif
  const int error = errno;
  ::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, nullptr, signal_set_bytes);
  return pid < 0 ? -error : pid;
}

// Where to look for it, each path with a zero behind it.
std::string candidates_of(std::string_view program) {
  std::string all;
  if (program.empty()) return all;
  if (program.find('/') != std::string_view::npos) return (all += program) += '\0';
  const char* path = ::getenv("PATH");
  std::string_view left = path != nullptr ? path : "/usr/local/bin:/usr/bin:/bin";
  for (;;) {
    const std::string_view folder = left.substr(0, left.find(':'));
    all += folder.empty() ? "." : folder;
    ((all += '/') += program) += '\0';
    if (folder.size() == left.size()) return all;
    left.remove_prefix(folder.size() + 1);
  }
}

// To each text in `packed`, and a null behind them.
std::vector<char*> pointers_into(std::string& packed) {
  std::vector<char*> all;
  char* const end = packed.data() + packed.size();
  for (char* at = packed.data(); at != end; at += std::strlen(at) + 1) all.push_back(at);
  all.push_back(nullptr);
  return all;
}

const char* hint_of(const child_plan& plan, std::string_view program) noexcept {
  switch (plan.failed) {
    case step::group: return "it cannot have a group of its own";
    case step::folder: return "its folder cannot be entered";
    case step::descriptors: return "its descriptors cannot be arranged: see ulimit -n";
    case step::program:
    case step::none: break;
  }
  switch (plan.error) {
    case ENOENT:
    case ENOTDIR:
      return program.find('/') == std::string_view::npos
                 ? "no folder of PATH has it: install it, or give its path"
                 : "there is no such file, or not the interpreter that its first line names";
    case EACCES: return "it may not be executed: see its permissions (chmod +x) and noexec mounts";
    case ENOEXEC: return "not a program of this machine; a script begins with #! and its interpreter";
    case E2BIG: return "its arguments and environment are too long";
    default: return nullptr;
  }
}

const char* hint_of_refusal(int error) noexcept {
  switch (error) {
    case EMFILE:
    case ENFILE: return "no descriptor is left for it: see ulimit -n";
    case EAGAIN:
    case ENOMEM: return "no room for another process: see ulimit -u and the limits of the container";
    default: return nullptr;
  }
}

void reap(const unique_fd& pidfd) noexcept {
  siginfo_t info{};
  while (::waitid(P_PIDFD, static_cast<id_t>(pidfd.get()), &info, WEXITED) != 0 && errno == EINTR) continue;
}

// Texts of failures: a failure is a value of two words, and may be kept for ever. There are as many as there
// are programs that cannot be started; a program that makes up names gets the last one.
constexpr std::size_t kept_max = 256;
constinit std::mutex kept_lock;
constinit const char* kept[kept_max] = {};

const char* keep(const std::string& text) {
  const std::lock_guard lock(kept_lock);
  for (const char*& each : kept) {
    if (each == nullptr) {
      char* copy = new char[text.size() + 1];
      std::memcpy(copy, text.c_str(), text.size() + 1);
      each = copy;
    }
    if (text == each) return each;
  }
  return "spawn a process";
}

}  // namespace

failure cannot_spawn(const command& what, std::error_code why, const char* hint) noexcept {
  constexpr std::size_t shown_max = 200;
  try {
    std::string text = "spawn '" + std::string(what.program().substr(0, shown_max)) + "'";
    if (!what.folder().empty()) text += " in '" + what.folder().substr(0, shown_max) + "'";
    if (hint != nullptr) text += std::string(" (") + hint + ")";
    return failure(why, keep(text));
  } catch (const std::bad_alloc&) {
    return failure(why, "spawn a process");
  }
}

result<launched> launch(const launch_request& asked) {
  if (asked.what.has_zero_inside())
    return cannot_spawn(asked.what, kernel_error(EINVAL), "a word has a zero byte inside");
  std::string words = asked.what.words();
  std::string environment = asked.what.environment();
  std::string candidates = candidates_of(asked.what.program());
  const std::vector<char*> arguments = pointers_into(words);
  const std::vector<char*> variables = pointers_into(environment);
  const std::vector<char*> paths = pointers_into(candidates);

  child_memory memory;
  child_plan& plan =
      memory.plan({.descriptors = {asked.descriptors[0], asked.descriptors[1], asked.descriptors[2]},
                   .group = asked.group,
                   .close_others = asked.close_others,
                   .folder = asked.what.folder().empty() ? nullptr : asked.what.folder().c_str(),
                   .candidates = paths.data(),
                   .arguments = arguments.data(),
                   .environment = variables.data()});
  int pidfd = -1;
  const int pid = start_child(memory, plan, pidfd);
  if (pid < 0) {
    return cannot_spawn(asked.what, kernel_error(pid), hint_of_refusal(-pid));
  }
  launched child{pid, unique_fd(pidfd)};
  if (plan.failed == step::none) return child;
  reap(child.pidfd);
  return cannot_spawn(asked.what, kernel_error(plan.error), hint_of(plan, asked.what.program()));
}

}  // namespace keel
