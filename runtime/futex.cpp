#include <keel/runtime/futex.hpp>

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <climits>

namespace keel {

// The kernel is given the address of the atomic as that of the word.
static_assert(sizeof(std::atomic<std::uint32_t>) == sizeof(std::uint32_t));
static_assert(std::atomic<std::uint32_t>::is_always_lock_free);

futex_op::futex_op(const std::atomic<std::uint32_t>& word, std::uint32_t expected, futex_scope scope) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::futex,
                         .flags = scope == futex_scope::shared ? kevent_sys::futex_shared : 0,
                         .data = &word,
                         .offset = expected}) {}

result<void> futex_op::take() const noexcept {
  // Cancelled when the wake had come: some kernels answer 1 then.
  if (value() >= 0 || value() == -EAGAIN) return {};
  return failure(kernel_error(value()), "wait for a futex");
}

futex_op futex_wait(const std::atomic<std::uint32_t>& word, std::uint32_t expected,
                    futex_scope scope) noexcept {
  return futex_op(word, expected, scope);
}

unsigned futex_wake(const std::atomic<std::uint32_t>& word, unsigned count, futex_scope scope) noexcept {
  const int what = scope == futex_scope::shared ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE;
  const unsigned most = std::min<unsigned>(count, INT_MAX);
  const long woken = ::syscall(SYS_futex, &word, what, most, nullptr, nullptr, 0);
  KEEL_ASSERT(woken >= 0, "futex_wake: the word is no memory of this process");
  return static_cast<unsigned>(woken);
}

}  // namespace keel
