#include "uring_ring.hpp"

#include "uring_constants.hpp"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <span>

namespace keel::kevent_sys {
namespace {

constexpr std::uint32_t entries_floor = 64;

// DEFER_TASKRUN and SINGLE_ISSUER (6.1) are what the engine stands on, and TASKRUN_FLAG tells a busy loop
// that there is something to collect; the rest is dropped one by one.
constexpr std::uint32_t required_flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_TASKRUN_FLAG | IORING_SETUP_R_DISABLED |
                                         IORING_SETUP_CQSIZE;
constexpr std::uint32_t optional_flags[] = {
    IORING_SETUP_COOP_TASKRUN,
    IORING_SETUP_SUBMIT_ALL,
};

// Of several threads, one may compute while another waits for what the first has submitted: its completions
// must not wait until it enters the kernel by itself, so no COOP_TASKRUN (measured: 2.9 ms late on average).
constexpr std::uint32_t required_shared_flags = IORING_SETUP_CQSIZE;
constexpr std::uint32_t optional_shared_flags[] = {IORING_SETUP_SUBMIT_ALL};

// The time limit of a wait, as the kernel wants it.
struct wait_limit {
  explicit wait_limit(std::uint64_t timeout_ns) noexcept {
    argument.sigmask_sz = _NSIG / 8;
    if (timeout_ns == ~std::uint64_t{0}) return;
    time.tv_sec = static_cast<long long>(timeout_ns / 1'000'000'000);
    time.tv_nsec = static_cast<long long>(timeout_ns % 1'000'000'000);
    argument.ts = reinterpret_cast<std::uintptr_t>(&time);
  }
  wait_limit(const wait_limit&) = delete;
  wait_limit& operator=(const wait_limit&) = delete;

  __kernel_timespec time{};
  io_uring_getevents_arg argument{};
};

// Rings that are open. Also says to the thread sanitizer, which does not see how liburing maps memory, that a
// ring in the same place as an earlier one came after it.
constinit std::atomic<unsigned> rings_open{0};

}  // namespace

uring_ring::~uring_ring() {
  if (!open_) return;
  rings_open.fetch_sub(1, std::memory_order_acq_rel);
  io_uring_queue_exit(&ring_);
}

int uring_ring::setup(const options& how, std::uint32_t flags) noexcept {
  io_uring_params params{};
  params.flags = flags;
  // Four for each entry: so that bursts of multishot answers rarely overflow it.
  params.cq_entries = how.completions != 0 ? std::max(how.completions, how.entries) : how.entries * 4;
  const int error = io_uring_queue_init_params(how.entries, &ring_, &params);
  if (error != 0) return error;
  rings_open.fetch_add(1, std::memory_order_acq_rel);
  open_ = true;
  entries_ = params.sq_entries;
  if ((params.features & IORING_FEAT_NODROP) == 0 || (params.features & IORING_FEAT_EXT_ARG) == 0)
    return -EOPNOTSUPP;
  // Otherwise an idle loop is counted as waiting for a disk.
  enter_flags_ = (params.features & feature_no_iowait) != 0 ? enter_no_iowait : 0;
  // A child of fork() must not touch the rings of its parent.
  ::madvise(ring_.sq.ring_ptr, ring_.sq.ring_sz, MADV_DONTFORK);
  ::madvise(ring_.sq.sqes, std::size_t{params.sq_entries} * sizeof(io_uring_sqe), MADV_DONTFORK);
  if (ring_.cq.ring_ptr != ring_.sq.ring_ptr) ::madvise(ring_.cq.ring_ptr, ring_.cq.ring_sz, MADV_DONTFORK);
  // Entries are always taken in order, so the indirection array is the identity for ever.
  for (unsigned i = 0; i < params.sq_entries; ++i) ring_.sq.array[i] = i;
  return 0;
}

result<void> uring_ring::open(const options& asked) noexcept {
  options how = asked;
  // Whoever asks for a tiny completion queue gets a submission queue that fits.
  const std::uint32_t floor = how.completions != 0 ? std::min(how.completions, entries_floor) : entries_floor;
  how.entries = std::clamp(how.entries, floor, uring_entries_ceiling);
  const std::span<const std::uint32_t> optional =
      how.shared ? std::span<const std::uint32_t>(optional_shared_flags) : optional_flags;
  std::uint32_t flags = how.shared ? required_shared_flags : required_flags;
  for (const std::uint32_t flag : optional) flags |= flag;
  std::size_t dropped = 0;
  bool waited = false;
  for (;;) {
    const int error = setup(how, flags);
    if (error == 0) {
      enabled_ = how.shared;
      return {};
    }
    if (error == -EINVAL && dropped < optional.size()) {
      flags &= ~optional[dropped++];
    } else if (error == -ENOMEM && how.entries > floor) {
      how.entries /= 2;
      how.completions /= 2;
    } else if (error == -ENOMEM && !waited) {
      // The kernel frees the locked memory of a ring that was just closed a little later.
      waited = true;
      ::usleep(10'000);
    } else {
      return failure(kernel_error(error), "io_uring_setup");
    }
  }
}

result<void> uring_ring::enable() noexcept {
  // liburing 2.3 does not export this call.
  const long answer =
      ::syscall(SYS_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
  if (answer != 0) return failure(kernel_error(errno), "enable io_uring");
  enabled_ = true;
  // Saves the descriptor look-up of each enter. Belongs to this thread; a refusal only costs that.
  if (io_uring_register_ring_fd(&ring_) == 1) enter_flags_ |= IORING_ENTER_REGISTERED_RING;
  return {};
}

io_uring_sqe* uring_ring::next_sqe() noexcept {
  const unsigned head = io_uring_smp_load_acquire(ring_.sq.khead);
  if (sqe_tail_ - head >= entries_) return nullptr;
  io_uring_sqe* sqe = &ring_.sq.sqes[sqe_tail_ & (entries_ - 1)];
  ++sqe_tail_;
  std::memset(sqe, 0, sizeof *sqe);
  return sqe;
}

void uring_ring::publish_tail() noexcept {
  io_uring_smp_store_release(ring_.sq.ktail, sqe_tail_);
}

int uring_ring::enter(unsigned wait_for, std::uint64_t timeout_ns) noexcept {
  publish_tail();
  const unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | enter_flags_;
  const wait_limit limit(wait_for != 0 ? timeout_ns : ~std::uint64_t{0});
  const long answer = ::syscall(SYS_io_uring_enter, ring_.enter_ring_fd, unsubmitted(), wait_for, flags,
                                &limit.argument, sizeof limit.argument);
  return answer < 0 ? -errno : 0;
}

int uring_ring::sleep(std::uint64_t timeout_ns) const noexcept {
  const unsigned flags = IORING_ENTER_GETEVENTS | IORING_ENTER_EXT_ARG | enter_flags_;
  const wait_limit limit(timeout_ns);
  const long answer =
      ::syscall(SYS_io_uring_enter, ring_.ring_fd, 0, 1, flags, &limit.argument, sizeof limit.argument);
  return answer < 0 ? -errno : 0;
}

const io_uring_cqe* uring_ring::peek() noexcept {
  const unsigned head = *ring_.cq.khead;
  if (io_uring_smp_load_acquire(ring_.cq.ktail) == head) return nullptr;
  return &ring_.cq.cqes[head & *ring_.cq.kring_mask];
}

}  // namespace keel::kevent_sys
