#include "buffer_guard.hpp"

#include <cstdint>

namespace keel::kevent_sys {
#if KEEL_ADDRESS_SANITIZER
namespace {

// The sanitizer knows 8 bytes at a time: only those that belong wholly to the buffer are forbidden.
constexpr std::uintptr_t granule = 8;

struct whole_granules {
  explicit whole_granules(const request& asked) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(asked.data);
    begin = (address + granule - 1) & ~(granule - 1);
    const std::uintptr_t end = (address + asked.size_bytes) & ~(granule - 1);
    bytes = end > begin ? end - begin : 0;
  }
  const void* memory() const noexcept { return reinterpret_cast<const void*>(begin); }

  std::uintptr_t begin;
  std::size_t bytes;
};

bool kernel_writes(opcode code) noexcept { return code == opcode::recv || code == opcode::read; }
bool kernel_reads(opcode code) noexcept { return code == opcode::send || code == opcode::write; }

}  // namespace

void guard_buffer(const request& asked) noexcept {
  if (!kernel_writes(asked.code) && !kernel_reads(asked.code)) return;
  KEEL_ASSERT(!is_forbidden(asked.data, asked.size_bytes),
              "a buffer that is freed, or in use by another operation");
  if (!kernel_writes(asked.code)) return;
  const whole_granules watched(asked);
  forbid_memory(watched.memory(), watched.bytes);
}

void release_buffer(const request& asked) noexcept {
  if (kernel_reads(asked.code)) {
    KEEL_ASSERT(!is_forbidden(asked.data, asked.size_bytes),
                "a buffer was freed while the kernel read from it");
  }
  if (!kernel_writes(asked.code)) return;
  const whole_granules watched(asked);
  KEEL_ASSERT(watched.bytes == 0 || is_forbidden(watched.memory(), 1),
              "a buffer was freed and used anew while the kernel wrote into it");
  allow_memory(watched.memory(), watched.bytes);
}

#endif
}  // namespace keel::kevent_sys
