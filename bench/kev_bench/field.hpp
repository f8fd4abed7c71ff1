// The handles of the benchmark: what the writer and the reader share.
#pragma once

#include <atomic>
#include <cstdint>
#include <ctime>
#include <memory>
#include <vector>

namespace kev_bench {

enum class kind { pipe, unix_socket, inet };

struct settings {
  enum class order { random, sequential };

  const char* backend = "kevent";
  const char* mode = "completion";
  const char* kind_name = "pipe";
  kind handles = kind::pipe;
  order writes = order::random;
  bool edge_triggered = false;
  bool lines = false;  // one for each second
  int cpu = -1;        // both threads; -1 = where the scheduler likes
  std::uint32_t n = 2000;
  std::uint32_t unread_max = 0;  // bytes written and not read; 0 = half of n
  double seconds = 3;
  std::uint64_t seed = 1;
};

inline std::uint64_t now_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(t.tv_nsec);
}

// n pairs of descriptors, of which one end is written and the other read. Both do not block.
class field {
 public:
  // Ends the program when it cannot have so many.
  field(kind handles, std::uint32_t n);
  field(const field&) = delete;
  field& operator=(const field&) = delete;
  ~field();

  std::uint32_t size() const noexcept { return static_cast<std::uint32_t>(pairs_.size()); }
  bool sockets() const noexcept { return kind_ != kind::pipe; }
  int read_fd(std::uint32_t i) const noexcept { return pairs_[i].read_fd; }
  // Reads the byte of handle `i` with one system call: false when there is none.
  bool read_one(std::uint32_t i) const noexcept;

  // The writer: handle `i` has no byte that was not read.
  bool is_free(std::uint32_t i) const noexcept { return !slots_[i].unread.load(std::memory_order_acquire); }
  // The writer: writes the byte of handle `i`, and notes when, for one in 64.
  void write_one(std::uint32_t i) noexcept;
  std::uint64_t unread() const noexcept { return written_ - taken_.load(std::memory_order_relaxed); }

  // The reader has the byte of handle `i`.
  void took(std::uint32_t i) noexcept {
    if (const std::uint64_t stamp = slots_[i].stamp_ns.load(std::memory_order_relaxed); stamp != 0) {
      note_latency(stamp);
    }
    slots_[i].unread.store(false, std::memory_order_release);
    taken_.store(taken_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  }
  std::uint64_t taken() const noexcept { return taken_.load(std::memory_order_relaxed); }

  // The reader: forgets the latencies noted so far.
  void forget_latencies() noexcept { latencies_ns_.clear(); }
  // In microseconds; `share` of all are below. Call it when the threads have ended.
  double latency_us(double share);

 private:
  static constexpr std::uint64_t stamp_every = 64;

  struct pair {
    int read_fd = -1;
    int write_fd = -1;
  };
  struct slot {
    std::atomic<std::uint64_t> stamp_ns{0};
    std::atomic<bool> unread{false};
  };

  void note_latency(std::uint64_t stamp_ns) noexcept;

  kind kind_;
  std::vector<pair> pairs_;
  std::unique_ptr<slot[]> slots_;
  std::vector<std::uint64_t> latencies_ns_;
  alignas(64) std::uint64_t written_ = 0;
  alignas(64) std::atomic<std::uint64_t> taken_{0};
};

}  // namespace kev_bench
