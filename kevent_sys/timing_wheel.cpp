#include <keel/kevent_sys/timing_wheel.hpp>

#include <algorithm>
#include <bit>

namespace keel::kevent_sys {
namespace {

// Of so many timers in the first slot next_ns() finds the earliest, instead of the slot's beginning. Without
// it a lone sleep of 10 ms wakes its thread twice.
constexpr int looked_at_max = 4;

// Rounded up, so that a timer is never early; cannot overflow.
std::uint64_t tick_of_deadline(std::uint64_t deadline_ns) noexcept {
  const bool between_ticks = (deadline_ns & (timing_wheel::tick_ns - 1)) != 0;
  return (deadline_ns >> timing_wheel::tick_bits) + (between_ticks ? 1 : 0);
}

}  // namespace

void timing_wheel::place(timer_node& timer, std::uint64_t tick) noexcept {
  // The lowest bit is set so that a tick that is now has level 0, too.
  const unsigned highest_bit = unsigned(std::bit_width((tick ^ now_tick_) | 1)) - 1;
  const unsigned level = highest_bit / slot_bits;
  const unsigned digit = unsigned(tick >> (level * slot_bits)) % slots_per_level;
  const unsigned index = level * slots_per_level + digit;
  slots_[index].push_back(timer);
  timer.slot_ = std::uint16_t(index);
  used_slots_[level] |= std::uint64_t{1} << digit;
  used_levels_ |= 1U << level;
}

void timing_wheel::insert(timer_node& timer, std::uint64_t deadline_ns) noexcept {
  KEEL_ASSERT(!timer.armed(), "erase a timer before you insert it again");
  timer.deadline_ns_ = deadline_ns;
  place(timer, deadline_ns <= now_ns_ ? now_tick_ : tick_of_deadline(deadline_ns));
  ++size_;
}

void timing_wheel::forget_slot(unsigned index) noexcept {
  const unsigned level = index / slots_per_level;
  used_slots_[level] &= ~(std::uint64_t{1} << (index % slots_per_level));
  if (used_slots_[level] == 0) used_levels_ &= ~(1U << level);
}

void timing_wheel::erase(timer_node& timer) noexcept {
  timer.unlink();
  if (!timer.armed()) return;
  KEEL_ASSERT(size_ > 0);
  --size_;
  const unsigned index = timer.slot_;
  timer.slot_ = timer_node::no_slot;
  if (slots_[index].empty()) forget_slot(index);
}

timing_wheel::first_slot timing_wheel::find_first() const noexcept {
  KEEL_ASSERT(used_levels_ != 0);
  const unsigned level = unsigned(std::countr_zero(used_levels_));
  const unsigned digit = unsigned(std::countr_zero(used_slots_[level]));
  const unsigned shift = level * slot_bits;
  const std::uint64_t higher_digits = now_tick_ >> (shift + slot_bits);
  return {.index = level * slots_per_level + digit,
          .level = level,
          .tick = (higher_digits << (shift + slot_bits)) | (std::uint64_t{digit} << shift)};
}

std::uint64_t timing_wheel::next_ns() const noexcept {
  if (size_ == 0) return never_ns;
  const first_slot first = find_first();
  std::uint64_t tick = first.tick;
  if (first.level != 0) {
    std::uint64_t earliest_ns = never_ns;
    int looked_at = 0;
    const timer_node* timer = &slots_[first.index].front();
    for (; timer != nullptr && looked_at < looked_at_max; ++looked_at) {
      earliest_ns = std::min(earliest_ns, timer->deadline_ns_);
      timer = slots_[first.index].next(*timer);
    }
    if (timer == nullptr) tick = tick_of_deadline(earliest_ns);
  }
  return tick >= never_tick ? never_ns : tick << tick_bits;
}

void timing_wheel::advance(std::uint64_t now_ns, intrusive_list<timer_node>& expired) noexcept {
  // never_ns stays ahead of every time.
  now_ns_ = std::max(now_ns_, std::min(now_ns, never_ns - 1));
  const std::uint64_t now_tick = now_ns_ >> tick_bits;
  while (size_ > 0) {
    const first_slot first = find_first();
    if (first.tick > now_tick) break;
    KEEL_ASSERT(first.tick >= now_tick_);
    now_tick_ = first.tick;
    list& slot = slots_[first.index];
    forget_slot(first.index);
    if (first.level != 0) {
      list due_soon;
      due_soon.splice_back(slot);
      while (!due_soon.empty()) {
        timer_node& timer = due_soon.pop_front();
        place(timer, tick_of_deadline(timer.deadline_ns_));
      }
      continue;
    }
    for (timer_node* timer = &slot.front(); timer != nullptr; timer = slot.next(*timer)) {
      timer->slot_ = timer_node::no_slot;
      --size_;
    }
    expired.splice_back(slot);
  }
  now_tick_ = now_tick;
}

}  // namespace keel::kevent_sys
