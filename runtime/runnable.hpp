// What a scheduler's loop runs.
#pragma once

#include <cstdint>

namespace keel {

// Something to be run once by a scheduler's loop. Part of whatever wants it.
struct runnable {
  using function = void (*)(runnable& self) noexcept;
  explicit runnable(function f) noexcept : run(f) {}

  function run;
  runnable* next_ready = nullptr;
};

// A FIFO of what is ready. INVARIANT: last_ is meaningful when first_ is not null.
class ready_queue {
 public:
  bool empty() const noexcept { return first_ == nullptr; }
  void push(runnable& r) noexcept {
    r.next_ready = nullptr;
    (first_ == nullptr ? first_ : last_->next_ready) = &r;
    last_ = &r;
  }
  runnable& pop() noexcept {
    runnable& r = *first_;
    first_ = r.next_ready;
    return r;
  }

 private:
  runnable* first_ = nullptr;
  runnable* last_ = nullptr;
};

// Which of those that are ready run first: shares of a scheduler's turns, not an order. See
// scheduler::run_ready.
enum class priority : std::uint8_t { latency, normal, batch };
inline constexpr unsigned priority_count = 3;

}  // namespace keel
