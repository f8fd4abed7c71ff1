// Counts and fails what everybody asks of operator new. Included by one source of a program: it defines the
// operators.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace keel::test {

inline std::atomic<std::uint64_t> allocations{0};
inline thread_local bool no_memory = false;

inline void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (no_memory) return nullptr;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(bytes);
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

// Not inlined: g++ would see what is allocated by new and freed by free().
[[gnu::noinline]] inline void release(void* memory) noexcept {
  std::free(memory);
}

inline void* allocate_or_throw(std::size_t bytes, std::size_t alignment) {
  void* memory = allocate(bytes == 0 ? 1 : bytes, alignment);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

}  // namespace keel::test

void* operator new(std::size_t bytes) {
  return keel::test::allocate_or_throw(bytes, 1);
}
void* operator new[](std::size_t bytes) {
  return keel::test::allocate_or_throw(bytes, 1);
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return keel::test::allocate(bytes, 1);
}
void* operator new[](std::size_t bytes, const std::nothrow_t&) noexcept {
  return keel::test::allocate(bytes, 1);
}
void* operator new(std::size_t bytes, std::align_val_t a) {
  return keel::test::allocate_or_throw(bytes, std::size_t(a));
}
void* operator new[](std::size_t bytes, std::align_val_t a) {
  return keel::test::allocate_or_throw(bytes, std::size_t(a));
}
void* operator new(std::size_t bytes, std::align_val_t a, const std::nothrow_t&) noexcept {
  return keel::test::allocate(bytes, std::size_t(a));
}
void operator delete(void* memory) noexcept {
  keel::test::release(memory);
}
void operator delete[](void* memory) noexcept {
  keel::test::release(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  keel::test::release(memory);
}
void operator delete[](void* memory, std::size_t) noexcept {
  keel::test::release(memory);
}
void operator delete(void* memory, std::align_val_t) noexcept {
  keel::test::release(memory);
}
void operator delete[](void* memory, std::align_val_t) noexcept {
  keel::test::release(memory);
}
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  keel::test::release(memory);
}
void operator delete[](void* memory, std::size_t, std::align_val_t) noexcept {
  keel::test::release(memory);
}
