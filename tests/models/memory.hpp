// What the threads of a model share: atomics with the orders of C++, locks, sleeping, and plain memory in
// which a data race is a failure.
#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <cstring>

#include "models/explorer.hpp"

namespace keel::test {
namespace detail {

// Atomics, as words. Each access is a step.
class word {
 public:
  explicit word(std::uint64_t first);
  word(const word&) = delete;
  word& operator=(const word&) = delete;

  std::uint64_t newest() const noexcept { return location(index_).stores.back().value; }

 protected:
  using change = std::uint64_t (*)(std::uint64_t old, std::uint64_t operand);

  std::uint64_t load_word(std::memory_order order) const;
  void store_word(std::uint64_t value, std::memory_order order);
  std::uint64_t change_word(const char* what, change how, std::uint64_t operand, std::memory_order order);
  bool compare_exchange_word(std::uint64_t& expected, std::uint64_t wanted, std::memory_order success,
                             std::memory_order failure);

 private:
  void push(std::uint64_t value, std::memory_order order, const view* read);
  void read_newest(std::memory_order order) const;

  unsigned index_;
};

}  // namespace detail

// std::atomic<T>, with what models need of it.
template <class T>
class atomic : public detail::word {
 public:
  atomic() : atomic(T()) {}
  atomic(T first) : word(bits(first)) {}  // NOLINT: as std::atomic

  T load(std::memory_order order = std::memory_order_seq_cst) const { return value(load_word(order)); }
  void store(T wanted, std::memory_order order = std::memory_order_seq_cst) {
    store_word(bits(wanted), order);
  }
  T exchange(T wanted, std::memory_order order = std::memory_order_seq_cst) {
    const auto take = [](std::uint64_t, std::uint64_t operand) { return operand; };
    return value(change_word("exchanges", take, bits(wanted), order));
  }
  bool compare_exchange_strong(T& expected, T wanted, std::memory_order success = std::memory_order_seq_cst,
                               std::memory_order failure = std::memory_order_relaxed) {
    std::uint64_t is = bits(expected);
    const bool done = compare_exchange_word(is, bits(wanted), success, failure);
    expected = value(is);
    return done;
  }
  // It fails for no reason in no schedule: its callers turn in a loop, and would only do the same again.
  bool compare_exchange_weak(T& expected, T wanted, std::memory_order success = std::memory_order_seq_cst,
                             std::memory_order failure = std::memory_order_relaxed) {
    return compare_exchange_strong(expected, wanted, success, failure);
  }
  T fetch_add(T operand, std::memory_order order = std::memory_order_seq_cst) {
    const auto add = [](std::uint64_t old, std::uint64_t by) {
      return bits(static_cast<T>(value(old) + value(by)));
    };
    return value(change_word("adds to", add, bits(operand), order));
  }
  T fetch_sub(T operand, std::memory_order order = std::memory_order_seq_cst) {
    const auto subtract = [](std::uint64_t old, std::uint64_t by) {
      return bits(static_cast<T>(value(old) - value(by)));
    };
    return value(change_word("subtracts from", subtract, bits(operand), order));
  }
  // What was stored last: for checks, and for what the kernel does.
  T now() const noexcept { return value(newest()); }

 private:
  static std::uint64_t bits(T v) noexcept {
    static_assert(sizeof(T) <= sizeof(std::uint64_t));
    std::uint64_t all = 0;
    std::memcpy(&all, &v, sizeof v);
    return all;
  }
  static T value(std::uint64_t all) noexcept {
    T v;
    std::memcpy(&v, &all, sizeof v);
    return v;
  }
};

// std::atomic_thread_fence.
void fence(std::memory_order order);

// For code that is a template over its atomics.
struct model_atomics {
  template <class T>
  using atomic = test::atomic<T>;
};

// The kernel compares and goes to sleep in one. False: the word holds something else.
bool futex_wait(const atomic<std::uint32_t>& word, std::uint32_t expected);
void futex_wake(const atomic<std::uint32_t>& word, unsigned most);

// Finds accesses that no synchronisation orders. Not a step: where there is no race, they need no schedules.
class race_detector {
 public:
  void read() const;
  void write();

 private:
  mutable std::array<std::uint16_t, detail::threads_max + 1> read_{};
  unsigned writer_ = detail::this_thread();
  std::uint16_t written_ = detail::known().clock[writer_];
};

// Memory that is not atomic.
template <class T>
class plain {
 public:
  plain() = default;
  plain(T first) : value_(first) {}  // NOLINT: stands for a T
  plain(const plain& other) : value_(other) {}
  plain& operator=(const plain& other) { return *this = static_cast<T>(other); }
  plain& operator=(T wanted) {
    races_.write();
    value_ = wanted;
    return *this;
  }
  operator T() const {
    races_.read();
    return value_;
  }
  T operator->() const { return *this; }

 private:
  T value_ = T();
  race_detector races_;
};

class mutex {
 public:
  void lock();
  bool try_lock();
  void unlock();

 private:
  friend class condition_variable;
  bool locked_ = false;
  detail::view released_;
};

class condition_variable {
 public:
  void wait(mutex& lock) { (void)wait(lock, false); }
  // Gives up in one schedule and waits in the other. False: in vain.
  bool wait_or_give_up(mutex& lock) { return wait(lock, true); }
  void notify_one() { notify(1); }
  void notify_all() { notify(detail::threads_max); }

 private:
  struct sleeper {
    condition_variable* at;
    mutex* lock;
    bool notified;
    bool gives_up;
  };
  bool wait(mutex& lock, bool may_give_up);
  void notify(unsigned most);

  std::array<sleeper*, detail::threads_max> sleepers_{};  // in the order of arrival
  unsigned count_ = 0;
};

// An eventfd, the wake of an engine: rung before the wait, it ends that. One wait hears all rings before it.
class bell {
 public:
  void ring();
  void wait();
  // Does not wait. False: it was not rung.
  bool hear();

 private:
  bool rung_ = false;
  detail::view released_;
};

// The others go first, if they can.
void yield();

}  // namespace keel::test
