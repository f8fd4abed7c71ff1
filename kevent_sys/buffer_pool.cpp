#include <keel/kevent_sys/buffer_pool.hpp>

#include <keel/base/assert.hpp>

#include <cstring>
#include <new>
#include <unistd.h>
#include <utility>

namespace keel::kevent_sys {
namespace {

// Buffers start on pages of their own: the kernel copies into whole cache lines.
constexpr std::align_val_t buffer_alignment{4096};

// A number that no other thread has or had: an address would come back with the next thread.
std::uint64_t this_thread() noexcept {
  static constinit std::atomic<std::uint64_t> numbers{0};
  static thread_local constinit std::uint64_t number = 0;
  if (number == 0) number = numbers.fetch_add(1, std::memory_order_relaxed) + 1;
  return number;
}

}  // namespace

buffer_pool::buffer_pool(std::uint32_t buffer_bytes, unique_fd alarm)
    : buffer_bytes_(buffer_bytes),
      alarm_(std::move(alarm)),
      slabs_(new std::byte*[buffers_max]),
      free_(new std::uint16_t[buffers_max]),
      next_(new std::uint16_t[buffers_max]),
      filled_(new fill[buffers_max]) {}

// From here on the destructor frees what was allocated.
buffer_pool::buffer_pool(std::uint32_t buffers, std::uint32_t buffer_bytes, unique_fd alarm)
    : buffer_pool(buffer_bytes, std::move(alarm)) {
  KEEL_ASSERT(buffers <= buffers_max && buffer_bytes > 0);
  while (size_ < buffers) {
    const int id = grow();
    if (id < 0) throw std::bad_alloc();
    adopt(static_cast<std::uint16_t>(id));
  }
}

buffer_pool::~buffer_pool() {
  for (std::uint32_t id = 0; id < size_; ++id) ::operator delete(slabs_[id], buffer_alignment);
  delete[] slabs_;
  delete[] free_;
  delete[] next_;
  delete[] filled_;
}

void buffer_pool::attach(arrival arrived, void* context) noexcept {
  owner_ = this_thread();
  attached_ = true;
  arrived_ = arrived;
  context_ = context;
}

void buffer_pool::detach() noexcept {
  attached_ = false;
  arrived_ = nullptr;
  set_starving(false);
  std::uint32_t expected = 0;
  std::uint32_t given = 0;
  do {
    collect();
    // From the moment that the list is closed each lease keeps the pool alive by itself.
    drop_shares(given);
    given = away_;
    shares_.fetch_add(given, std::memory_order_relaxed);
    expected = 0;
  } while (!remote_.compare_exchange_strong(expected, closed, std::memory_order_acq_rel));
  drop_shares(1);
}

void buffer_pool::taken(std::uint16_t id) noexcept {
  KEEL_ASSERT(id < size_, "the kernel named a buffer that does not exist");
  lend(id);
}

void buffer_pool::lend(std::uint16_t id) noexcept {
  KEEL_ASSERT(!filled_[id].away, "a buffer was filled while a reader has it");
  filled_[id].away = true;
  ++away_;
}

int buffer_pool::take() noexcept {
  if (free_count_ == 0) return -1;
  const std::uint16_t id = free_[--free_count_];
  lend(id);
  return id;
}

int buffer_pool::grow() noexcept {
  if (size_ == buffers_max) return -1;
  void* memory = ::operator new(buffer_bytes_, buffer_alignment, std::nothrow);
  if (memory == nullptr) return -1;
  slabs_[size_] = static_cast<std::byte*>(memory);
  return static_cast<int>(size_++);
}

void buffer_pool::home(std::uint16_t id) noexcept {
  KEEL_ASSERT(away_ > 0);
  --away_;
  adopt(id);
}

void buffer_pool::adopt(std::uint16_t id) noexcept {
  if (arrived_ != nullptr) {
    arrived_(context_, id);
  } else {
    free_[free_count_++] = id;
  }
}

void buffer_pool::give_back(std::uint16_t id) noexcept {
  KEEL_ASSERT(std::exchange(filled_[id].away, false), "a buffer was given back twice");
  if (owner_ == this_thread() && attached_) {
    home(id);
    return;
  }
  shares_.fetch_add(1, std::memory_order_relaxed);
  std::uint32_t head = remote_.load(std::memory_order_relaxed);
  do {
    if (head == closed) {
      drop_shares(2);  // ours, and the lease's
      return;
    }
    next_[id] = static_cast<std::uint16_t>(head);  // ids are below 4096: head fits
  } while (!remote_.compare_exchange_weak(head, std::uint32_t{id} + 1, std::memory_order_seq_cst,
                                          std::memory_order_relaxed));
  // The parked side sets `starving` and then looks at the list; we put into the list and then look: one of us
  // sees.
  if (starving_.load(std::memory_order_seq_cst) && alarm_) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = ::write(alarm_.get(), &one, sizeof one);  // full = already ringing
  }
  drop_shares(1);
}

