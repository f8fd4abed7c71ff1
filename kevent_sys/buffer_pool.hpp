// The buffers that a queue's receives are written into, and the lease that a reader holds on one.
#pragma once

#include <keel/base/bytes.hpp>
#include <keel/base/unique_fd.hpp>

#include <atomic>
#include <cstdint>

namespace keel::kevent_sys {

class buffer_lease;

// Fixed-size buffers shared by all receives of one queue. Idle connections hold none.
//
// Life cycle: made by an engine, which calls detach() at its end; the last lease after that destroys the
// pool.
// Thread safety: the queue's thread, but give_back(), which any thread may call.
class buffer_pool {
 public:
  static constexpr std::uint32_t buffers_max = 4096;

  // Told when a buffer came home: the engine's way to hand it to the kernel. `context` as given to attach().
  using arrival = void (*)(void* context, std::uint16_t id) noexcept;

  // `alarm`: an eventfd, or none: written when a buffer comes home from another thread while somebody waits
  // for one. Throws std::bad_alloc.
  buffer_pool(std::uint32_t buffers, std::uint32_t buffer_bytes, unique_fd alarm);
  buffer_pool(const buffer_pool&) = delete;
  buffer_pool& operator=(const buffer_pool&) = delete;

  std::uint32_t size() const noexcept { return size_; }
  std::uint32_t buffer_bytes() const noexcept { return buffer_bytes_; }
  // Buffers that are with readers: leased, or filled and not looked at yet.
  std::uint32_t away() const noexcept { return away_; }
  std::byte* data(std::uint16_t id) const noexcept { return slabs_[id]; }
  // More than three quarters of the buffers that there may be are with readers. Who keeps bytes then keeps a
  // copy of them: a reader that hoards, or never looks, leaves the others their buffers.
  bool scarce() const noexcept { return std::uint64_t{away_} * 4 > std::uint64_t{limit_} * 3; }

  // Engines, on the thread that will own the pool: homecoming buffers go to `arrived` from now on, or stay at
  // home for take() when that is null.
  void attach(arrival arrived, void* context) noexcept;
  // Engines: how many buffers grow() will be asked for at most.
  void set_limit(std::uint32_t buffers) noexcept { limit_ = buffers; }
  // Engines: the kernel let go of everything. The pool goes with its last lease, which may be now.
  void detach() noexcept;
  // Engines: the kernel filled buffer `id`.
  void taken(std::uint16_t id) noexcept;
  // Engines: takes the id of a buffer at home; -1 when all are away.
  int take() noexcept;
  // Engines: one more buffer, up to buffers_max; its id, or -1. It is nowhere until adopt().
  int grow() noexcept;
  // Engines: a buffer that has just grown comes home.
  void adopt(std::uint16_t id) noexcept;
  // Buffers that take() would give.
  std::uint32_t at_home() const noexcept { return free_count_; }
  // Engines: collects what other threads gave back. True when some came.
  bool collect() noexcept;
  // Engines: whether somebody is parked for want of buffers.
  void set_starving(bool starving) noexcept { starving_.store(starving, std::memory_order_seq_cst); }

  // Any thread: the reader is done with `id`. REQUIRES: it has it (asserted)
  void give_back(std::uint16_t id) noexcept;

  // For buffer_queue: the size of a filled buffer, and the id behind it.
  struct fill {
    std::uint32_t size_bytes = 0;
    std::uint16_t next = 0;
    bool away = false;  // with a reader; whoever has the buffer looks at it
  };
  fill& filled(std::uint16_t id) noexcept { return filled_[id]; }

  int alarm_fd() const noexcept { return alarm_.get(); }

 private:
  static constexpr std::uint32_t closed = ~std::uint32_t{0};

  buffer_pool(std::uint32_t buffer_bytes, unique_fd alarm);
  ~buffer_pool();
  void lend(std::uint16_t id) noexcept;
  void drop_shares(std::uint32_t n) noexcept;
  void home(std::uint16_t id) noexcept;

