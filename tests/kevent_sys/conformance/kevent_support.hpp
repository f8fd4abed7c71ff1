// What the tests of the kevent calls share: queues and rings that end with their scope, makers of ukevents,
// clocks, and threads that sleep in a call.
#pragma once

#include <doctest/doctest.h>
#include <keel/kevent_sys/kevent.h>

#include <poll.h>
#include <unistd.h>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace keel::test {

inline bool on_epoll() {
  const char* engine = std::getenv("KEEL_ENGINE");
  return engine != nullptr && std::string_view(engine) == "epoll";
}

inline constexpr timespec no_wait{0, 0};
inline constexpr timespec for_ever{-1, 0};
inline constexpr timespec patience{20, 0};

constexpr timespec milliseconds(long n) {
  return {n / 1000, n % 1000 * 1'000'000};
}

inline std::int64_t now_ns(clockid_t clock = CLOCK_MONOTONIC) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return std::int64_t(now.tv_sec) * 1'000'000'000 + now.tv_nsec;
}

// A point of CLOCK_REALTIME.
inline timespec realtime_in(long ms) {
  const std::int64_t at = now_ns(CLOCK_REALTIME) + std::int64_t(ms) * 1'000'000;
  return {static_cast<time_t>(at / 1'000'000'000), static_cast<long>(at % 1'000'000'000)};
}

// Time that passes outside of any queue.
inline void let_pass(int ms) {
  ::poll(nullptr, 0, ms);
}

class stopwatch {
 public:
  std::int64_t elapsed_ms() const { return (now_ns() - start_) / 1'000'000; }

 private:
  std::int64_t start_ = now_ns();
};

inline constexpr std::uint32_t done = KEVENT_RET_DONE;
inline constexpr std::uint32_t done_and_broken = KEVENT_RET_DONE | KEVENT_RET_BROKEN;

inline ukevent event_of(std::uint32_t type, std::uint32_t id, std::uint32_t mask, std::uint32_t flags = 0) {
  ukevent event{};
  event.id.raw[0] = id;
  event.type = type;
  event.event = mask;
  event.req_flags = flags;
  return event;
}
inline ukevent socket_event(int fd, std::uint32_t mask, std::uint32_t flags = 0) {
  return event_of(KEVENT_SOCKET, std::uint32_t(fd), mask, flags);
}
inline ukevent pipe_event(int fd, std::uint32_t mask, std::uint32_t flags = 0) {
  return event_of(KEVENT_PIPE, std::uint32_t(fd), mask, flags);
}
inline ukevent poll_event(int fd, std::uint32_t mask, std::uint32_t flags = 0) {
  return event_of(KEVENT_POLL, std::uint32_t(fd), mask, flags);
}
inline ukevent unotify_event(std::uint64_t id, std::uint32_t flags = 0) {
  ukevent event = event_of(KEVENT_UNOTIFY, 0, 1, flags);
  event.id.raw_u64 = id;
  return event;
}
inline ukevent timer_event(std::uint32_t ms, std::uint32_t flags = 0) {
  ukevent event = event_of(KEVENT_TIMER, ms / 1000, KEVENT_TIMER_FIRED, flags);
  event.id.raw[1] = ms % 1000 * 1'000'000;
  return event;
}
inline ukevent with_cookie(ukevent event, std::uint32_t low, std::uint32_t high = 0) {
  event.user[0] = low;
  event.user[1] = high;
  return event;
}
inline ukevent with_pointer(ukevent event, void* ptr) {
  event.ptr = ptr;
  return event;
}

inline int error_of(const ukevent& event) {
  return static_cast<int>(event.ret_data[1]);
}
inline bool same_key(const ukevent& a, const ukevent& b) {
  return a.type == b.type && a.id.raw_u64 == b.id.raw_u64;
}
inline bool same_bytes(const ukevent& a, const ukevent& b) {
  return std::memcmp(&a, &b, sizeof a) == 0;
}

// The memory of a ring: in C++ struct kevent_ring has no name for its entries.
class event_ring {
 public:
  explicit event_ring(unsigned size) : size_(size), words_(1 + 5 * std::size_t(size)) {}

  kevent_ring* get() { return reinterpret_cast<kevent_ring*>(words_.data()); }
  unsigned size() const { return size_; }
  // With acquire order: the entries before it are complete.
  unsigned kidx() { return std::atomic_ref(get()->ring_kidx).load(std::memory_order_acquire); }
  unsigned over() { return std::atomic_ref(get()->ring_over).load(std::memory_order_acquire); }
  ukevent& operator[](unsigned index) { return reinterpret_cast<ukevent*>(words_.data() + 1)[index]; }
  const std::vector<std::uint64_t>& words() const { return words_; }
  std::vector<std::uint64_t>& words() { return words_; }

 private:
  unsigned size_;
  std::vector<std::uint64_t> words_;
};

