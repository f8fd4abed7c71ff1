// Lists whose links live in their elements: nothing is allocated, removal is O(1).
#pragma once

#include <keel/base/assert.hpp>

#include <cstddef>

namespace keel {

// The links of an element of intrusive_list. An element is in at most one list per hook.
class list_hook {
 public:
  list_hook() noexcept = default;
  // Links are places, not values: a copy starts outside any list.
  list_hook(const list_hook&) noexcept {}
  list_hook& operator=(const list_hook&) noexcept { return *this; }
  ~list_hook() { KEEL_ASSERT(!linked(), "an element was destroyed while it is in a list"); }

  bool linked() const noexcept { return next_ != nullptr; }

  // Takes the element out of its list, if it is in one.
  void unlink() noexcept {
    if (!linked()) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    next_ = previous_ = nullptr;
  }

 private:
  template <class T>
  friend class intrusive_list;

  list_hook* next_ = nullptr;
  list_hook* previous_ = nullptr;
};

// A FIFO of elements derived from list_hook. Does not own them.
//
// INVARIANT: circular through head_; empty when head_ points at itself.
// Thread safety: none.
template <class T>
class intrusive_list {
 public:
  intrusive_list() noexcept { head_.next_ = head_.previous_ = &head_; }
  intrusive_list(const intrusive_list&) = delete;
  intrusive_list& operator=(const intrusive_list&) = delete;
  ~intrusive_list() {
    KEEL_ASSERT(empty(), "a list was destroyed with elements in it");
    head_.next_ = head_.previous_ = nullptr;
  }

  bool empty() const noexcept { return head_.next_ == &head_; }

  void push_back(T& element) noexcept {
    list_hook& hook = element;
    KEEL_ASSERT(!hook.linked());
    hook.previous_ = head_.previous_;
    hook.next_ = &head_;
    head_.previous_->next_ = &hook;
    head_.previous_ = &hook;
  }

  // REQUIRES: !empty()
  T& front() noexcept {
    KEEL_ASSERT(!empty());
    return static_cast<T&>(*head_.next_);
  }
  const T& front() const noexcept {
    KEEL_ASSERT(!empty());
    return static_cast<const T&>(*head_.next_);
  }

  T& pop_front() noexcept {
    T& element = front();
    static_cast<list_hook&>(element).unlink();
    return element;
  }

  // The element after `element`, or null at the end.
  T* next(T& element) noexcept {
    list_hook* hook = static_cast<list_hook&>(element).next_;
    return hook == &head_ ? nullptr : static_cast<T*>(hook);
  }
  const T* next(const T& element) const noexcept {
    const list_hook* hook = static_cast<const list_hook&>(element).next_;
    return hook == &head_ ? nullptr : static_cast<const T*>(hook);
  }

  // Moves all elements of `other` to the end of this list.
  void splice_back(intrusive_list& other) noexcept {
    if (other.empty()) return;
    list_hook* first = other.head_.next_;
    list_hook* last = other.head_.previous_;
    other.head_.next_ = other.head_.previous_ = &other.head_;
    first->previous_ = head_.previous_;
    head_.previous_->next_ = first;
    last->next_ = &head_;
    head_.previous_ = last;
  }

 private:
  list_hook head_;
};

}  // namespace keel
