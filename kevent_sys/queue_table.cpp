#include "queue_table.hpp"

#include "readiness_events.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <atomic>
#include <cerrno>
#include <new>
#include <type_traits>

namespace keel::kevent_sys::queue_table {
namespace {

constexpr unsigned slots_per_chunk = 1024;
constexpr unsigned chunks_max = 4096;  // descriptors up to 4 million

// A descriptor number. Visitors add themselves to `inside` and then look at `queue`; a close changes `queue`
// and then waits for `inside` to be 0. Both are sequentially consistent, so one of them sees the other.
//
// Values of `queue`: null = no queue; closing() = a queue that is being closed; else the queue.
struct slot {
  std::atomic<shared_queue*> queue{nullptr};
  std::atomic<std::uint32_t> inside{0};
  std::atomic<std::uint64_t> generation{0};  // of the process that made the queue
};

struct chunk {
  slot slots[slots_per_chunk];
};

// Never freed: a call may come from a destructor that runs after main.
constinit std::atomic<chunk*> chunks[chunks_max] = {};
static_assert(std::is_trivially_destructible_v<std::atomic<chunk*>>);

// The generation of this process in a page that a child of fork() finds wiped, and what it was when it was
// last set: the child counts on from there.
using generation_word = std::atomic<std::uint64_t>;
constinit std::atomic<generation_word*> generation_page{nullptr};
constinit generation_word last_generation{0};

shared_queue* closing() noexcept {
  return reinterpret_cast<shared_queue*>(alignof(shared_queue));
}

slot* find(int fd) noexcept {
  const auto number = static_cast<unsigned>(fd);
  if (number / slots_per_chunk >= chunks_max) return nullptr;
  chunk* in = chunks[number / slots_per_chunk].load(std::memory_order_acquire);
  return in == nullptr ? nullptr : &in->slots[number % slots_per_chunk];
}

slot* find_or_make(int fd) noexcept {
  const unsigned index = static_cast<unsigned>(fd) / slots_per_chunk;
  if (index >= chunks_max) return nullptr;
  if (chunks[index].load(std::memory_order_acquire) == nullptr) {
    auto* made = new (std::nothrow) chunk;
    chunk* expected = nullptr;
    if (made == nullptr) return nullptr;
    if (!chunks[index].compare_exchange_strong(expected, made)) delete made;
  }
  return find(fd);
}

bool is_open(int fd) noexcept {
  return ::fcntl(fd, F_GETFD) >= 0;
}

bool has_queue(const slot& s) noexcept {
  const shared_queue* q = s.queue.load();
  return q != nullptr && q != closing();
}

void leave(slot& s) noexcept {
  if (s.inside.fetch_sub(1) == 1 && s.queue.load() == closing()) s.inside.notify_all();
}

generation_word* page_of_generation() noexcept {
  generation_word* page = generation_page.load(std::memory_order_acquire);
  if (page != nullptr) return page;
  constexpr std::size_t bytes = 4096;
  void* memory = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_PRIVATE, -1, 0);
  if (memory == MAP_FAILED) return &last_generation;  // forks go unnoticed, for want of a page
  ::madvise(memory, bytes, MADV_WIPEONFORK);
  auto* made = ::new (memory) generation_word(0);
  if (generation_page.compare_exchange_strong(page, made)) return made;
  ::munmap(memory, bytes);
  return page;
}

// Of a queue that belongs to the parent: its memory says nothing here. Only the copies of descriptors go.
int close_inherited(slot& s, int fd) noexcept {
  const shared_queue* inherited = s.queue.exchange(nullptr);
  if (inherited->used_engine().hidden_fd() >= 0) ::close(inherited->used_engine().hidden_fd());
  ::close(fd);
  return 0;
}

// Tells the queues that poll `fd`, that it is gone.
void tell_watchers(int fd) noexcept {
  for (unsigned index = 0; index < chunks_max; ++index) {
    if (chunks[index].load(std::memory_order_acquire) == nullptr) continue;
    for (unsigned i = 0; i < slots_per_chunk; ++i) {
      const int other = static_cast<int>(index * slots_per_chunk + i);
      if (!has_queue(*find(other))) continue;
      const visit watcher(other);
      if (watcher.error() == 0) watcher->forget_nested(fd);
    }
  }
}

}  // namespace

std::uint64_t process_generation() noexcept {
  generation_word& word = *page_of_generation();
  const std::uint64_t known = word.load(std::memory_order_acquire);
  if (known != 0) return known;
  const std::uint64_t next = last_generation.load() + 1;
  std::uint64_t expected = 0;
  if (!word.compare_exchange_strong(expected, next)) return expected;
  last_generation.store(next);
  return next;
}

visit::visit(int fd) noexcept : fd_(fd) {
  // Before any lock: in a child of fork() they may be held for ever.
  const std::uint64_t here = process_generation();
  slot* s = fd < 0 ? nullptr : find(fd);
  if (s == nullptr || s->queue.load() == nullptr) {
    error_ = fd >= 0 && is_open(fd) ? -EINVAL : -EBADF;
    return;
  }
  if (s->generation.load() != here) {
    error_ = is_open(fd) ? -EOWNERDEAD : -EBADF;
    return;
  }
  s->inside.fetch_add(1);
  queue_ = s->queue.load();
  if (queue_ != nullptr && queue_ != closing()) return;
  queue_ = nullptr;
  error_ = -EBADF;
  leave(*s);
}

visit::~visit() {
  if (queue_ != nullptr) leave(*find(fd_));
}

int add(shared_queue& made) noexcept {
  slot* s = find_or_make(made.fd());
  if (s == nullptr) return -ENOMEM;
  const std::uint64_t here = process_generation();
  // Left behind by the parent's threads.
  if (s->generation.load() != here) s->inside.store(0);
  s->generation.store(here);
  // A queue whose descriptor was closed behind our back may still be there. Who is inside it cannot be known.
  s->queue.store(&made);
  return 0;
}

int close(int fd) noexcept {
  const std::uint64_t here = process_generation();
  slot* s = fd < 0 ? nullptr : find(fd);
  shared_queue* q = s == nullptr ? nullptr : s->queue.load();
  if (q == nullptr || !is_open(fd)) return fd >= 0 && is_open(fd) ? -EINVAL : -EBADF;
  if (s->generation.load() != here) return close_inherited(*s, fd);
  if (q == closing() || !s->queue.compare_exchange_strong(q, closing())) return -EBADF;
  q->close();
  for (std::uint32_t inside = s->inside.load(); inside != 0; inside = s->inside.load())
    s->inside.wait(inside);
  if (poll_event::watched_queues() != 0) tell_watchers(fd);
  delete q;
  // Another thread may have a new queue with this number by now.
  shared_queue* expected = closing();
  s->queue.compare_exchange_strong(expected, nullptr);
  return 0;
}

bool is_queue(int fd) noexcept {
  const slot* s = fd < 0 ? nullptr : find(fd);
  return s != nullptr && has_queue(*s) && s->generation.load() == process_generation();
}

}  // namespace keel::kevent_sys::queue_table
