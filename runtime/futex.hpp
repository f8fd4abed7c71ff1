// Waiting for a 32-bit word in memory, as futex(2) does it: what synchronises tasks with threads, or with
// other processes.
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/operation_awaiter.hpp>

#include <atomic>
#include <cstdint>

namespace keel {

// Who else knows the word.
enum class futex_scope : std::uint8_t {
  process,  // threads of this process
  shared,   // other processes, too: it lies in a shared mapping
};

// What futex_wait returns.
class futex_op : public operation_awaiter {
 public:
  futex_op(const std::atomic<std::uint32_t>& word, std::uint32_t expected, futex_scope scope) noexcept;
  result<void> take() const noexcept;
};

// Waits while `word` holds `expected` until somebody wakes it: futex_wake(), or futex(2) in any thread that
// names the same scope. A word that holds something else already is the same as a wake: success. As with
// every futex a wake says "look again", no more.
//
// std::atomic's notify_one() and notify_all() do not wake it: they make no system call unless a wait() of
// theirs is on. A futex_wake() of futex_scope::shared does wake a std::atomic<std::uint32_t>::wait() of
// libstdc++.
//
// On the epoll engine one thread waits for all words (127 at most, Linux 5.16): there a wake that does not
// change the word may reach nobody, and then says so.
//
// Errors:    operation_canceled; EFAULT; ENOSYS before Linux 6.7 (on epoll before 5.16); ENOSPC on epoll.
// Cancelled: at once; a wake that had this waiter for its target is not lost: the wait succeeds.
// Lifetime:  `word` must live until the co_await returns.
// Threads:   a scheduler's.
[[nodiscard]] futex_op futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                                  futex_scope scope = futex_scope::process) noexcept;

// Wakes up to `count` of those who wait for `word`, tasks and threads alike; how many it woke. Change the
// word first. Any thread.
unsigned futex_wake(const std::atomic<std::uint32_t>& word, unsigned count = 1,
                    futex_scope scope = futex_scope::process) noexcept;

}  // namespace keel
