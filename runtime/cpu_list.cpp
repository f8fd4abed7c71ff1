#include <keel/runtime/cpu_list.hpp>

#include <sched.h>

namespace keel {
namespace {

static_assert(sizeof(cpu_set_t) == 16 * sizeof(unsigned long));

cpu_set_t allowed_here() noexcept {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) CPU_SET(0, &allowed);
  return allowed;
}

}  // namespace

cpu_list cpu_list::of(const unsigned* cpus, unsigned count) noexcept {
  KEEL_ASSERT(count >= 1 && count <= cpus_max, "a list of 1 to 256 CPUs");
  cpu_list list;
  list.count_ = count;
  list.listed_ = true;
  for (unsigned i = 0; i < count; ++i) list.cpus_[i] = static_cast<std::uint16_t>(cpus[i]);
  return list;
}

cpu_list::placement cpu_list::resolve() const noexcept {
  placement where;
  if (listed_) {
    where.count = count_;
    for (unsigned i = 0; i < count_; ++i) where.cpu[i] = cpus_[i];
    return where;
  }
  const cpu_set_t allowed = allowed_here();
  std::int32_t usable[cpus_max] = {};
  unsigned usable_count = 0;
  for (int cpu = 0; cpu < CPU_SETSIZE && usable_count < cpus_max; ++cpu)
    if (CPU_ISSET(static_cast<std::size_t>(cpu), &allowed)) usable[usable_count++] = cpu;
  where.count = count_ == 0 ? usable_count : count_;
  for (unsigned i = 0; i < where.count; ++i) where.cpu[i] = where.count == 1 ? -1 : usable[i % usable_count];
  return where;
}

pinned_thread::pinned_thread(int cpu) noexcept {
  if (cpu < 0) return;
  const cpu_set_t before = allowed_here();
  cpu_set_t only;
  CPU_ZERO(&only);
  CPU_SET(static_cast<std::size_t>(cpu), &only);
  // Refused where the CPU is not ours to use: the scheduler then runs unpinned.
  if (::sched_setaffinity(0, sizeof only, &only) != 0) return;
  __builtin_memcpy(before_, &before, sizeof before_);
  pinned_ = true;
}

pinned_thread::~pinned_thread() {
  if (!pinned_) return;
  cpu_set_t before;
  __builtin_memcpy(&before, before_, sizeof before);
  ::sched_setaffinity(0, sizeof before, &before);
}

}  // namespace keel
