#include "models/memory.hpp"

#include <algorithm>

namespace keel::test {
namespace detail {
namespace {

bool acquires(std::memory_order order) noexcept {
  return order != std::memory_order_relaxed && order != std::memory_order_release;
}
bool releases(std::memory_order order) noexcept {
  return order == std::memory_order_release || order == std::memory_order_acq_rel ||
         order == std::memory_order_seq_cst;
}

void learn(const view& released, std::memory_order order) {
  if (acquires(order)) {
    known().join(released);
  } else {
    loaded().join(released);
  }
}

}  // namespace

word::word(std::uint64_t first) : index_(new_location()) {
  push(first, std::memory_order_relaxed, nullptr);
}

void word::push(std::uint64_t value, std::memory_order order, const view* read) {
  location_state& here = location(index_);
  const auto at = static_cast<std::uint16_t>(here.stores.size());
  known().oldest[index_] = at;
  // A change carries on what the store that it changed has released.
  view released = read == nullptr ? view{} : *read;
  released.join(fence_released());
  released.oldest[index_] = at;
  if (releases(order)) released.join(known());
  if (order == std::memory_order_seq_cst) here.newest_sequential = at;
  here.stores.push_back({value, released});
  if (releases(order)) tick();
}

std::uint64_t word::load_word(std::memory_order order) const {
  order = weakened(order);
  step("loads", this);
  location_state& here = location(index_);
  unsigned oldest = known().oldest[index_];
  if (order == std::memory_order_seq_cst)
    oldest = std::max({oldest, here.newest_sequential, unsigned{fenced().oldest[index_]}});
  const auto newest = static_cast<unsigned>(here.stores.size() - 1);
  const unsigned at = newest - any_value(newest - oldest + 1);
  const stored& read = here.stores[at];
  known().oldest[index_] = static_cast<std::uint16_t>(at);
  learn(read.released, order);
  outcome(at == newest ? ": " : ": still ", read.value);
  return read.value;
}

void word::store_word(std::uint64_t value, std::memory_order order) {
  order = weakened(order);
  step("stores to", this);
  push(value, order, nullptr);
  outcome(": ", value);
}

// A change of a word always changes the last value.
void word::read_newest(std::memory_order order) const {
  location_state& here = location(index_);
  known().oldest[index_] = static_cast<std::uint16_t>(here.stores.size() - 1);
  learn(here.stores.back().released, order);
}

std::uint64_t word::change_word(const char* what, change how, std::uint64_t operand,
                                std::memory_order order) {
  order = weakened(order);
  step(what, this);
  const stored read = location(index_).stores.back();
  read_newest(order);
  const std::uint64_t value = how(read.value, operand);
  push(value, order, &read.released);
  outcome(": ", read.value);
  outcome(" -> ", value);
  return read.value;
}

bool word::compare_exchange_word(std::uint64_t& expected, std::uint64_t wanted, std::memory_order success,
                                 std::memory_order failure) {
  success = weakened(success);
  step("compares and exchanges", this);
  const stored read = location(index_).stores.back();
  const bool same = read.value == expected;
  read_newest(same ? success : failure);
  outcome(": ", read.value);
  if (same) {
    push(wanted, success, &read.released);
    outcome(" -> ", wanted);
  } else {
    outcome(", not ", expected);
  }
  expected = read.value;
  return same;
}

}  // namespace detail

void fence(std::memory_order order) {
  order = detail::weakened(order);
  step("fence");
  detail::view& known = detail::known();
  if (detail::acquires(order)) known.join(detail::loaded());
  if (order == std::memory_order_seq_cst) {
    known.join(detail::fenced());
    for (unsigned i = 0; i < detail::locations_max; ++i) {
      const auto sequential = static_cast<std::uint16_t>(detail::location(i).newest_sequential);
      if (!detail::location(i).stores.empty()) known.oldest[i] = std::max(known.oldest[i], sequential);
    }
    detail::fenced().oldest = known.oldest;
  }
  if (detail::releases(order)) {
    detail::fence_released() = known;
    detail::tick();
  }
}

bool futex_wait(const atomic<std::uint32_t>& word, std::uint32_t expected) {
  step("waits for a change of", &word);
  if (word.now() != expected) return false;
  detail::park(&word);
  return true;
}

void futex_wake(const atomic<std::uint32_t>& word, unsigned most) {
  step("wakes who sleeps on", &word);
  detail::outcome(": ", detail::unpark(&word, most));
}

void race_detector::read() const {
  const detail::view& known = detail::known();
  if (known.clock[writer_] < written_) fail("a data race: read while it is written");
  const unsigned me = detail::this_thread();
  read_[me] = known.clock[me];
}

void race_detector::write() {
  const detail::view& known = detail::known();
  if (known.clock[writer_] < written_) fail("a data race: written twice at once");
  for (unsigned i = 0; i <= detail::threads_max; ++i)
    if (known.clock[i] < read_[i]) fail("a data race: written while it is read");
  writer_ = detail::this_thread();
  written_ = known.clock[writer_];
}

void mutex::lock() {
  const auto is_free = [](const void* self) { return !static_cast<const mutex*>(self)->locked_; };
  step("locks", this, {is_free, this});
  locked_ = true;
  ++detail::locks_held();
  detail::known().join(released_);
}

bool mutex::try_lock() {
  step("tries to lock", this);
  if (locked_) return false;
  locked_ = true;
  ++detail::locks_held();
  detail::known().join(released_);
  return true;
}

// Not a step: what others do just before it, they can as well do just after it.
void mutex::unlock() {
  locked_ = false;
  --detail::locks_held();
  released_.join(detail::known());
  detail::tick();
}

bool condition_variable::wait(mutex& lock, bool may_give_up) {
  sleeper me{this, &lock, false, may_give_up && any_of(2) != 0};
  sleepers_[count_++] = &me;
  lock.unlock();
  const auto goes_on = [](const void* self) {
    const auto& s = *static_cast<const sleeper*>(self);
    return (s.notified || s.gives_up) && !s.lock->locked_;
  };
  step("waits for", this, {goes_on, &me});
  lock.locked_ = true;
  ++detail::locks_held();
  detail::known().join(lock.released_);
  if (me.notified) return true;
  const auto end = sleepers_.begin() + count_;
  std::copy(std::find(sleepers_.begin(), end, &me) + 1, end, std::find(sleepers_.begin(), end, &me));
  --count_;
  return false;
}

void condition_variable::notify(unsigned most) {
  // Whoever is notified needs the lock: with it, nobody can tell when that happened.
  if (detail::locks_held() == 0) step("notifies", this);
  const unsigned woken = std::min(most, count_);
  for (unsigned i = 0; i < woken; ++i) sleepers_[i]->notified = true;
  std::copy(sleepers_.begin() + woken, sleepers_.begin() + count_, sleepers_.begin());
  count_ -= woken;
}

void bell::ring() {
  step("rings", this);
  rung_ = true;
  released_.join(detail::known());
  detail::tick();
}

void bell::wait() {
  const auto rung = [](const void* self) { return static_cast<const bell*>(self)->rung_; };
  step("sleeps until", this, {rung, this});
  rung_ = false;
  detail::known().join(released_);
}

bool bell::hear() {
  step("looks at", this);
  if (!rung_) return false;
  rung_ = false;
  detail::known().join(released_);
  return true;
}

void yield() {
  // In the end each store is seen: a loop that has read something stale comes round once more.
  bool lagged = false;
  for (unsigned i = 0; i < detail::locations_max; ++i) {
    const std::size_t stores = detail::location(i).stores.size();
    if (stores == 0 || detail::known().oldest[i] + 1u == stores) continue;
    detail::known().oldest[i] = static_cast<std::uint16_t>(stores - 1);
    lagged = true;
  }
  struct mark {
    unsigned steps;
    bool lagged;
  } now{detail::steps(), lagged};
  const auto moved = [](const void* self) {
    const auto& before = *static_cast<const mark*>(self);
    return before.lagged || detail::steps() != before.steps;
  };
  step("lets others go first", nullptr, {moved, &now});
}

}  // namespace keel::test
