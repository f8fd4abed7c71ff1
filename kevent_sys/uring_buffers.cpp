#include "uring_buffers.hpp"

#include <sys/mman.h>
#include <cerrno>

namespace keel::kevent_sys {
namespace {

constexpr std::size_t ring_bytes = buffer_pool::buffers_max * sizeof(io_uring_buf);

}  // namespace

result<void> uring_buffers::open(uring_ring& ring, buffer_pool& pool) noexcept {
  void* memory = ::mmap(nullptr, ring_bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  if (memory == MAP_FAILED) return failure(kernel_error(errno), "mmap");
  ::madvise(memory, ring_bytes, MADV_DONTFORK);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
  registration.ring_entries = buffer_pool::buffers_max;
  registration.bgid = group;
  const int error = io_uring_register_buf_ring(ring.raw(), &registration, 0);
  if (error != 0) {
    ::munmap(memory, ring_bytes);
    return failure(kernel_error(error), "register a buffer ring");
  }
  memory_ = static_cast<io_uring_buf_ring*>(memory);
  io_uring_buf_ring_init(memory_);
  ring_ = &ring;
  pool_ = &pool;
  return {};
}

void uring_buffers::close() noexcept {
  if (memory_ == nullptr) return;
  io_uring_unregister_buf_ring(ring_->raw(), group);
  ::munmap(memory_, ring_bytes);
  memory_ = nullptr;
}

void uring_buffers::offer(std::uint16_t id) noexcept {
  io_uring_buf_ring_add(memory_, pool_->data(id), pool_->buffer_bytes(), id, buffer_pool::buffers_max - 1, 0);
  io_uring_buf_ring_advance(memory_, 1);
  ++offered_;
}

}  // namespace keel::kevent_sys
