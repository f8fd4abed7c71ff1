#include "uring_trial.hpp"

#include <keel/base/unique_fd.hpp>

#include "refusal.hpp"
#include "uring_constants.hpp"
#include "uring_ring.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace keel::kevent_sys {
namespace {

struct named_bit {
  std::uint32_t bit;
  const char* name;
};

constexpr named_bit setup_flag_names[] = {
    {IORING_SETUP_SINGLE_ISSUER, "SINGLE_ISSUER"},
    {IORING_SETUP_DEFER_TASKRUN, "DEFER_TASKRUN"},
    {IORING_SETUP_COOP_TASKRUN, "COOP_TASKRUN"},
    {IORING_SETUP_TASKRUN_FLAG, "TASKRUN_FLAG"},
    {IORING_SETUP_SUBMIT_ALL, "SUBMIT_ALL"},
    {IORING_SETUP_R_DISABLED, "R_DISABLED"},
    {IORING_SETUP_CQSIZE, "CQSIZE"},
};

constexpr named_bit feature_names[] = {
    {IORING_FEAT_SINGLE_MMAP, "SINGLE_MMAP"},
    {IORING_FEAT_NODROP, "NODROP"},
    {IORING_FEAT_SUBMIT_STABLE, "SUBMIT_STABLE"},
    {IORING_FEAT_RW_CUR_POS, "RW_CUR_POS"},
    {IORING_FEAT_CUR_PERSONALITY, "CUR_PERSONALITY"},
    {IORING_FEAT_FAST_POLL, "FAST_POLL"},
    {IORING_FEAT_POLL_32BITS, "POLL_32BITS"},
    {IORING_FEAT_SQPOLL_NONFIXED, "SQPOLL_NONFIXED"},
    {IORING_FEAT_EXT_ARG, "EXT_ARG"},
    {IORING_FEAT_NATIVE_WORKERS, "NATIVE_WORKERS"},
    {IORING_FEAT_RSRC_TAGS, "RSRC_TAGS"},
    {IORING_FEAT_CQE_SKIP, "CQE_SKIP"},
    {IORING_FEAT_LINKED_FILE, "LINKED_FILE"},
    {feature_no_iowait, "NO_IOWAIT"},
};

struct used_opcode {
  std::uint8_t code;
  const char* name;
  const char* without;
};

constexpr const char* needed = "keel cannot use io_uring: it waits with epoll";

constexpr used_opcode used_opcodes[] = {
    {IORING_OP_NOP, "NOP", needed},
    {IORING_OP_POLL_ADD, "POLL_ADD", needed},
    {IORING_OP_ASYNC_CANCEL, "ASYNC_CANCEL", needed},
    {IORING_OP_ACCEPT, "ACCEPT", needed},
    {IORING_OP_CONNECT, "CONNECT", needed},
    {IORING_OP_RECV, "RECV", needed},
    {IORING_OP_SEND, "SEND", needed},
    {IORING_OP_OPENAT, "OPENAT", needed},
    {IORING_OP_READ, "READ", needed},
    {IORING_OP_WRITE, "WRITE", needed},
    {IORING_OP_CLOSE, "CLOSE", needed},
    {IORING_OP_TIMEOUT, "TIMEOUT", "a host loop is not woken for the timers of a queue of several threads"},
    {IORING_OP_TIMEOUT_REMOVE, "TIMEOUT_REMOVE", "the same, when a timer is moved forward"},
    {op_read_multishot, "READ_MULTISHOT", "pipes are read by two system calls per chunk"},
    {op_futex_wait, "FUTEX_WAIT", "waiting for a futex is not supported"},
};
static_assert(std::size(used_opcodes) <= uring_report::requests_max);

template <std::size_t N>
void print_bits(char* text, std::size_t size, std::uint32_t bits, const named_bit (&names)[N]) noexcept {
  std::size_t length = 0;
  for (const named_bit& one : names) {
    if ((bits & one.bit) == 0 || length + std::strlen(one.name) + 2 > size) continue;
    if (length != 0) text[length++] = ' ';
    std::strcpy(text + length, one.name);
    length += std::strlen(one.name);
  }
}

trial answered(int answer) noexcept {
  return {.made = true, .error_number = answer < 0 ? -answer : 0};
}

// Two pages: the ring of buffers, and what they hold.
class pages {
 public:
  pages() noexcept {
    void* got = ::mmap(nullptr, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (got != MAP_FAILED) start_ = static_cast<std::byte*>(got);
  }
  pages(const pages&) = delete;
  pages& operator=(const pages&) = delete;
  ~pages() {
    if (start_ != nullptr) ::munmap(start_, 2 * size);
  }

  io_uring_buf_ring* ring() const noexcept { return reinterpret_cast<io_uring_buf_ring*>(start_); }
  std::byte* bytes() const noexcept { return start_ + size; }

 private:
  static constexpr std::size_t size = 4096;
  std::byte* start_ = nullptr;
};

// A ring, and memory that outlives all that the kernel does with it.
class trial_ring {
 public:
  void run(uring_report& report) noexcept {
    if (const auto opened = ring_.open({}); !opened) {
      report.setup = {.made = true, .error_number = errno_of(opened.error())};
      return;
    }
    report.setup = answered(0);
    report.entries = ring_.entries();
    report.completions = ring_.raw()->cq.ring_entries;
    print_bits(report.setup_flags, sizeof report.setup_flags, ring_.setup_flags(), setup_flag_names);
    print_bits(report.features, sizeof report.features, ring_.raw()->features, feature_names);
    report.registering = try_register(report);
    if (!report.registering.passed()) {
      // A ring that is not enabled answers EBADFD: anything else comes from a filter in front of it.
      const long entered = ::syscall(SYS_io_uring_enter, ring_.fd(), 0, 0, 0, nullptr, 0);
      report.enter = answered(entered < 0 && errno != EBADFD ? -errno : 0);
      return;
    }
    next(IORING_OP_NOP, -1);
    report.enter = answered(round_trip());
    if (!report.enter.passed()) return;
    report.multishot_accept = try_accept();
    report.provided_buffers = offer_buffers();
    if (!report.provided_buffers.passed()) return;
    report.multishot_receive = try_receive();
    report.multishot_read = try_read();
  }

