#include "uring_engine.hpp"

#include "buffer_guard.hpp"
#include "uring_constants.hpp"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <new>

namespace keel::kevent_sys {
namespace {

// How far ahead of the completion at hand operations are fetched.
constexpr unsigned prefetch_distance = 4;

// Looks between two looks at the clock.
constexpr int looks_per_round = 16;

// Tells the CPU that this loop waits: it saves power, and its sibling gets the units.
void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

constexpr std::uint8_t needed_opcodes[] = {
    IORING_OP_NOP,     IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL, IORING_OP_ACCEPT,
    IORING_OP_CONNECT, IORING_OP_RECV,     IORING_OP_SEND,         IORING_OP_OPENAT,
    IORING_OP_READ,    IORING_OP_WRITE,    IORING_OP_CLOSE,
};

}  // namespace

uring_engine::uring_engine(event_sink& sink, const engine_options& options) noexcept
    : engine(sink), options_(options), calls_(options.pool, &call_finished, this) {}

uring_engine::~uring_engine() {
  KEEL_ASSERT(in_flight() == 0, "an engine was destroyed with operations in flight");
  buffers_.close();
  if (pool_ != nullptr) pool_->detach();
  delete[] scratch_;
}

result<void> uring_engine::open() noexcept {
  auto opened = ring_.open(
      {.entries = options_.entries, .completions = options_.completions, .shared = options_.shared});
  if (!opened) return opened;
  if (auto probed = probe(); !probed) return probed;
  info_.name = "uring";
  info_.exclusive_polls = true;
  info_.entries = ring_.entries();
  info_.setup_flags = ring_.setup_flags();
  // Threads that share a queue are woken by ring(), and receive into buffers of their own.
  if (options_.shared) return {};
  unique_fd wake_fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake_fd) return failure(kernel_error(errno), "eventfd");
  here_.wake_fd = hidden_fd_ = wake_fd.get();
  try {
    pool_ = new buffer_pool(options_.buffers, options_.buffer_bytes, std::move(wake_fd));
    pool_->set_limit(std::max(options_.buffers, options_.buffers_limit));
  } catch (const std::bad_alloc&) {
    return failure(kernel_error(ENOMEM), "allocate receive buffers");
  }
  return {};
}

// That setup succeeded does not say that a sandbox lets the other two calls pass.
result<void> uring_engine::probe() noexcept {
  constexpr unsigned operations_max = 256;
  constexpr std::size_t bytes = sizeof(io_uring_probe) + operations_max * sizeof(io_uring_probe_op);
  alignas(io_uring_probe) std::byte memory[bytes]{};
  auto* table = reinterpret_cast<io_uring_probe*>(memory);
  const int refused = io_uring_register_probe(ring_.raw(), table, operations_max);
  if (refused < 0) return failure(kernel_error(refused), "io_uring_register");
  bool all = true;
  for (const std::uint8_t code : needed_opcodes) all = all && io_uring_opcode_supported(table, code) != 0;
  if (!all) return failure(errc::not_supported, "an io_uring with all the operations that keel needs");
  here_.multishot_read = io_uring_opcode_supported(table, op_read_multishot) != 0;
  here_.futex = io_uring_opcode_supported(table, op_futex_wait) != 0;
  // A ring that is not enabled yet answers EBADFD: anything else comes from a filter in front of it.
  const long entered = ::syscall(SYS_io_uring_enter, ring_.fd(), 0, 0, 0, nullptr, 0);
  if (entered < 0 && errno != EBADFD) return failure(kernel_error(errno), "io_uring_enter");
  return {};
}

void uring_engine::bind_to_this_thread() noexcept {
  if (auto enabled = ring_.enable(); !enabled) {
    std::fprintf(stderr, "keel: cannot enable an io_uring: %s\n", enabled.error().message().c_str());
    std::abort();
  }
  if (options_.provided_buffers) info_.provided_buffers = buffers_.open(ring_, *pool_).has_value();
  here_.provided_buffers = info_.provided_buffers;
  pool_->attach(info_.provided_buffers ? &buffer_arrived : nullptr, this);
  if (!info_.provided_buffers) return;
  for (int id = pool_->take(); id >= 0; id = pool_->take()) pool_->give_back(static_cast<std::uint16_t>(id));
}

void uring_engine::do_submit(operation& op) noexcept {
  guard_buffer(op.asked);
  if (op.asked.code == opcode::sendfile) {
    transfers_.push_back(op);
  } else if (op.asked.code == opcode::call) {
    submit_call(op);
  } else if (op.asked.code == opcode::futex) {
    submit_futex(op);
  } else if (!backlog_.empty() || !fill(op)) {
    backlog_.push_back(op);
  }
}

