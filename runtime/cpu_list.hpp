// Which CPUs a runtime uses.
#pragma once

#include <keel/base/assert.hpp>

#include <cstdint>

namespace keel {

struct all_cpus_t {};
// Every CPU that the calling thread may run on. A scheduler's thread is pinned: ask before run(), not in a
// task.
inline constexpr all_cpus_t all_cpus{};

// A number of CPUs, all of them, or a list. A value.
//
// More schedulers than CPUs share them in turns. One scheduler is not pinned: the thread that runs it keeps
// its place.
class cpu_list {
 public:
  static constexpr unsigned cpus_max = 256;

  constexpr cpu_list() noexcept : count_(1) {}
  constexpr cpu_list(int count) noexcept : count_(static_cast<unsigned>(count)) {
    KEEL_ASSERT(count >= 1 && count <= static_cast<int>(cpus_max), "a runtime has 1 to 256 schedulers");
  }
  constexpr cpu_list(all_cpus_t) noexcept : count_(0) {}
  // These CPUs, by the kernel's numbers. REQUIRES: 1 to cpus_max of them
  static cpu_list of(const unsigned* cpus, unsigned count) noexcept;

  // How many schedulers, and the CPU of each (-1: wherever the thread is).
  struct placement {
    unsigned count = 0;
    std::int32_t cpu[cpus_max] = {};
  };
  placement resolve() const noexcept;
  unsigned count() const noexcept { return resolve().count; }

 private:
  unsigned count_;  // 0 = all
  bool listed_ = false;
  std::uint16_t cpus_[cpus_max] = {};
};

// Puts the calling thread on one CPU until the end of the scope. -1: leaves it where it is.
class pinned_thread {
 public:
  explicit pinned_thread(int cpu) noexcept;
  pinned_thread(const pinned_thread&) = delete;
  pinned_thread& operator=(const pinned_thread&) = delete;
  ~pinned_thread();

 private:
  static constexpr unsigned words = 16;  // 1,024 CPUs
  unsigned long before_[words] = {};
  bool pinned_ = false;
};

}  // namespace keel
