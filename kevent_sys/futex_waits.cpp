#include "futex_waits.hpp"

#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <ctime>
#include <mutex>
#include <new>

namespace keel::kevent_sys {
namespace {

constexpr long syscall_futex_waitv = 449;           // Linux 5.16
constexpr std::uint32_t shared_word = 0x2;          // FUTEX_32
constexpr std::uint32_t private_word = 0x80 | 0x2;  // FUTEX_PRIVATE_FLAG, FUTEX_32

// One element of the vector, as the kernel lays it out.
struct wait_entry {
  std::uint64_t value;
  std::uint64_t address;
  std::uint32_t flags;
  std::uint32_t reserved;
};

wait_entry entry_for(const void* word, std::uint32_t value, std::uint32_t flags = private_word) noexcept {
  return {value, reinterpret_cast<std::uintptr_t>(word), flags, 0};
}

std::uint32_t load(const void* word) noexcept {
  return __atomic_load_n(static_cast<const std::uint32_t*>(word), __ATOMIC_ACQUIRE);
}

long wait_for_any(const wait_entry* entries, std::uint32_t count, const timespec* until) noexcept {
  const long value = ::syscall(syscall_futex_waitv, entries, count, 0, until, CLOCK_MONOTONIC);
  return value < 0 ? -errno : value;
}

}  // namespace

struct futex_waits::state {
  struct slot {
    operation* op = nullptr;
    const void* word = nullptr;
    std::uint32_t value = 0;
    std::uint32_t flags = 0;  // of its entry
    bool woken = false;
    bool leaving = false;  // the thread lets go of the word
  };