io_uring_sqe* uring_engine::next_sqe() noexcept {
  if (!ring_.enabled()) return nullptr;
  io_uring_sqe* sqe = ring_.next_sqe();
  if (sqe != nullptr) return sqe;
  enter(0, 0);
  return ring_.next_sqe();
}

bool uring_engine::fill(operation& op) noexcept {
  io_uring_sqe* sqe = next_sqe();
  if (sqe == nullptr) return false;
  if (step(op) == step_pausing) {
    fill_pause(*sqe);
  } else if (step(op) == step_polling && op.asked.code != opcode::sendfile) {
    fill_readiness(*sqe, op.asked);
  } else {
    fill_request(*sqe, op.asked, here_);
  }
  sqe->user_data = user_data_of(op);
  return true;
}

void uring_engine::do_cancel(operation& op) noexcept {
  if (op.asked.code == opcode::call) {
    cancel_call(op);
  } else if (op.linked()) {
    // In a list of ours the kernel does not have it.
    op.unlink();
    if (pool_ != nullptr && parked_.empty()) pool_->set_starving(false);
    release_buffer(op.asked);
    finish(op, -ECANCELED);
  } else if (!fill_cancel(op)) {
    cancel_backlog_.push_back(op);
  }
}

bool uring_engine::fill_cancel(operation& op) noexcept {
  io_uring_sqe* sqe = next_sqe();
  if (sqe == nullptr) return false;
  sqe->opcode = IORING_OP_ASYNC_CANCEL;
  sqe->fd = -1;
  sqe->addr = user_data_of(op);
  sqe->flags = IOSQE_CQE_SKIP_SUCCESS;
  return true;
}

void uring_engine::flush_backlog() noexcept {
  while (!backlog_.empty() && fill(backlog_.front())) backlog_.pop_front();
  while (!cancel_backlog_.empty() && fill_cancel(cancel_backlog_.front())) cancel_backlog_.pop_front();
  while (!unknown_.empty()) finish(unknown_.pop_front(), -ENOSYS);
  if (alarm_wanted_) fill_alarm();
}

void uring_engine::enter(unsigned wait_for, std::uint64_t timeout_ns) noexcept {
  ++counters_.enters;
  if (wait_for != 0) ++counters_.waits;
  const int error = ring_.enter(wait_for, timeout_ns);
  switch (-error) {
    case 0:
    case ETIME:   // the deadline
    case EINTR:   // a signal: the next turn computes its time limit anew
    case EBUSY:   // the kernel has more completions than it can store: reap first
    case EAGAIN:  // it is out of memory for a moment
    case ENOMEM: return;
    default: break;
  }
  std::fprintf(stderr, "keel: io_uring_enter: %s\n", kernel_error(error).message().c_str());
  KEEL_ASSERT(false, "io_uring_enter refuses this ring: was it used from a second thread?");
}

void uring_engine::do_poll(std::uint64_t deadline_ns) noexcept {
  if (!ring_.enabled()) bind_to_this_thread();
  sink_.settle();
  if (pool_ != nullptr) {
    pool_->collect();
    unpark();
  }
  run_transfers();
  flush_backlog();
  collect_calls();
  const bool all_taken = watch_calls() && backlog_.empty() && cancel_backlog_.empty();
  // What the kernel did not take yet must not wait for what it did take.
  if (deadline_ns == 0 || !sink_.empty() || !all_taken) {
    if (ring_.unsubmitted() != 0 || ring_.work_pending()) enter(0, 0);
  } else {
    wait(deadline_ns);
  }
  if (ring_.overflowed()) ++counters_.overflows;
  reap();
  // Nobody turns a shared engine until something completes: what these completions led to goes out now.
  while (options_.shared && sink_.room() > 0 && (!transfers_.empty() || ring_.unsubmitted() != 0)) {
    run_transfers();
    if (ring_.unsubmitted() != 0) enter(0, 0);
    reap();
  }
  collect_calls();
}

void uring_engine::wait(std::uint64_t deadline_ns) noexcept {
  if (ring_.ready() != 0 || (options_.spin_ns != 0 && spin(deadline_ns))) {
    if (ring_.unsubmitted() != 0 || ring_.work_pending()) enter(0, 0);
    return;
  }
  if (deadline_ns == never) {
    enter(1, never);
    return;
  }
  const std::uint64_t now = do_now_ns();
  enter(deadline_ns > now ? 1 : 0, deadline_ns > now ? deadline_ns - now : 0);
}