  std::uint32_t size_ = 0;
  std::uint32_t limit_ = buffers_max;
  std::uint32_t buffer_bytes_;
  std::uint32_t away_ = 0;
  std::uint64_t owner_ = 0;  // the number of the thread that attached
  bool attached_ = false;    // looked at by the owner only
  arrival arrived_ = nullptr;
  void* context_ = nullptr;
  unique_fd alarm_;
  std::byte** slabs_;    // by id
  std::uint16_t* free_;  // ids at home, when no engine takes them
  std::uint32_t free_count_ = 0;
  std::uint16_t* next_;  // links of the list below, by id
  fill* filled_;         // by id
  // Who keeps the pool: the engine; a thread inside give_back(); after detach(), each lease.
  std::atomic<std::uint32_t> shares_{1};
  // Ids given back elsewhere. Values: 0 = none; id + 1 of the newest; `closed` = the engine is gone.
  std::atomic<std::uint32_t> remote_{0};
  std::atomic<bool> starving_{false};
};

// Received bytes in a buffer of the pool, or, when those are scarce, in memory of their own. A resource:
// gives the buffer back when it goes. Movable, any thread. An empty lease is the end of the stream.
class buffer_lease {
 public:
  buffer_lease() noexcept = default;
  buffer_lease(buffer_pool& pool, std::uint16_t id, std::uint32_t size_bytes) noexcept
      : origin_(&pool), data_(pool.data(id)), size_(size_bytes), id_(id) {}
  buffer_lease(buffer_lease&& other) noexcept { take_over(other); }
  buffer_lease& operator=(buffer_lease&& other) noexcept {
    if (this == &other) return *this;
    reset();
    take_over(other);
    return *this;
  }
  ~buffer_lease() { reset(); }

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  const std::byte* data() const noexcept { return data_; }
  const_byte_span bytes() const noexcept { return {data_, size_}; }
  std::string_view text() const noexcept { return as_text(bytes()); }
  operator const_byte_span() const noexcept { return bytes(); }

  // The first `n` bytes are done with. REQUIRES: n <= size()
  void remove_prefix(std::size_t n) noexcept;
  // Gives the buffer back now.
  void reset() noexcept;
  // Gives the buffer back and keeps a copy of the bytes. Without memory for that, nothing changes.
  void keep_copy() noexcept;

 private:
  friend class buffer_queue;
  static buffer_lease new_copy(const_byte_span first, std::size_t room) noexcept;
  void take_over(buffer_lease& other) noexcept;

  void* origin_ = nullptr;  // the pool, or memory of its own
  const std::byte* data_ = nullptr;
  std::uint32_t size_ = 0;
  std::uint16_t id_ = 0;
  bool own_memory_ = false;
};

// Filled buffers of one stream that nobody has looked at yet, first come first. Its links live in the pool. A
// resource.
class buffer_queue {
 public:
  explicit buffer_queue(buffer_pool& pool) noexcept : pool_(pool) {}
  buffer_queue(const buffer_queue&) = delete;
  buffer_queue& operator=(const buffer_queue&) = delete;
  ~buffer_queue() {
    while (!empty()) pop();
  }

  bool empty() const noexcept { return count_ == 0; }
  std::uint32_t count() const noexcept { return count_; }
  void push(std::uint16_t id, std::uint32_t size_bytes) noexcept;
  // REQUIRES: !empty()
  buffer_lease pop() noexcept;
  // Makes `first` and what the buffers hold one piece of memory, and gives the buffers back. Without memory
  // for that, nothing changes. REQUIRES: !empty()
  void join(buffer_lease& first) noexcept;

 private:
  buffer_pool& pool_;
  std::uint32_t count_ = 0;
  std::uint16_t first_ = 0;
  std::uint16_t last_ = 0;
};

}  // namespace keel::kevent_sys
