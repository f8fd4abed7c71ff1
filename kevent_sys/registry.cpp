#include "registry.hpp"

#include <algorithm>
#include <new>
#include <utility>

namespace keel::kevent_sys {
namespace {

constexpr std::size_t buckets_min = 64;

// Ids are descriptors, small numbers or addresses: every bit has to reach the low ones.
std::uint64_t hash(std::uint32_t type, std::uint64_t id) noexcept {
  std::uint64_t h = (id ^ (std::uint64_t{type} << 56)) * 0x9e3779b97f4a7c15u;
  h ^= h >> 32;
  return h * 0xd6e8feb86659fd93u >> 16;
}

}  // namespace

registry::~registry() {
  KEEL_ASSERT(size_ == 0, "a registry was destroyed with registrations in it");
  delete[] buckets_;
}

registry::bucket& registry::bucket_of(const registration& r) const noexcept {
  return buckets_[hash(r.asked().type, r.asked().id.raw_u64) & (bucket_count_ - 1)];
}

registration* registry::find(std::uint32_t type, std::uint64_t id) const noexcept {
  if (bucket_count_ == 0) return nullptr;
  registration* each = buckets_[hash(type, id) & (bucket_count_ - 1)].first;
  while (each != nullptr && (each->asked().type != type || each->asked().id.raw_u64 != id))
    each = each->next_;
  return each;
}

void registry::append(bucket& to, registration& added) noexcept {
  added.next_ = nullptr;
  (to.first == nullptr ? to.first : to.last->next_) = &added;
  to.last = &added;
}

bool registry::reserve() noexcept {
  if (size_ < bucket_count_) return true;
  const std::size_t grown = std::max(buckets_min, bucket_count_ * 2);
  auto* fresh = new (std::nothrow) bucket[grown];
  // A full table is only slower; an empty one holds nothing.
  if (fresh == nullptr) return bucket_count_ != 0;
  bucket* old = std::exchange(buckets_, fresh);
  const std::size_t old_count = std::exchange(bucket_count_, grown);
  for (std::size_t i = 0; i < old_count; ++i) {
    for (registration* each = old[i].first; each != nullptr;) {
      registration* next = each->next_;
      append(bucket_of(*each), *each);
      each = next;
    }
  }
  delete[] old;
  searched_from_ = 0;
  return true;
}

void registry::insert(registration& added) noexcept {
  KEEL_ASSERT(bucket_count_ != 0 && added.listed_in_ == nullptr);
  bucket& to = bucket_of(added);
  append(to, added);
  added.listed_in_ = this;
  ++size_;
  searched_from_ = std::min(searched_from_, static_cast<std::size_t>(&to - buckets_));
}

void registry::erase(registration& removed) noexcept {
  KEEL_ASSERT(removed.listed_in_ == this);
  bucket& from = bucket_of(removed);
  registration* previous = nullptr;
  for (registration* each = from.first; each != &removed; each = each->next_) {
    KEEL_ASSERT(each != nullptr);
    previous = each;
  }
  (previous == nullptr ? from.first : previous->next_) = removed.next_;
  if (from.last == &removed) from.last = previous;
  removed.listed_in_ = nullptr;
  --size_;
}

registration* registry::any() noexcept {
  if (size_ == 0) return nullptr;
  while (buckets_[searched_from_].first == nullptr) ++searched_from_;
  return buckets_[searched_from_].first;
}

}  // namespace keel::kevent_sys
