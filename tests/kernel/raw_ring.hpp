// A ring without any engine, and the two ways in which keel sets one up: these tests ask the kernel.
//
// What a ring says is compared as text. "1=5 2=ECANCELED": the request with user_data 1 answered 5, number 2
// failed. "1=5+": number 1 has more to say (IORING_CQE_F_MORE). It is sorted by number, because the order
// between requests is nobody's promise.
#pragma once

#include <doctest/doctest.h>

#include <fcntl.h>
#include <liburing.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <map>
#include <string>
#include <vector>

#include "support/skip.hpp"

namespace keel::test {

// A queue of one thread, and a queue of several.
inline constexpr unsigned owned =
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED;
inline constexpr unsigned shared = 0;
inline constexpr unsigned both[] = {owned, shared};

// Newer than liburing 2.3.
inline constexpr std::uint8_t op_read_multishot = 49;  // Linux 6.7
inline constexpr std::uint8_t op_futex_wait = 51;      // Linux 6.7
inline constexpr std::uint8_t op_futex_wake = 52;      // Linux 6.7

inline constexpr unsigned feature_no_iowait = 1u << 17;  // Linux 6.15
inline constexpr unsigned enter_no_iowait = 1u << 7;     // Linux 6.15

inline constexpr long long patience_s = 20;

// Waits for something that another thread or the kernel does by itself.
template <class Condition>
bool until(Condition condition) {
  const std::time_t end = std::time(nullptr) + patience_s;
  while (!condition()) {
    if (std::time(nullptr) > end) return false;
    ::sched_yield();
  }
  return true;
}

// Whether that thread of this process sleeps in the kernel.
inline bool sleeps(pid_t thread) {
  const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
  char buffer[512];
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  const ssize_t n = ::read(file, buffer, sizeof buffer);
  ::close(file);
  const std::string text(buffer, n < 0 ? 0 : std::size_t(n));
  const std::size_t name_end = text.rfind(')');
  return name_end != std::string::npos && text.size() > name_end + 2 && text[name_end + 2] == 'S';
}

class raw_ring {
 public:
  // One that is not enabled belongs to the thread that enables it.
  explicit raw_ring(unsigned flags, unsigned entries = 64, unsigned completions = 0, bool enabled = true) {
    io_uring_params params{};
    params.flags = flags | (completions != 0 ? unsigned{IORING_SETUP_CQSIZE} : 0u);
    params.cq_entries = completions;
    error_ = io_uring_queue_init_params(entries, &ring_, &params);
    if (error_ == 0 && (flags & IORING_SETUP_R_DISABLED) != 0 && enabled) error_ = enable();
  }
  raw_ring(const raw_ring&) = delete;
  raw_ring& operator=(const raw_ring&) = delete;
  ~raw_ring() {
    if (ring_.ring_fd > 0) io_uring_queue_exit(&ring_);
  }

  int error() const { return error_; }
  int fd() const { return ring_.ring_fd; }
  io_uring* raw() { return &ring_; }
  // What liburing 2.3 does not export. Returns 0 or a negative errno.
  int registering(unsigned what, const void* data, unsigned count) const {
    return ::syscall(SYS_io_uring_register, fd(), what, data, count) == 0 ? 0 : -errno;
  }
  int enable() const { return registering(IORING_REGISTER_ENABLE_RINGS, nullptr, 0); }

  // The next entry of the submission queue.
  io_uring_sqe& ask(std::uint64_t number, std::uint8_t opcode, int fd, const void* data = nullptr,
                    std::size_t bytes = 0) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    REQUIRE(sqe != nullptr);
    std::memset(sqe, 0, sizeof *sqe);
    sqe->opcode = opcode;
    sqe->fd = fd;
    sqe->addr = reinterpret_cast<std::uintptr_t>(data);
    sqe->len = static_cast<std::uint32_t>(bytes);
    sqe->user_data = number;
    return *sqe;
  }
  void nop(std::uint64_t number) { ask(number, IORING_OP_NOP, -1); }
  void poll(std::uint64_t number, int fd, unsigned mask, unsigned flags = 0) {
    ask(number, IORING_OP_POLL_ADD, fd, nullptr, flags).poll32_events = mask;
  }
  void poll_multi(std::uint64_t number, int fd, unsigned mask) {
    poll(number, fd, mask, IORING_POLL_ADD_MULTI);
  }
  io_uring_sqe& cancel(std::uint64_t number, std::uint64_t target) {
    io_uring_sqe& sqe = ask(number, IORING_OP_ASYNC_CANCEL, -1);
    sqe.addr = target;
    return sqe;
  }
  void cancel_fd(std::uint64_t number, int fd, unsigned flags = 0) {
    ask(number, IORING_OP_ASYNC_CANCEL, fd).cancel_flags = IORING_ASYNC_CANCEL_FD | flags;
  }