// True when there is something to collect, or the deadline has come.
bool uring_engine::spin(std::uint64_t deadline_ns) noexcept {
  if (!spin_.worth_trying()) return false;
  // What waits to be handed over may be what the peer waits for.
  if (ring_.unsubmitted() != 0) enter(0, 0);
  if (ring_.ready() != 0) return true;
  const std::uint64_t start = do_now_ns();
  if (deadline_ns <= start) return true;
  const std::uint64_t limit_ns = std::min<std::uint64_t>(options_.spin_ns, deadline_ns - start);
  bool found = false;
  std::uint64_t spun_ns = 0;
  while (!found && spun_ns < limit_ns) {
    for (int look = 0; look < looks_per_round && !found; ++look) {
      relax();
      found = ring_.ready() != 0 || ring_.work_pending();
    }
    spun_ns = do_now_ns() - start;
  }
  counters_.spun_ns += spun_ns;
  if (found) ++counters_.spins;
  // An answer after the limit came while somebody else had this CPU: whoever spins there is in the way.
  if (found && spun_ns <= limit_ns) {
    spin_.answered();
  } else if (limit_ns == options_.spin_ns) {
    spin_.in_vain();
  }
  return found || limit_ns != options_.spin_ns;
}

void uring_engine::reap() noexcept {
  while (sink_.room() > 0) {
    const io_uring_cqe* cqe = ring_.peek();
    if (cqe == nullptr) return;
    // With many operations the one that is told next is in no cache.
    const io_uring_cqe* later = ring_.peek_ahead(prefetch_distance);
    if (later != nullptr && later->user_data >= marks_end)
      __builtin_prefetch(&operation_of(later->user_data), 1);
    const io_uring_cqe copy = *cqe;
    ring_.seen();
    complete(copy);
  }
}

void uring_engine::complete(const io_uring_cqe& cqe) noexcept {
  if (cqe.user_data < marks_end) {
    complete_mark(cqe);
    return;
  }
  operation& op = operation_of(cqe.user_data);
  if (user_data_of(op) != cqe.user_data) {
    ++counters_.stale;
    KEEL_ASSERT(false, "the kernel answered an operation that had ended");
  }
  // In the list of late cancels only: what it waits for has come.
  if ((cqe.flags & IORING_CQE_F_MORE) == 0) op.unlink();
  if (options_.shared && goes_on_elsewhere(op, cqe)) return;
  if (waits_by_poll(op, cqe)) return;
  switch (op.asked.code) {
    case opcode::receive:
    case opcode::drain: complete_receive(op, cqe); return;
    case opcode::sendfile: complete_transfer(op, cqe.res); return;
    case opcode::connect: complete_connect(op, cqe.res); return;
    default: break;
  }
  release_buffer(op.asked);
  // A worker of the kernel hears of the cancel by a signal.
  const int value = cqe.res == -EINTR && op.canceling() ? -ECANCELED : cqe.res;
  publish(op, answer{value, (cqe.flags & IORING_CQE_F_MORE) != 0 ? answer::more_flag : 0});
}

// F14: an O_NONBLOCK descriptor may answer EAGAIN; whoever awaits an operation wants it to wait.
bool uring_engine::waits_by_poll(operation& op, const io_uring_cqe& cqe) noexcept {
  switch (op.asked.code) {
    case opcode::recv:
    case opcode::send:
      if ((op.asked.flags & MSG_DONTWAIT) != 0) return false;
      break;
    case opcode::accept:
    case opcode::drain:
    case opcode::read:
    case opcode::write: break;
    default: return false;
  }
  const bool polled = step(op) == step_polling;
  const bool paused = step(op) == step_pausing;
  if (!paused && (polled ? cqe.res < 0 : cqe.res != -EAGAIN)) return false;
  if (op.canceling()) {
    release_buffer(op.asked);
    finish(op, -ECANCELED);
    return true;
  }
  if (polled && pauses(op, cqe.res)) return true;
  step(op) = polled || paused ? 0 : step_polling;
  submit_again(op);
  return true;
}

bool uring_engine::pauses(operation& op, int polled) noexcept {
  const bool writes =
      op.asked.code == opcode::send || op.asked.code == opcode::write || op.asked.code == opcode::sendfile;
  if (!writes || (polled & (POLLOUT | POLLERR | POLLHUP | POLLNVAL)) != 0) return false;
  step(op) = step_pausing;
  submit_again(op);
  return true;
}

void uring_engine::do_wake() noexcept {
  // A shared one needs none: whatever its queue waits for, the kernel tells each ring by itself.
  if (options_.shared) return;
  const std::uint64_t one = 1;
  // A full counter has been ringing since long ago.
  [[maybe_unused]] const auto written = ::write(here_.wake_fd, &one, sizeof one);
  ring_bell();
}

std::uint64_t uring_engine::do_now_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
}

result<engine*> make_uring_engine(event_sink& sink, const engine_options& options, const char* reason) {
  auto* made = new uring_engine(sink, options);
  const auto opened = made->open();
  if (opened) {
    made->set_reason(reason);
    return made;
  }
  delete made;
  return opened.why();
}

}  // namespace keel::kevent_sys
