// Memory that must not be touched for a while, said to the address sanitizer. In other builds all of this is
// nothing.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_ADDRESS__)
#define KEEL_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEL_ADDRESS_SANITIZER 1
#endif
#endif
#if !defined(KEEL_ADDRESS_SANITIZER)
#define KEEL_ADDRESS_SANITIZER 0
#endif

#if KEEL_ADDRESS_SANITIZER
// From <sanitizer/asan_interface.h>.
extern "C" void __asan_poison_memory_region(const volatile void* memory, std::size_t bytes);
extern "C" void __asan_unpoison_memory_region(const volatile void* memory, std::size_t bytes);
extern "C" void* __asan_region_is_poisoned(void* memory, std::size_t bytes);
#endif

namespace keel {

// A touch of the memory is reported from now on, until allow_memory().
inline void forbid_memory([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if KEEL_ADDRESS_SANITIZER
  __asan_poison_memory_region(memory, bytes);
#endif
}

inline void allow_memory([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if KEEL_ADDRESS_SANITIZER
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

// Whether some of the memory is freed, forbidden, or outside of its object. Never in other builds.
inline bool is_forbidden([[maybe_unused]] const void* memory, [[maybe_unused]] std::size_t bytes) noexcept {
#if KEEL_ADDRESS_SANITIZER
  return __asan_region_is_poisoned(const_cast<void*>(memory), bytes) != nullptr;
#else
  return false;
#endif
}

}  // namespace keel