  int submit() { return io_uring_submit(&ring_); }

  // Submits, lets the kernel do what it put off, and waits until there are so many completions.
  int enter(unsigned wait_for = 0) {
    const int submitted = submit();
    if (submitted < 0) return submitted;
    __kernel_timespec limit{patience_s, 0};
    io_uring_getevents_arg argument{};
    argument.sigmask_sz = _NSIG / 8;
    argument.ts = reinterpret_cast<std::uintptr_t>(&limit);
    const unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG;
    const long answer = ::syscall(SYS_io_uring_enter, fd(), 0, wait_for, flags, &argument, sizeof argument);
    return answer < 0 ? -errno : 0;
  }

  // Takes what stands in the completion queue; no system call.
  std::vector<io_uring_cqe> take() {
    std::vector<io_uring_cqe> all;
    io_uring_cqe* cqe = nullptr;
    while (io_uring_cq_ready(&ring_) != 0 && io_uring_peek_cqe(&ring_, &cqe) == 0) {
      all.push_back(*cqe);
      io_uring_cqe_seen(&ring_, cqe);
    }
    return all;
  }

  // Takes everything that there is, after waiting until there is so much.
  std::vector<io_uring_cqe> collect(std::size_t at_least = 0) {
    std::vector<io_uring_cqe> all;
    for (bool more = true; more;) {
      const auto missing = static_cast<unsigned>(at_least > all.size() ? 1 : 0);
      const int entered = enter(missing);
      CHECK_MESSAGE((entered == 0 || entered == -EINTR || entered == -EBUSY), "enter: ", entered);
      const std::vector<io_uring_cqe> some = take();
      all.insert(all.end(), some.begin(), some.end());
      more = !some.empty() || (all.size() < at_least && entered != -ETIME);
    }
    CHECK_MESSAGE(all.size() >= at_least, "the kernel did not answer");
    return all;
  }
  // The same as text.
  std::string hear(std::size_t at_least = 0) {
    std::map<std::uint64_t, std::string> by_number;
    for (const io_uring_cqe& cqe : collect(at_least)) {
      const char* name = cqe.res < 0 ? ::strerrorname_np(-cqe.res) : nullptr;
      by_number[cqe.user_data] += ' ' + std::to_string(cqe.user_data) + '=' +
                                  (name != nullptr ? std::string(name) : std::to_string(cqe.res)) +
                                  ((cqe.flags & IORING_CQE_F_MORE) != 0 ? "+" : "");
    }
    std::string text;
    for (const auto& [number, answers] : by_number) text += answers;
    return text.empty() ? text : text.substr(1);
  }

 private:
  io_uring ring_{};
  int error_ = 0;
};

// Each test case that needs a ring begins with this, and ends at once when the answer is false.
inline bool can_use_rings() {
  static const bool can = raw_ring(owned).error() == 0 && raw_ring(shared).error() == 0;
  if (!can) skip("no io_uring here, or one from before Linux 6.1");
  return can;
}

inline bool can_use_opcode(std::uint8_t opcode) {
  if (!can_use_rings()) return false;
  raw_ring ring(shared);
  std::vector<std::byte> memory(sizeof(io_uring_probe) + 256 * sizeof(io_uring_probe_op));
  auto* probe = reinterpret_cast<io_uring_probe*>(memory.data());
  const bool can =
      io_uring_register_probe(ring.raw(), probe, 256) == 0 && io_uring_opcode_supported(probe, opcode) != 0;
  if (!can) skip("this kernel's io_uring does not have the operation");
  return can;
}

}  // namespace keel::test