// A queue that kevent_close ends. The plain calls stand for themselves; what is named here says more.
class event_queue {
 public:
  event_queue() : fd_(::kevent_init(nullptr, 0, 0)) { REQUIRE(fd_ >= 0); }
  explicit event_queue(event_ring& ring) : fd_(::kevent_init(ring.get(), ring.size(), 0)) {
    REQUIRE(fd_ >= 0);
  }
  event_queue(event_queue&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  event_queue& operator=(event_queue&&) = delete;
  ~event_queue() { close(); }

  int fd() const { return fd_; }
  int close() { return fd_ < 0 ? 0 : ::kevent_close(std::exchange(fd_, -1)); }
  // For who has closed it by hand.
  void forget() { fd_ = -1; }

  int ctl(unsigned command, std::vector<ukevent>& events) const {
    return ::kevent_ctl(fd_, command, static_cast<unsigned>(events.size()), events.data());
  }
  int add(ukevent event) const { return ::kevent_ctl(fd_, KEVENT_CTL_ADD, 1, &event); }
  // What ADD hands back.
  ukevent handed_back(ukevent event) const {
    REQUIRE(::kevent_ctl(fd_, KEVENT_CTL_ADD, 1, &event) == 1);
    return event;
  }
  // The entry as the call leaves it.
  ukevent remove(ukevent event) const {
    REQUIRE(::kevent_ctl(fd_, KEVENT_CTL_REMOVE, 1, &event) == 0);
    return event;
  }
  ukevent modify(ukevent event) const {
    REQUIRE(::kevent_ctl(fd_, KEVENT_CTL_MODIFY, 1, &event) == 0);
    return event;
  }
  int ready(ukevent event) const { return ::kevent_ctl(fd_, KEVENT_CTL_READY, 1, &event); }
  int wake_one() const { return ::kevent_ctl(fd_, KEVENT_CTL_READY, 0, nullptr); }

  std::vector<ukevent> get(unsigned min_nr, unsigned max_nr, timespec timeout, unsigned flags = 0) const {
    std::vector<ukevent> events(max_nr);
    const int n = ::kevent_get_events(fd_, min_nr, max_nr, timeout, events.data(), flags);
    REQUIRE(n >= 0);
    REQUIRE(n <= static_cast<int>(max_nr));
    events.resize(std::size_t(n));
    return events;
  }
  // The next event; it wakes the call, and is not only found when the timeout makes the call look.
  ukevent next() const {
    const stopwatch time;
    const std::vector<ukevent> events = get(1, 1, patience);
    REQUIRE(events.size() == 1);
    CHECK(time.elapsed_ms() < 15'000);
    return events[0];
  }
  // Whether nothing comes, for a while.
  bool silent(long ms = 15) const { return get(1, 64, milliseconds(ms)).empty(); }
  std::size_t ready_now() const { return get(0, 64, no_wait).size(); }

  int wait(unsigned num, unsigned old_uidx, timespec timeout) const {
    return ::kevent_wait(fd_, num, old_uidx, timeout, 0);
  }
  int commit(unsigned new_uidx, unsigned over) const { return ::kevent_commit(fd_, new_uidx, over); }

 private:
  int fd_;
};

// Registers `count` user events with ids 1, 2, ... and makes them ready in that order.
inline void make_ready(const event_queue& queue, unsigned count, std::uint32_t flags = 0) {
  for (unsigned id = 1; id <= count; ++id) {
    REQUIRE(queue.add(unotify_event(id, flags)) == 0);
    REQUIRE(queue.ready(unotify_event(id)) == 1);
  }
}

// What poll(2) says of one descriptor.
inline short polled(int fd, short events = POLLIN | POLLRDNORM, int timeout_ms = 0) {
  pollfd entry{fd, events, 0};
  ::poll(&entry, 1, timeout_ms);
  return entry.revents;
}

// Takes all bytes that are there; returns how many.
inline std::size_t drain(int fd) {
  std::size_t total = 0;
  char buffer[65536];
  for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;) total += std::size_t(n);
  return total;
}
// Writes until nothing fits any more; returns how much did.
inline std::size_t fill(int fd, std::size_t step = 4096) {
  const std::string bytes(step, 'f');
  std::size_t total = 0;
  for (ssize_t n = 0; (n = ::write(fd, bytes.data(), bytes.size())) > 0;) total += std::size_t(n);
  return total;
}

inline bool thread_sleeps(pid_t thread) {
  const std::string path = "/proc/self/task/" + std::to_string(thread) + "/stat";
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return false;
  char text[512] = {};
  const std::size_t size = std::fread(text, 1, sizeof text - 1, file);
  std::fclose(file);
  const std::string_view stat(text, size);
  const std::size_t end_of_name = stat.rfind(')');
  return end_of_name != stat.npos && end_of_name + 2 < size && stat[end_of_name + 2] == 'S';
}

// A thread that makes one call which sleeps.
class sleeping_call {
 public:
  template <class Call>
  explicit sleeping_call(Call call)
      : thread_([this, call] {
          thread_id_ = ::gettid();
          answer_ = call();
          returned_after_ms_ = since_.elapsed_ms();
          returned_ = true;
        }) {}
  sleeping_call(const sleeping_call&) = delete;
  sleeping_call& operator=(const sleeping_call&) = delete;
  ~sleeping_call() { join(); }

  // Until it was seen asleep several times in a row, or has returned already.
  void wait_until_asleep() const {
    for (int tries = 0, seen = 0; tries < 10'000 && seen < 4 && !returned_; ++tries) {
      seen = thread_id_ != 0 && thread_sleeps(thread_id_) ? seen + 1 : 0;
      let_pass(1);
    }
  }
  bool returned() const { return returned_; }
  int answer() {
    join();
    return answer_;
  }
  std::int64_t returned_after_ms() {
    join();
    return returned_after_ms_;
  }
  std::thread::native_handle_type handle() { return thread_.native_handle(); }

 private:
  void join() {
    if (thread_.joinable()) thread_.join();
  }

  stopwatch since_;
  std::atomic<pid_t> thread_id_ = 0;
  std::atomic<bool> returned_ = false;
  int answer_ = 0;
  std::int64_t returned_after_ms_ = 0;
  std::thread thread_;
};

}  // namespace keel::test
