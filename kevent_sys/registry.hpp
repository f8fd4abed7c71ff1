// Private to kevent_sys: the registrations of one queue by their keys.
#pragma once

#include "registration.hpp"

#include <cstddef>

namespace keel::kevent_sys {

// A hash table over (type, id) whose links live in the registrations; it owns none of them. Keys may occur
// more than once: find() gives the oldest. Throws std::bad_alloc only where it says so.
class registry {
 public:
  registry() noexcept = default;
  registry(const registry&) = delete;
  registry& operator=(const registry&) = delete;
  ~registry();

  // The oldest registration with this key, or null. O(1), but for duplicates of other keys in its bucket.
  registration* find(std::uint32_t type, std::uint64_t id) const noexcept;
  // Whether there is memory for one more insert(). False: out of memory.
  bool reserve() noexcept;
  // REQUIRES: reserve() said yes
  void insert(registration& added) noexcept;
  // REQUIRES: it was inserted
  void erase(registration& removed) noexcept;
  // Any one of them, or null when it is empty.
  registration* any() noexcept;
  // Calls `f` with each; it may not insert or erase.
  template <class F>
  void for_each(F f) const {
    for (std::size_t i = 0; i < bucket_count_; ++i) {
      for (registration* each = buckets_[i].first; each != nullptr; each = each->next_) f(*each);
    }
  }

  std::size_t size() const noexcept { return size_; }

 private:
  // In the order of insertion; the last one is remembered, so that a thousand equal timers stay cheap.
  struct bucket {
    registration* first = nullptr;
    registration* last = nullptr;
  };
  bucket& bucket_of(const registration& r) const noexcept;
  void append(bucket& to, registration& added) noexcept;

  bucket* buckets_ = nullptr;
  std::size_t bucket_count_ = 0;  // a power of two, or 0
  std::size_t size_ = 0;
  std::size_t searched_from_ = 0;  // any(): the buckets before are empty
};

}  // namespace keel::kevent_sys
