// A hierarchical timing wheel: the timers of one queue. It never reads a clock.
#pragma once

#include <keel/base/intrusive_list.hpp>

#include <cstddef>
#include <cstdint>

namespace keel::kevent_sys {

// A timer: a place in a timing_wheel, and the time for which it was armed. A base or a member of what is to
// be done then. A resource; while idle it may be copied with what it is a part of, and the copy is idle, too.
class timer_node : private list_hook {
 public:
  timer_node() noexcept = default;
  // REQUIRES: neither is armed() or expired()
  timer_node(const timer_node& other) noexcept : list_hook() { KEEL_ASSERT(!other.linked()); }
  timer_node& operator=(const timer_node& other) noexcept {
    KEEL_ASSERT(!linked() && !other.linked());
    return *this;
  }
  // REQUIRES: !armed() and in no list of expired timers: erase() it first.
  ~timer_node() = default;

  // True from insert() until it expires or is erased.
  bool armed() const noexcept { return slot_ != no_slot; }
  // True while it waits in a list that advance() filled.
  bool expired() const noexcept { return linked() && !armed(); }
  // What insert() was last given.
  std::uint64_t deadline_ns() const noexcept { return deadline_ns_; }

 private:
  friend class timing_wheel;
  template <class T>
  friend class keel::intrusive_list;

  static constexpr std::uint16_t no_slot = 0xffff;

  std::uint64_t deadline_ns_ = 0;
  std::uint16_t slot_ = no_slot;
};

// Timers by absolute time in nanoseconds (of whatever clock the caller reads). A resource, neither copied nor
// moved; does not own its timers, which must be gone before it. 8.2 KiB, and it allocates nothing.
//
// Times are rounded up to ticks of 2^14 ns (16.4 us): a timer is never early, and late by less than one tick.
// A deadline in the last tick that 64 bits can say, UINT64_MAX above all, means never.
//
// INVARIANT: a timer's level is the highest base-64 digit in which its tick differs from now_tick_, its slot
//   the value of that digit. So all timers of a level are due before those of the next level, and a slot is
//   emptied (into lower levels) at the moment now_tick_ reaches its first tick. Timers with the same tick
//   always share a slot, in the order of their insertion.
// Thread safety: none.
class timing_wheel {
 public:
  static constexpr unsigned tick_bits = 14;
  static constexpr std::uint64_t tick_ns = std::uint64_t{1} << tick_bits;
  static constexpr std::uint64_t never_ns = UINT64_MAX;

  timing_wheel() noexcept = default;
  timing_wheel(const timing_wheel&) = delete;
  timing_wheel& operator=(const timing_wheel&) = delete;
  // REQUIRES: size() == 0
  ~timing_wheel() { KEEL_ASSERT(size_ == 0, "a timing wheel was destroyed while timers are armed"); }

  // Arms `timer`. O(1). A deadline not after the time of the last advance() is due at the next one, even if
  // that is for the same time.
  //
  // REQUIRES: !timer.armed() and !timer.expired()
  void insert(timer_node& timer, std::uint64_t deadline_ns) noexcept;

  // Disarms `timer`, or takes it out of the list in which advance() put it: nothing happens when it is in
  // neither. O(1), and nothing of it stays behind.
  void erase(timer_node& timer) noexcept;

  // The time at which advance() should be called next: never later than the earliest deadline, rounded up to
  // a tick; never_ns when no timer will ever be due. Exact when few timers are near it; else perhaps earlier,
  // at most once per level, to sort what is due soon.
  std::uint64_t next_ns() const noexcept;

  // Sets the time, and moves all timers that are due to the end of `expired`, in the order of their ticks,
  // within a tick in the order of their insertion. A time before the last one counts as the last one.
  void advance(std::uint64_t now_ns, intrusive_list<timer_node>& expired) noexcept;

  // How many timers are armed.
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

 private:
  using list = intrusive_list<timer_node>;

  static constexpr unsigned slot_bits = 6;
  static constexpr unsigned slots_per_level = 1U << slot_bits;
  static constexpr std::uint64_t never_tick = std::uint64_t{1} << (64 - tick_bits);
  static constexpr unsigned level_count = (64 - tick_bits) / slot_bits + 1;
  // Of the top level only the digits up to that of never_tick exist.
  static constexpr unsigned slot_count =
      (level_count - 1) * slots_per_level + unsigned(never_tick >> ((level_count - 1) * slot_bits)) + 1;

  // Which slot is due first, and its first tick.
  struct first_slot {
    unsigned index;
    unsigned level;
    std::uint64_t tick;
  };

  void place(timer_node& timer, std::uint64_t tick) noexcept;
  // REQUIRES: size() > 0
  first_slot find_first() const noexcept;
  void forget_slot(unsigned index) noexcept;

  std::uint64_t now_ns_ = 0;
  std::uint64_t now_tick_ = 0;  // of now_ns_, rounded down; behind it only inside advance()
  std::size_t size_ = 0;
  std::uint32_t used_levels_ = 0;               // bit n: used_slots_[n] is not 0
  std::uint64_t used_slots_[level_count] = {};  // bit n: the list of slot n is not empty
  list slots_[slot_count];
};

}  // namespace keel::kevent_sys
