// A queue of values that grows and never moves what is in it.
#pragma once

#include <keel/base/assert.hpp>

#include <cstddef>
#include <new>
#include <utility>

namespace keel {

// Blocks in a ring; one more is put into the ring when all are full. Blocks are kept to the end. A resource.
//
// INVARIANT: an empty queue begins anew at the start of a block, which is warm.
// Thread safety: none.
template <class T>
class fifo {
 public:
  fifo() noexcept = default;
  fifo(const fifo&) = delete;
  fifo& operator=(const fifo&) = delete;
  ~fifo() {
    while (!empty()) pop();
    if (last_ == nullptr) return;
    block* next = std::exchange(last_->next, nullptr);
    while (next != nullptr) release(std::exchange(next, next->next));
  }

  // From now on, a push allocates nothing while there are fewer than `size`. Throws std::bad_alloc.
  // REQUIRES: empty, and nothing has been pushed or reserved before
  void reserve(std::size_t size) {
    KEEL_ASSERT(last_ == nullptr, "room is reserved once, before the first push");
    if (size == 0) return;
    if (size < block_size_) block_size_ = last_index_ = size < 8 ? 8 : size;
    for (std::size_t room = 0; room < size; room += block_size_) add_block();
    // One block may be half empty at the front while another one is half full at the back.
    if (size > 1) add_block();
    first_ = last_;
    last_index_ = 0;
  }

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  // REQUIRES: !empty()
  T& front() noexcept { return *std::launder(reinterpret_cast<T*>(first_->slot(first_index_))); }

  // Throws std::bad_alloc, and what the move of a T throws: then nothing has changed.
  void push(T&& value) {
    if (last_index_ == block_size_) next_block();
    ::new (last_->slot(last_index_)) T(std::move(value));
    ++last_index_;
    ++size_;
  }
  // REQUIRES: !empty()
  void pop() noexcept {
    front().~T();
    if (--size_ == 0) {
      first_ = last_;
      first_index_ = last_index_ = 0;
    } else if (++first_index_ == block_size_) {
      first_ = first_->next;
      first_index_ = 0;
    }
  }

 private:
  struct alignas(alignof(T) > alignof(void*) ? alignof(T) : alignof(void*)) block {
    void* slot(std::size_t i) noexcept { return reinterpret_cast<std::byte*>(this + 1) + i * sizeof(T); }
    block* next;
  };

  // Behind last_.
  void add_block() {
    const std::size_t bytes = sizeof(block) + block_size_ * sizeof(T);
    auto* added = ::new (::operator new(bytes, std::align_val_t(alignof(block)))) block;
    if (last_ == nullptr) {
      first_ = last_ = added->next = added;
    } else {
      added->next = std::exchange(last_->next, added);
    }
  }
  // Seldom: kept out of whoever pushes.
  [[gnu::noinline]] void next_block() {
    if (last_ == nullptr) {
      add_block();
    } else {
      if (last_->next == first_) add_block();
      last_ = last_->next;
    }
    last_index_ = 0;
  }
  static void release(block* b) noexcept { ::operator delete(b, std::align_val_t(alignof(block))); }

  std::size_t block_size_ = sizeof(T) <= 16 ? 64 : sizeof(T) <= 128 ? 1024 / sizeof(T) : 8;
  block* first_ = nullptr;
  block* last_ = nullptr;
  std::size_t first_index_ = 0;
  std::size_t last_index_ = block_size_;
  std::size_t size_ = 0;
};

}  // namespace keel
