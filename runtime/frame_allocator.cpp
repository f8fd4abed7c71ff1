#include <keel/runtime/frame_allocator.hpp>

#include <keel/base/address_sanitizer.hpp>

#include <new>

namespace keel {
namespace detail {
namespace {

// Sizes are rounded up as malloc does it: to 8 bytes more than a multiple of 16. Each class keeps a bounded
// stack of free blocks. Larger frames are rare and go to operator new each time.
constexpr std::size_t granule = 16;
constexpr std::size_t overhang = 8;
constexpr std::size_t class_count = 129;  // up to 2 KiB

constexpr std::size_t class_of(std::size_t bytes) noexcept {
  return (bytes + granule - 1 - overhang) / granule;
}
constexpr std::size_t bytes_of(std::size_t index) noexcept {
  return index * granule + overhang;
}
constexpr std::uint32_t kept_per_class = 1024;

struct block {
  block* next;
};

struct recycler {
  block* free[class_count] = {};
  std::uint32_t kept[class_count] = {};
  frame_counters counters;

  block* take(std::size_t index) noexcept {
    block* taken = free[index];
    if (taken == nullptr) return nullptr;
    allow_memory(taken, bytes_of(index));
    free[index] = taken->next;
    --kept[index];
    return taken;
  }
  void keep(void* memory, std::size_t index) noexcept {
    auto* freed = static_cast<block*>(memory);
    freed->next = free[index];
    free[index] = freed;
    ++kept[index];
    // Until it is recycled it looks freed.
    forbid_memory(freed, bytes_of(index));
  }

  ~recycler() {
    for (std::size_t index = 0; index < class_count; ++index)
      while (block* unused = take(index)) ::operator delete(unused);
    ended = true;
  }

  // Frames may still be freed by later destructors of this thread.
  bool ended = false;
};

thread_local constinit recycler* this_thread = nullptr;

recycler& make_recycler() noexcept {
  static thread_local recycler instance;
  this_thread = &instance;
  return instance;
}

recycler& get_recycler() noexcept {
  return this_thread != nullptr ? *this_thread : make_recycler();
}

}  // namespace

void* allocate_frame(std::size_t bytes) {
  recycler& mine = get_recycler();
  const std::size_t index = class_of(bytes);
  ++mine.counters.live;
  if (index < class_count && mine.free[index] != nullptr) {
    ++mine.counters.recycled;
    return mine.take(index);
  }
  ++mine.counters.fresh;
  return ::operator new(index < class_count ? bytes_of(index) : bytes);
}

void free_frame(void* memory, std::size_t bytes) noexcept {
  recycler& mine = get_recycler();
  const std::size_t index = class_of(bytes);
  --mine.counters.live;
  if (index >= class_count || mine.kept[index] >= kept_per_class || mine.ended) {
    ::operator delete(memory);
    return;
  }
  mine.keep(memory, index);
}

}  // namespace detail

const frame_counters& this_thread_frames() noexcept {
  return detail::get_recycler().counters;
}

}  // namespace keel