  slot* find(const operation& op) noexcept {
    const auto end = slots + used;
    const auto at = std::find_if(slots, end, [&](const slot& s) { return s.op == &op; });
    return at == end ? nullptr : at;
  }
  bool start(futex_waits& owner) noexcept;
  void run(futex_waits& owner) noexcept;
  // True when some are newly woken. `index`: of the entry that the kernel names, or none.
  bool note_woken(const wait_entry* entries, std::uint32_t count, long index) noexcept;
  // The thread has to look at the slots again.
  void poke() noexcept {
    __atomic_fetch_add(&control, 1, __ATOMIC_SEQ_CST);
    ::syscall(SYS_futex, &control, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }

  // From here on a change of a word ends no wait that has just begun.
  void wait_until_armed() noexcept {
    const std::uint32_t wanted = __atomic_load_n(&control, __ATOMIC_SEQ_CST);
    for (std::uint32_t now = armed.load(); static_cast<std::int32_t>(now - wanted) < 0; now = armed.load())
      armed.wait(now);
  }

  std::mutex mutex;
  slot slots[futexes_max];  // guarded by the mutex, as is what their words point to
  std::uint32_t used = 0;   // of the slots
  bool stopping = false;
  std::uint32_t control = 0;
  std::atomic<std::uint32_t> armed{0};  // `control` as it was when the thread last began to wait
  pthread_t thread{};
  pid_t process = 0;
};

futex_waits::futex_waits(void (*bell)(void* context) noexcept, void* context) noexcept
    : bell_(bell), context_(context) {}

futex_waits::~futex_waits() {
  if (state_ == nullptr) return;
  // A child of fork() has no such thread.
  if (state_->process == ::getpid()) {
    {
      const std::lock_guard lock(state_->mutex);
      KEEL_ASSERT(state_->used == 0, "an engine was destroyed while a futex is waited for");
      state_->stopping = true;
    }
    state_->poke();
    ::pthread_join(state_->thread, nullptr);
  }
  delete state_;
}

bool futex_waits::state::start(futex_waits& owner) noexcept {
  // Signals are for the threads of the program.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  process = ::getpid();
  owner.state_ = this;
  const auto body = [](void* self) -> void* {
    auto& waits = *static_cast<futex_waits*>(self);
    waits.state_->run(waits);
    return nullptr;
  };
  const int error = ::pthread_create(&thread, nullptr, body, &owner);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (error != 0) owner.state_ = nullptr;
  return error == 0;
}

int futex_waits::add(operation& op) noexcept {
  const auto* word = static_cast<const std::uint32_t*>(op.asked.data);
  const auto value = static_cast<std::uint32_t>(op.asked.offset);
  // Asks what the kernel thinks of the word, without waiting for it.
  const std::uint32_t flags = (op.asked.flags & futex_shared) != 0 ? shared_word : private_word;
  const wait_entry entry = entry_for(word, value, flags);
  const timespec long_ago{0, 0};
  const long asked = wait_for_any(&entry, 1, &long_ago);
  // A sandbox that does not know the call says EPERM.
  if (asked == -EPERM) return -ENOSYS;
  if (asked != -ETIMEDOUT) return asked >= 0 ? 0 : static_cast<int>(asked);
  if (state_ == nullptr) {
    auto* made = new (std::nothrow) state;
    if (made == nullptr) return -ENOMEM;
    if (!made->start(*this)) {
      delete made;
      return -EAGAIN;
    }
  }
  {
    const std::lock_guard lock(state_->mutex);
    if (state_->used == futexes_max) return -ENOSPC;
    state_->slots[state_->used++] = {&op, word, value, flags};
  }
  state_->poke();
  state_->wait_until_armed();
  return -EINPROGRESS;
}

bool futex_waits::remove(operation& op) noexcept {
  if (state_ == nullptr) return false;
  {
    const std::lock_guard lock(state_->mutex);
    state::slot* at = state_->find(op);
    if (at == nullptr || at->woken) return false;
    at->leaving = true;
  }
  // The thread notes who was told that somebody was woken; from then on nobody who wakes the word is told so.
  state_->poke();
  state_->wait_until_armed();
  const std::lock_guard lock(state_->mutex);
  state::slot* at = state_->find(op);
  if (at->woken) return false;
  *at = state_->slots[--state_->used];
  return true;
}

operation* futex_waits::take_woken() noexcept {
  const std::lock_guard lock(state_->mutex);
  for (std::uint32_t i = 0; i < state_->used; ++i) {
    if (!state_->slots[i].woken) continue;
    operation* op = state_->slots[i].op;
    // Those behind keep their order: they are looked at in turn.
    std::copy(state_->slots + i + 1, state_->slots + state_->used, state_->slots + i);
    --state_->used;
    return op;
  }
  news_.store(false, std::memory_order_release);
  return nullptr;
}

bool futex_waits::state::note_woken(const wait_entry* entries, std::uint32_t count, long index) noexcept {
  bool some = false;
  const std::uint64_t named = index > 0 && index < count ? entries[index].address : 0;
  bool found = named == 0;
  for (std::uint32_t i = 0; i < used; ++i) {
    slot& s = slots[i];
    if (s.woken) continue;
    // Of several that wait for one word, the kernel woke one.
    const bool this_one = !found && reinterpret_cast<std::uintptr_t>(s.word) == named;
    found = found || this_one;
    s.woken = this_one || load(s.word) != s.value;
    some = some || s.woken;
  }
  return some;
}

void futex_waits::state::run(futex_waits& owner) noexcept {
  wait_entry entries[futexes_max + 1];
  long index = -EAGAIN;
  std::uint32_t count = 0;
  for (;;) {
    bool some = false;
    {
      const std::lock_guard lock(mutex);
      some = note_woken(entries, count, index);
      if (some) owner.news_.store(true, std::memory_order_release);
      if (stopping) return;
      entries[0] = entry_for(&control, __atomic_load_n(&control, __ATOMIC_SEQ_CST));
      count = 1;
      for (std::uint32_t i = 0; i < used; ++i)
        if (!slots[i].woken && !slots[i].leaving)
          entries[count++] = entry_for(slots[i].word, slots[i].value, slots[i].flags);
    }
    if (some) owner.bell_(owner.context_);
    armed.store(static_cast<std::uint32_t>(entries[0].value));
    armed.notify_all();
    index = wait_for_any(entries, count, nullptr);
  }
}

}  // namespace keel::kevent_sys
