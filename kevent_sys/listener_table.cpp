#include "listener_table.hpp"

#include "queue_table.hpp"
#include "shared_queue.hpp"

#include <atomic>
#include <mutex>
#include <new>

namespace keel::kevent_sys::listener_table {

// Of one process: that of a parent tells of queues that are the parent's, and its lock may be held for ever.
struct table {
  static constexpr std::size_t buckets_max = 1024;

  intrusive_list<place>& bucket_of(const place& p) noexcept {
    const std::uint64_t h = (p.inode ^ p.device << 32) * 0x9e3779b97f4a7c15u;
    return buckets[h >> 32 & (buckets_max - 1)];
  }

  std::mutex mutex;
  std::uint64_t process = 0;
  table* inherited = nullptr;  // what its places point at
  // In the order of arrival.
  intrusive_list<place> buckets[buckets_max];
  intrusive_list<place::notice_hook> notices;
};

namespace {

// Never freed: a call may come from a destructor that runs after main.
constinit std::atomic<table*> current{nullptr};

// Null: no memory.
table* table_of_this_process() noexcept {
  const std::uint64_t process = queue_table::process_generation();
  table* known = current.load(std::memory_order_acquire);
  if (known != nullptr && known->process == process) return known;
  auto* made = new (std::nothrow) table;
  if (made == nullptr) return nullptr;
  made->process = process;
  made->inherited = known;
  if (current.compare_exchange_strong(known, made)) return made;
  delete made;
  return known;
}

bool same_object(const place& a, const place& b) noexcept {
  return a.inode == b.inode && a.device == b.device;
}

template <class F>
void for_each_other(table& in, const place& p, F f) noexcept {
  intrusive_list<place>& bucket = in.bucket_of(p);
  for (place* each = bucket.empty() ? nullptr : &bucket.front(); each != nullptr; each = bucket.next(*each)) {
    if (each != &p && same_object(*each, p) && !f(*each)) return;
  }
}

void claim(table& in, place& p, std::uint32_t directions) noexcept {
  for_each_other(in, p, [&](const place& other) {
    directions &= ~other.owned;
    return directions != 0;
  });
  p.owned |= directions;
}

void pass_on(table& in, const place& p, std::uint32_t directions) noexcept {
  if (directions == 0) return;
  for_each_other(in, p, [&](place& other) {
    const std::uint32_t taken = directions & other.wanted;
    if (taken == 0) return true;
    other.owned |= taken;
    directions &= ~taken;
    if (!other.notice.linked()) in.notices.push_back(other.notice);
    // A queue outlives its places, and none leaves while the table is locked.
    other.queue.nudge();
    return directions != 0;
  });
}

}  // namespace

std::uint32_t want(place& p, std::uint32_t directions) noexcept {
  if (p.listed_in == nullptr) {
    table* here = table_of_this_process();
    if (here == nullptr) return directions;
    const std::lock_guard lock(here->mutex);
    p.listed_in = here;
    p.wanted = directions;
    here->bucket_of(p).push_back(p);
    claim(*here, p, directions);
    return p.owned;
  }
  table& in = *p.listed_in;
  const std::lock_guard lock(in.mutex);
  const std::uint32_t given_back = p.owned & ~directions;
  p.wanted = directions;
  p.owned &= directions;
  claim(in, p, directions & ~p.owned);
  pass_on(in, p, given_back);
  return p.owned;
}

void leave(place& p) noexcept {
  if (p.listed_in == nullptr) return;
  table& in = *p.listed_in;
  const std::lock_guard lock(in.mutex);
  p.unlink();
  p.notice.unlink();
  p.listed_in = nullptr;
  p.wanted = 0;
  const std::uint32_t given_back = p.owned;
  p.owned = 0;
  pass_on(in, p, given_back);
}

place* take_notice(const shared_queue& queue, std::uint32_t& owned) noexcept {
  table* here = current.load(std::memory_order_acquire);
  if (here == nullptr || here->process != queue_table::process_generation()) return nullptr;
  const std::lock_guard lock(here->mutex);
  intrusive_list<place::notice_hook>& all = here->notices;
  for (place::notice_hook* each = all.empty() ? nullptr : &all.front(); each != nullptr;
       each = all.next(*each)) {
    if (&each->owner.queue != &queue) continue;
    each->unlink();
    owned = each->owner.owned;
    return &each->owner;
  }
  return nullptr;
}

}  // namespace keel::kevent_sys::listener_table
