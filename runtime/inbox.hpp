// Messages from any thread to one, and the sleep of the one who takes them.
#pragma once

#include <atomic>
#include <cstdint>

namespace keel {

// What a protocol between threads is made of. The models of tests/models put atomics in its place that they
// can schedule.
struct std_atomics {
  template <class T>
  using atomic = std::atomic<T>;
};

// A list that any thread pushes into and the owner takes as a whole. `Node` has a member `next`, which
// belongs to the inbox from push() until the node was taken.
//
// Sleep protocol: a sender pushes, then looks at asleep_; the owner sets asleep_, then looks at the list. All
// four are sequentially consistent, so one of them sees the other. asleep_ values: 0 awake, or woken already;
// 1 sleeping or about to.
//
// INVARIANT: while the owner sleeps and the list is not empty, one sender has got `true` and wakes it.
// Thread safety: push() any thread, the rest the owner's.
template <class Node, class Atomics = std_atomics>
class inbox {
 public:
  inbox() noexcept = default;
  inbox(const inbox&) = delete;
  inbox& operator=(const inbox&) = delete;

  // True: the owner sleeps, and the caller has to wake it. `n` may be gone when this returns.
  [[nodiscard]] bool push(Node& n) noexcept {
    Node* head = head_.load(std::memory_order_relaxed);
    do {
      n.next = head;
    } while (!head_.compare_exchange_weak(head, &n, std::memory_order_seq_cst, std::memory_order_relaxed));
    // An awake owner looks by itself; a sleeping one is woken by the first of us.
    return asleep_.load(std::memory_order_seq_cst) != 0 &&
           asleep_.exchange(0, std::memory_order_seq_cst) != 0;
  }

  // Everything that was pushed, linked by `next`, the pushes of one thread in their order; or null. Whoever
  // delivers reads `next` before: a delivered node may be pushed again at once.
  Node* take_all() noexcept {
    if (head_.load(std::memory_order_relaxed) == nullptr) return nullptr;
    Node* newest = head_.exchange(nullptr, std::memory_order_acquire);
    Node* oldest = nullptr;
    while (newest != nullptr) {
      Node* next = newest->next;
      newest->next = oldest;
      oldest = newest;
      newest = next;
    }
    return oldest;
  }

  // From here on a push wakes. False: there is something to take, so the caller must not sleep.
  [[nodiscard]] bool announce_sleep() noexcept {
    asleep_.store(1, std::memory_order_seq_cst);
    return head_.load(std::memory_order_seq_cst) == nullptr;
  }

  // After the sleep, whoever ended it.
  void awake() noexcept { asleep_.store(0, std::memory_order_relaxed); }

 private:
  typename Atomics::template atomic<Node*> head_{nullptr};
  typename Atomics::template atomic<std::uint32_t> asleep_{0};
};

}  // namespace keel