bool buffer_pool::collect() noexcept {
  // After set_starving(true) this is the look that give_back() relies on: a relaxed one may see what was
  // before.
  if (remote_.load(std::memory_order_seq_cst) == 0) return false;
  KEEL_ASSERT(remote_.load(std::memory_order_relaxed) != closed);
  std::uint32_t head = remote_.exchange(0, std::memory_order_acquire);
  const bool some = head != 0;
  while (head != 0) {
    const auto id = static_cast<std::uint16_t>(head - 1);
    head = next_[id];
    home(id);
  }
  return some;
}

void buffer_pool::drop_shares(std::uint32_t n) noexcept {
  if (n != 0 && shares_.fetch_sub(n, std::memory_order_acq_rel) == n) delete this;
}

void buffer_lease::remove_prefix(std::size_t n) noexcept {
  KEEL_ASSERT(n <= size_);
  data_ += n;
  size_ -= static_cast<std::uint32_t>(n);
}

void buffer_lease::reset() noexcept {
  if (origin_ == nullptr) return;
  data_ = nullptr;
  size_ = 0;
  void* origin = std::exchange(origin_, nullptr);
  if (own_memory_) {
    ::operator delete(origin);
  } else {
    static_cast<buffer_pool*>(origin)->give_back(id_);
  }
}

void buffer_lease::keep_copy() noexcept {
  if (own_memory_ || size_ == 0) return;
  buffer_lease copy = new_copy(bytes(), size_);
  if (copy.size_ == size_) *this = std::move(copy);
}

// An empty lease without memory.
buffer_lease buffer_lease::new_copy(const_byte_span first, std::size_t room) noexcept {
  buffer_lease copy;
  copy.origin_ = ::operator new(room, std::nothrow);
  if (copy.origin_ == nullptr) return copy;
  copy.own_memory_ = true;
  copy.data_ = static_cast<const std::byte*>(copy.origin_);
  copy.size_ = static_cast<std::uint32_t>(first.size());
  if (!first.empty()) std::memcpy(copy.origin_, first.data(), first.size());
  return copy;
}

void buffer_lease::take_over(buffer_lease& other) noexcept {
  origin_ = std::exchange(other.origin_, nullptr);
  own_memory_ = other.own_memory_;
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  id_ = other.id_;
}

void buffer_queue::push(std::uint16_t id, std::uint32_t size_bytes) noexcept {
  pool_.filled(id).size_bytes = size_bytes;
  (count_ == 0 ? first_ : pool_.filled(last_).next) = id;
  last_ = id;
  ++count_;
}

buffer_lease buffer_queue::pop() noexcept {
  KEEL_ASSERT(count_ > 0);
  const std::uint16_t id = first_;
  first_ = pool_.filled(id).next;
  --count_;
  return buffer_lease(pool_, id, pool_.filled(id).size_bytes);
}

void buffer_queue::join(buffer_lease& first) noexcept {
  KEEL_ASSERT(count_ > 0);
  std::size_t room = first.size();
  for (std::uint32_t i = 0, id = first_; i < count_; ++i) {
    room += pool_.filled(static_cast<std::uint16_t>(id)).size_bytes;
    id = pool_.filled(static_cast<std::uint16_t>(id)).next;
  }
  buffer_lease all = buffer_lease::new_copy(first.bytes(), room);
  if (all.data_ == nullptr) return;
  auto* memory = static_cast<std::byte*>(all.origin_);
  while (!empty()) {
    const buffer_lease one = pop();
    std::memcpy(memory + all.size_, one.data(), one.size());
    all.size_ += one.size_;
  }
  first = std::move(all);
}

}  // namespace keel::kevent_sys
