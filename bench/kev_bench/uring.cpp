// What the kernel allows: a hand-written io_uring with multishot receives (sockets) or reads (pipes).

#include "collector.hpp"

#include <liburing.h>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace kev_bench {
namespace {

// From the kernel's interface; liburing 2.3 does not know it yet.
constexpr std::uint8_t op_read_multishot = 49;  // Linux 6.7

constexpr unsigned submissions = 256;
constexpr unsigned completions = 8192;
constexpr unsigned buffers = 256;  // a power of two
constexpr unsigned buffer_bytes = 64;
constexpr int group = 0;
constexpr unsigned batch = 256;

void check(int result, const char* what) {
  if (result >= 0) return;
  std::fprintf(stderr, "kev_bench: %s: %s (%d)\n", what, std::strerror(-result), -result);
  std::exit(1);
}

class uring_collector : public collector {
 public:
  using collector::collector;

  void begin() override {
    io_uring_params parameters{};
    parameters.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
                       IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
    parameters.cq_entries = completions;
    check(io_uring_queue_init_params(submissions, &ring_, &parameters), "io_uring_setup");
    check(io_uring_register_ring_fd(&ring_), "register the ring");
    make_buffers();
    for (std::uint32_t i = 0; i < handles_.size(); ++i) arm(i);
  }

  void collect() override {
    submit_and_wait();
    io_uring_cqe* cqes[batch];
    const unsigned n = io_uring_peek_batch_cqe(&ring_, cqes, batch);
    unsigned returned = 0;
    for (unsigned i = 0; i < n; ++i) returned += complete(*cqes[i], returned);
    io_uring_buf_ring_advance(buffer_ring_, static_cast<int>(returned));
    io_uring_cq_advance(&ring_, n);
  }

  void end() override {
    io_uring_queue_exit(&ring_);
    std::free(buffer_ring_);
  }
  std::int64_t system_calls() const override { return system_calls_; }

 private:
  void submit_and_wait() {
    ++system_calls_;
    const int result = io_uring_submit_and_wait(&ring_, 1);
    if (result != -EINTR && result != -EBUSY) check(result, "io_uring_enter");
  }

  void make_buffers() {
    void* memory = std::aligned_alloc(4096, buffers * sizeof(io_uring_buf));
    buffer_ring_ = static_cast<io_uring_buf_ring*>(memory);
    memory_.resize(std::size_t{buffers} * buffer_bytes);
    io_uring_buf_ring_init(buffer_ring_);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(memory);
    registration.ring_entries = buffers;
    registration.bgid = group;
    check(io_uring_register_buf_ring(&ring_, &registration, 0), "register buffers");
    for (unsigned id = 0; id < buffers; ++id) give_back(static_cast<std::uint16_t>(id), id);
    io_uring_buf_ring_advance(buffer_ring_, static_cast<int>(buffers));
  }

  void give_back(std::uint16_t id, unsigned offset) noexcept {
    io_uring_buf_ring_add(buffer_ring_, memory_.data() + std::size_t{id} * buffer_bytes, buffer_bytes, id,
                          static_cast<int>(buffers - 1), static_cast<int>(offset));
  }

  void arm(std::uint32_t i) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
      ++system_calls_;
      check(io_uring_submit(&ring_), "io_uring_enter");
      sqe = io_uring_get_sqe(&ring_);
    }
    if (handles_.sockets()) {
      io_uring_prep_recv_multishot(sqe, handles_.read_fd(i), nullptr, 0, 0);
    } else {
      io_uring_prep_rw(op_read_multishot, sqe, handles_.read_fd(i), nullptr, 0, 0);
    }
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = group;
    sqe->user_data = i;
  }

  // Returns the number of buffers put back (not shown to the kernel yet).
  unsigned complete(const io_uring_cqe& cqe, unsigned offset) {
    const auto i = static_cast<std::uint32_t>(cqe.user_data);
    if ((cqe.flags & IORING_CQE_F_MORE) == 0) arm(i);
    if (cqe.res == -ENOBUFS) return 0;
    check(cqe.res, "receive");
    give_back(static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT), offset);
    handles_.took(i);
    return 1;
  }

  io_uring ring_{};
  io_uring_buf_ring* buffer_ring_ = nullptr;
  std::vector<char> memory_;
  std::int64_t system_calls_ = 0;
};

}  // namespace

std::unique_ptr<collector> make_uring(field& handles) {
  return std::make_unique<uring_collector>(handles);
}

}  // namespace kev_bench
