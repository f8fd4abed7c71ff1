#include <keel/runtime/fiber_overflow.hpp>

#include <keel/runtime/fiber.hpp>

#include <sys/mman.h>
#include <unistd.h>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstring>

namespace keel {
namespace detail {
namespace {

constexpr std::size_t signal_stack_bytes = std::size_t(64) << 10;

std::atomic<bool> reporting{false};
struct sigaction before;

// One line, put together without the C library: a signal handler may not ask for more.
class line {
 public:
  line& operator<<(const char* text) noexcept {
    while (*text != 0 && size_ < sizeof text_ - 1) text_[size_++] = *text++;
    return *this;
  }
  line& operator<<(std::uint64_t number) noexcept {
    char digits[24];
    char* first = digits + sizeof digits - 1;
    *first = 0;
    do {
      *--first = static_cast<char>('0' + number % 10);
      number /= 10;
    } while (number != 0);
    return *this << first;
  }
  void write() noexcept {
    text_[size_++] = '\n';
    // There is nothing to be done about a failure.
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, text_, size_);
  }

 private:
  char text_[400];
  std::size_t size_ = 0;
};

void report(const fiber_base& fiber) noexcept {
  const task_node& node = fiber.context().node();
  line said;
  said << "keel: the fiber ";
  if (node.name != nullptr) {
    said << "'" << node.name << "'";
  } else {
    said << "of the unnamed task " << node.id;
  }
  said << " has overflowed its stack of " << fiber.stack().nominal_bytes() / 1024
       << " KiB: give it more with fiber_options, or its large arrays to the heap";
  said.write();
}

void handle(int signal, siginfo_t* info, void* context) {
  const fiber_base* fiber = running_fiber();
  if (fiber != nullptr && fiber->stack().guards(info->si_addr)) report(*fiber);

  if ((before.sa_flags & SA_SIGINFO) != 0 && before.sa_sigaction != nullptr) {
    before.sa_sigaction(signal, info, context);
    return;
  }
  if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(signal);
    return;
  }
  // The faulting instruction runs again, and the process ends where it went wrong. A signal that was sent is
  // not repeated by anything.
  ::sigaction(signal, &before, nullptr);
  if (info->si_code <= 0) ::raise(signal);
}

class signal_stack {
 public:
  signal_stack() noexcept {
    stack_t now{};
    if (::sigaltstack(nullptr, &now) != 0 || (now.ss_flags & SS_DISABLE) == 0) return;
    void* memory = ::mmap(nullptr, signal_stack_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return;
    stack_t mine{};
    mine.ss_sp = memory;
    mine.ss_size = signal_stack_bytes;
    if (::sigaltstack(&mine, nullptr) != 0) {
      ::munmap(memory, signal_stack_bytes);
      return;
    }
    memory_ = memory;
  }
  signal_stack(const signal_stack&) = delete;
  signal_stack& operator=(const signal_stack&) = delete;
  ~signal_stack() {
    if (memory_ == nullptr) return;
    stack_t now{};
    if (::sigaltstack(nullptr, &now) == 0 && now.ss_sp == memory_) {
      stack_t none{};
      none.ss_flags = SS_DISABLE;
      ::sigaltstack(&none, nullptr);
    }
    ::munmap(memory_, signal_stack_bytes);
  }

 private:
  void* memory_ = nullptr;
};

thread_local constinit bool guarded = false;

void make_signal_stack() noexcept {
  static thread_local signal_stack of_this_thread;
  guarded = true;
}

}  // namespace

void guard_this_thread() noexcept {
  if (reporting.load(std::memory_order_relaxed) && !guarded) make_signal_stack();
}

}  // namespace detail

void report_fiber_overflows() noexcept {
  if (detail::reporting.exchange(true)) return;
  struct sigaction mine {};
  mine.sa_sigaction = &detail::handle;
  mine.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigemptyset(&mine.sa_mask);
  ::sigaction(SIGSEGV, &mine, &detail::before);
}

}  // namespace keel