 private:
  static constexpr unsigned buffers = 4;
  static constexpr unsigned buffer_bytes = 64;
  static constexpr std::uint16_t group = 1;

  trial try_register(uring_report& report) noexcept {
    constexpr unsigned operations_max = 256;
    constexpr std::size_t bytes = sizeof(io_uring_probe) + operations_max * sizeof(io_uring_probe_op);
    alignas(io_uring_probe) std::byte memory[bytes]{};
    auto* table = reinterpret_cast<io_uring_probe*>(memory);
    const int refused = io_uring_register_probe(ring_.raw(), table, operations_max);
    if (refused < 0) return answered(refused);
    for (const used_opcode& one : used_opcodes)
      report.requests[report.request_count++] = {
          .name = one.name, .known = io_uring_opcode_supported(table, one.code) != 0, .without = one.without};
    const auto enabled = ring_.enable();
    return answered(enabled ? 0 : -errno_of(enabled.error()));
  }

  io_uring_sqe& next(std::uint8_t code, int fd) noexcept {
    io_uring_sqe& sqe = *ring_.next_sqe();
    sqe.opcode = code;
    sqe.fd = fd;
    return sqe;
  }

  // Hands over what was filled in, and gives what the first completion says, or the error of the call.
  int round_trip() noexcept {
    const int error = ring_.enter(1, 1'000'000'000);
    if (error != 0) return error;
    const io_uring_cqe* cqe = ring_.peek();
    if (cqe == nullptr) return -ETIME;
    const int answer = cqe->res;
    more_ = (cqe->flags & IORING_CQE_F_MORE) != 0;
    ring_.seen();
    return answer;
  }

  // What succeeds once and then ends is no multishot request.
  trial multishot() noexcept {
    const int answer = round_trip();
    return answered(answer >= 0 && !more_ ? -EOPNOTSUPP : answer);
  }

  trial try_accept() noexcept {
    const unique_fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const unique_fd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    // An empty name: the kernel finds a free abstract one.
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    socklen_t size = sizeof(sa_family_t);
    auto* address = reinterpret_cast<sockaddr*>(&name);
    if (::bind(listener.get(), address, size) != 0 || ::listen(listener.get(), 1) != 0) return {};
    size = sizeof name;
    if (::getsockname(listener.get(), address, &size) != 0) return {};
    if (::connect(client.get(), address, size) != 0) return {};
    io_uring_sqe& sqe = next(IORING_OP_ACCEPT, listener.get());
    sqe.accept_flags = SOCK_CLOEXEC;
    sqe.ioprio = IORING_ACCEPT_MULTISHOT;
    const int accepted = round_trip();
    if (accepted >= 0) ::close(accepted);
    const trial seen = answered(accepted >= 0 && !more_ ? -EOPNOTSUPP : accepted);
    // A listener that is shut down ends what waits for clients.
    ::shutdown(listener.get(), SHUT_RDWR);
    while (more_ && round_trip() != -ETIME) {
    }
    return seen;
  }

  trial offer_buffers() noexcept {
    io_uring_buf_ring* const offered = memory_.ring();
    if (offered == nullptr) return answered(-ENOMEM);
    io_uring_buf_reg where{};
    where.ring_addr = reinterpret_cast<std::uintptr_t>(offered);
    where.ring_entries = buffers;
    where.bgid = group;
    const int refused = io_uring_register_buf_ring(ring_.raw(), &where, 0);
    if (refused != 0) return answered(refused);
    io_uring_buf_ring_init(offered);
    for (unsigned short i = 0; i < buffers; ++i)
      io_uring_buf_ring_add(offered, memory_.bytes() + i * buffer_bytes, buffer_bytes, i,
                            io_uring_buf_ring_mask(buffers), i);
    io_uring_buf_ring_advance(offered, buffers);
    return answered(0);
  }

  // What waits for `ours` has got a byte, and then the end of what `theirs` says: so nothing of it is left.
  trial multishot_until_end(int theirs) noexcept {
    if (::write(theirs, "x", 1) != 1) return {};
    const trial seen = multishot();
    ::close(theirs);
    while (more_ && round_trip() != -ETIME) {
    }
    return seen;
  }

  trial try_receive() noexcept {
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return {};
    const unique_fd ours(ends[0]);
    io_uring_sqe& sqe = next(IORING_OP_RECV, ours.get());
    sqe.ioprio = IORING_RECV_MULTISHOT;
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.buf_group = group;
    return multishot_until_end(ends[1]);
  }

  trial try_read() noexcept {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return {};
    const unique_fd ours(ends[0]);
    io_uring_sqe& sqe = next(op_read_multishot, ours.get());
    sqe.off = ~std::uint64_t{0};
    sqe.flags = IOSQE_BUFFER_SELECT;
    sqe.buf_group = group;
    return multishot_until_end(ends[1]);
  }

  pages memory_;
  uring_ring ring_;
  bool more_ = false;
};

}  // namespace

void try_uring(uring_report& report) noexcept {
  trial_ring().run(report);
}

}  // namespace keel::kevent_sys
