// What a scheduler runs, since when, and how long it has run what: for those who look from outside.
#pragma once

#include <keel/runtime/task_node.hpp>

#include <atomic>
#include <cstdint>
#include <source_location>

namespace keel {

// A clock that costs less than a system call: the CPU's own, where we know how to read it.
#if defined(__x86_64__)
inline std::uint64_t ticks_now() noexcept {
  return __builtin_ia32_rdtsc();
}
#elif defined(__aarch64__)
inline std::uint64_t ticks_now() noexcept {
  std::uint64_t now;
  asm volatile("mrs %0, cntvct_el0" : "=r"(now));
  return now;
}
#else
std::uint64_t ticks_now() noexcept;
#endif
std::uint64_t ticks_to_ns(std::uint64_t ticks) noexcept;
std::uint64_t ns_to_ticks(std::uint64_t ns) noexcept;

// How the tasks of one name ran. A run is from where it got the CPU to where it waited for something.
struct run_statistics {
  static constexpr unsigned bucket_count = 48;

  void note(std::uint64_t ticks) noexcept {
    total_ticks += ticks;
    if (ticks > longest_ticks) longest_ticks = ticks;
    const auto bits = 64U - static_cast<unsigned>(__builtin_clzll(ticks | 1));
    ++buckets[bits < bucket_count ? bits : bucket_count - 1];
  }
  std::uint64_t runs() const noexcept;

  const char* name = nullptr;  // lives as long as this
  std::uint64_t tasks = 0;     // that had this name
  std::uint64_t total_ticks = 0;
  std::uint64_t longest_ticks = 0;
  std::uint64_t buckets[bucket_count] =
      {};  // [n]: runs of less than 2^n ticks, and no less than half of that
};

// The statistics of one scheduler by name. The table is bounded: what has no room left is "other tasks".
//
// Thread safety: the scheduler's thread; the names of its entries may be read by any.
class run_table {
 public:
  static constexpr unsigned names_max = 256;

  // Throws std::bad_alloc.
  run_table();
  run_table(const run_table&) = delete;
  run_table& operator=(const run_table&) = delete;
  ~run_table() { clear(); }

  // The entry of a name (null: "unnamed"), which is compared by its text.
  run_statistics& of(const char* name) noexcept {
    const cached& near = cache_[place(name)];
    if (near.key == name && same(near.entry->name, name)) return *near.entry;
    return find(name);
  }
  run_statistics& callbacks() noexcept { return *entries_[0]; }
  unsigned size() const noexcept { return size_; }
  const run_statistics& at(unsigned index) const noexcept { return *entries_[index]; }

 private:
  struct cached {
    const char* key;
    run_statistics* entry;
  };
  static constexpr unsigned cache_size = 64;
  static unsigned place(const char* name) noexcept {
    return static_cast<unsigned>(reinterpret_cast<std::uintptr_t>(name) * 0x9E37'79B9'7F4A'7C15 >> 58);
  }
  static bool same(const char* text, const char* name) noexcept {
    return name == nullptr || __builtin_strcmp(text, name) == 0;
  }
  run_statistics& find(const char* name) noexcept;
  run_statistics* add(const char* name);
  void clear() noexcept;

  unsigned size_ = 0;
  run_statistics* entries_[names_max] = {};
  cached cache_[cache_size] = {};
};

// What runs now. Written by the scheduler's thread, at the start and end of each run; one look at the clock.
//
// Thread safety: what begins with `seen` is for any thread; the rest for the scheduler's.
class run_monitor {
 public:
  // Something that has run for longer than the limit.
  using report = void (*)(void* context, std::uint64_t ticks) noexcept;

  run_monitor() = default;
  // Whether it measures at all, and when it reports (0: never).
  void configure(bool measures, std::uint64_t limit_ns, report overlong, void* context) noexcept;

  // `node` gets the CPU, from the loop; it gives it back; it hands it on to `node`.
  void begin(const task_node& node) noexcept {
    id_.store(node.id, std::memory_order_relaxed);
    // Others read the name behind it.
    running_.store(node.statistics, std::memory_order_release);
    from_.store(node.innermost != nullptr ? node.innermost->awaits : std::source_location(),
                std::memory_order_relaxed);
  }
  void end() noexcept {
    note();
    running_.store(&table_.callbacks(), std::memory_order_relaxed);
  }
  void change(const task_node& node) noexcept {
    // Within one name it is one run: the clock is most of what a spawn and a join cost.
    if (node.statistics != running_.load(std::memory_order_relaxed)) note();
    begin(node);
  }
  // The scheduler goes to sleep, and is back; something that is no task has run.
  void sleeps() noexcept { since_.store(0, std::memory_order_relaxed); }
  void wakes() noexcept {
    if (measures_) since_.store(ticks_now(), std::memory_order_relaxed);
  }
  void note() noexcept {
    if (!measures_) return;
    const std::uint64_t now = ticks_now();
    const std::uint64_t took = now - since_.load(std::memory_order_relaxed);
    since_.store(now, std::memory_order_relaxed);
    running_.load(std::memory_order_relaxed)->note(took);
    if (took > limit_) [[unlikely]]
      report_(context_, took);
  }
  // Whether it is time to look at the others: twice per limit.
  bool looks_around() noexcept {
    const std::uint64_t now = since_.load(std::memory_order_relaxed);
    if (now < next_look_) return false;
    next_look_ = now + limit_ / 2;
    return true;
  }

  run_table& table() noexcept { return table_; }

  struct sight {
    std::uint64_t since_ticks = 0;  // 0: it sleeps
    std::uint64_t id = 0;           // 0: no task
    const char* name = nullptr;
    std::source_location from;  // the co_await after which it got the CPU
  };
  sight seen() const noexcept;
  // True once for each thing that runs: for those who report it.
  bool seen_first(std::uint64_t since_ticks) noexcept {
    return reported_.exchange(since_ticks, std::memory_order_relaxed) != since_ticks;
  }
  bool was_seen(std::uint64_t since_ticks) const noexcept {
    return reported_.load(std::memory_order_relaxed) == since_ticks;
  }

 private:
  static constexpr std::uint64_t never = ~std::uint64_t{0};

  run_table table_;
  std::atomic<run_statistics*> running_{&table_.callbacks()};
  std::atomic<std::uint64_t> since_{0};
  std::atomic<std::uint64_t> id_{0};
  std::atomic<std::source_location> from_{};
  std::uint64_t limit_ = never;
  bool measures_ = false;
  std::uint64_t next_look_ = never;
  report report_ = nullptr;
  void* context_ = nullptr;
  std::atomic<std::uint64_t> reported_{0};
};

}  // namespace keel
