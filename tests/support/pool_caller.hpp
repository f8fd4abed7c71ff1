// The side of a blocking pool that an engine has, without an engine; and functions that block as told.
#pragma once

#include <doctest/doctest.h>
#include <keel/kevent_sys/engine_calls.hpp>

#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>

namespace keel::test {

inline constexpr auto patience = std::chrono::seconds(20);

// Holds up whoever passes, until it is opened.
class gate {
 public:
  static std::int32_t pass(void* self) noexcept { return static_cast<gate*>(self)->pass(); }

  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // Waits until so many stand at the gate or have passed it.
  bool wait_for(int count) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [&] { return count_ >= count; });
  }
  int count() {
    const std::lock_guard lock(mutex_);
    return count_;
  }

 private:
  std::int32_t pass() {
    std::unique_lock lock(mutex_);
    ++count_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    return count_;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  int count_ = 0;
};

struct pool_call : kevent_sys::blocking_call, kevent_sys::operation {
  explicit pool_call(const kevent_sys::blocking_call& what)
      : blocking_call(what),
        operation({.code = kevent_sys::opcode::call, .data = static_cast<blocking_call*>(this)}, nullptr) {}
  int answers = 0;
  int value = 0;
  int place = 0;  // among all answers of its caller
};

class pool_caller {
 public:
  explicit pool_caller(kevent_sys::blocking_pool* pool = nullptr) : calls(pool, &woken, this) {}

  void submit(pool_call& call) { calls.submit(call); }
  void collect() {
    calls.collect([this](kevent_sys::operation& op, int value) {
      auto& call = static_cast<pool_call&>(op);
      ++call.answers;
      call.value = value;
      call.place = ++answers;
    });
  }
  // Sleeps like an engine: until it is woken, and in no other way. False after 20 seconds in vain.
  template <class Done>
  bool turn_until(Done done) {
    for (collect(); !done(); collect()) {
      std::unique_lock lock(mutex_);
      if (!rang_.wait_for(lock, patience, [&] { return wakes_ != 0; })) return false;
      wakes_ = 0;
    }
    return true;
  }
  bool finish(pool_call& call) {
    return turn_until([&] { return call.answers != 0; });
  }

  int answers = 0;

 private:
  static void woken(void* self) noexcept {
    auto& me = *static_cast<pool_caller*>(self);
    const std::lock_guard lock(me.mutex_);
    ++me.wakes_;
    me.rang_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable rang_;
  int wakes_ = 0;

 public:
  kevent_sys::engine_calls calls;  // the first to go: until then it may be woken
};

}  // namespace keel::test
