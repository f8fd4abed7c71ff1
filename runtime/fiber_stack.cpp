#include <keel/runtime/fiber_stack.hpp>

#include <keel/base/address_sanitizer.hpp>
#include <keel/base/assert.hpp>

#include <sys/mman.h>
#include <algorithm>
#include <bit>
#include <utility>

namespace keel {
namespace detail {
namespace {

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t smallest_bytes = 4 * page_bytes;
constexpr std::size_t largest_bytes = std::size_t(1) << 30;
// Stacks of `smallest_bytes`, and of twice as much up to `largest_bytes` four times.
constexpr unsigned class_count = 19;
// Without stack probes a function with a large array jumps over a single page. Nothing is ever behind these.
constexpr std::size_t guard_bytes = 16 * page_bytes;
// Of each stack, at its top.
constexpr std::size_t own_bytes = 128;
static_assert(sizeof(fiber_stack) <= own_bytes);
constexpr std::size_t huge_page_bytes = std::size_t(2) << 20;

// What the pool keeps: so much with its memory, the rest as mere mappings, so many in all.
constexpr std::size_t warm_bytes_max = std::size_t(4) << 20;
constexpr std::uint64_t pooled_max = 1024;

#if KEEL_ADDRESS_SANITIZER || defined(__SANITIZE_THREAD__)
constexpr std::size_t larger_frames = 4;
#else
constexpr std::size_t larger_frames = 1;
#endif

unsigned class_of(std::size_t bytes) noexcept {
  return bytes <= smallest_bytes ? 0 : static_cast<unsigned>(std::bit_width((bytes - 1) / smallest_bytes));
}
constexpr std::size_t bytes_of(unsigned size_class) noexcept {
  return smallest_bytes << size_class;
}

}  // namespace

class fiber_stack_pool {
 public:
  fiber_stack_pool() noexcept = default;
  fiber_stack_pool(const fiber_stack_pool&) = delete;
  fiber_stack_pool& operator=(const fiber_stack_pool&) = delete;
  ~fiber_stack_pool() {
    trim();
    ended_ = true;
  }

  fiber_stack& take(std::size_t bytes) {
    const unsigned size_class = class_of(bytes);
    fiber_stack* taken = take_pooled(size_class);
    if (taken == nullptr) {
      taken = map(size_class);
      // What nobody uses counts against the same limits.
      if (taken == nullptr && counters_.pooled != 0) {
        trim();
        taken = map(size_class);
      }
      if (taken == nullptr) throw no_fiber_stack();
    }
    ++counters_.in_use;
    return *taken;
  }

  void give_back(fiber_stack& stack) noexcept {
    KEEL_ASSERT(counters_.in_use != 0, "the stack of a fiber came back on another thread");
    --counters_.in_use;
    // Frames that were never returned from are still marked.
    allow_memory(stack.low(), stack.size_bytes());
    if (ended_ || counters_.pooled >= pooled_max) return unmap(stack);
    const std::size_t bytes = stack.size_bytes();
    const bool warm = counters_.warm_bytes == 0 || counters_.warm_bytes + bytes <= warm_bytes_max;
    if (warm) {
      counters_.warm_bytes += bytes;
    } else {
      cool(stack);
    }
    forbid_memory(stack.low(), bytes);
    fiber_stack*& list = (warm ? warm_ : cold_)[stack.size_class_];
    stack.next_free_ = list;
    list = &stack;
    ++counters_.pooled;
  }

  void trim() noexcept {
    for (unsigned size_class = 0; size_class < class_count; ++size_class)
      while (fiber_stack* unused = pop(size_class)) unmap(*unused);
  }

  std::size_t high_water_bytes() noexcept {
    for (const fiber_stack* stack = all_; stack != nullptr; stack = stack->next_) note_use(*stack);
    return high_water_bytes_;
  }
  const fiber_counters& counters() const noexcept { return counters_; }

 private:
  fiber_stack* take_pooled(unsigned size_class) noexcept {
    fiber_stack* taken = pop(size_class);
    if (taken != nullptr) ++counters_.reused;
    return taken;
  }

  fiber_stack* pop(unsigned size_class) noexcept {
    const bool warm = warm_[size_class] != nullptr;
    fiber_stack*& list = (warm ? warm_ : cold_)[size_class];
    if (list == nullptr) return nullptr;
    fiber_stack& taken = *list;
    list = taken.next_free_;
    --counters_.pooled;
    if (warm) counters_.warm_bytes -= taken.size_bytes();
    allow_memory(taken.low(), taken.size_bytes());
    return &taken;
  }

  fiber_stack* map(unsigned size_class) noexcept {
    const std::size_t mapped_bytes = guard_bytes + bytes_of(size_class);
    void* mapped = ::mmap(nullptr, mapped_bytes, PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK | MAP_NORESERVE, -1, 0);
    if (mapped == MAP_FAILED) return nullptr;
    char* low = static_cast<char*>(mapped) + guard_bytes;
    const std::size_t usable_bytes = mapped_bytes - guard_bytes;
    // Fails when the process has too many mappings.
    if (::mprotect(low, usable_bytes, PROT_READ | PROT_WRITE) != 0) {
      ::munmap(mapped, mapped_bytes);
      return nullptr;
    }
    if (usable_bytes >= huge_page_bytes) ::madvise(low, usable_bytes, MADV_NOHUGEPAGE);

    char* end = low + usable_bytes;
    auto* made = ::new (static_cast<void*>(end - own_bytes)) fiber_stack();
    made->low_ = low;
    made->top_ = made;
    made->size_class_ = size_class;
    made->next_ = all_;
    if (all_ != nullptr) all_->previous_ = made;
    all_ = made;
    ++counters_.fresh;
    return made;
  }

  void unmap(fiber_stack& stack) noexcept {
    note_use(stack);
    if (stack.next_ != nullptr) stack.next_->previous_ = stack.previous_;
    (stack.previous_ != nullptr ? stack.previous_->next_ : all_) = stack.next_;
    ::munmap(stack.low_ - guard_bytes, guard_bytes + bytes_of(stack.size_class_));
  }

  // Gives the memory back and keeps the mapping, but for the page at the top.
  void cool(fiber_stack& stack) noexcept {
    note_use(stack);
    ::madvise(stack.low_, bytes_of(stack.size_class_) - page_bytes, MADV_DONTNEED);
  }

  void note_use(const fiber_stack& stack) noexcept {
    high_water_bytes_ = std::max(high_water_bytes_, stack.used_bytes());
  }

  fiber_stack* warm_[class_count] = {};
  fiber_stack* cold_[class_count] = {};
  fiber_stack* all_ = nullptr;
  fiber_counters counters_;
  std::size_t high_water_bytes_ = 0;
  bool ended_ = false;  // fibers may still end in later destructors of this thread
};

namespace {

thread_local constinit fiber_stack_pool* this_thread = nullptr;

fiber_stack_pool& make_pool() noexcept {
  static thread_local fiber_stack_pool instance;
  this_thread = &instance;
  return instance;
}

fiber_stack_pool& get_pool() noexcept {
  return this_thread != nullptr ? *this_thread : make_pool();
}

}  // namespace

fiber_stack& fiber_stack::take(std::size_t stack_bytes) {
  KEEL_ASSERT(stack_bytes <= largest_bytes, "a fiber has at most 1 GiB of stack");
  return get_pool().take(stack_bytes * larger_frames);
}

void fiber_stack::give_back() noexcept {
  get_pool().give_back(*this);
}

std::size_t fiber_stack::nominal_bytes() const noexcept {
  return bytes_of(size_class_);
}

bool fiber_stack::guards(const void* address) const noexcept {
  const auto* byte = static_cast<const char*>(address);
  return byte < low_ && byte >= low_ - guard_bytes;
}

__attribute__((no_sanitize("address"), no_sanitize("thread"))) std::size_t fiber_stack::used_bytes()
    const noexcept {
  const auto* end = static_cast<const char*>(top_);
  // From the bottom up: a page that is not there was not used, and is not touched by asking.
  constexpr std::size_t pages_at_once = 64;
  for (char* begin = low_; begin < end; begin += pages_at_once * page_bytes) {
    unsigned char there[pages_at_once];
    const auto bytes =
        std::min<std::size_t>(static_cast<std::size_t>(end - begin), pages_at_once * page_bytes);
    if (::mincore(begin, bytes, there) != 0) return 0;
    for (std::size_t page = 0; page * page_bytes < bytes; ++page) {
      if ((there[page] & 1) == 0) continue;
      const auto* word = reinterpret_cast<const std::uint64_t*>(begin + page * page_bytes);
      const auto* stop = word + page_bytes / sizeof *word;
      while (word < stop && reinterpret_cast<const char*>(word) < end && *word == 0) ++word;
      if (word < stop && reinterpret_cast<const char*>(word) < end)
        return static_cast<std::size_t>(end - reinterpret_cast<const char*>(word));
    }
  }
  return 0;
}

}  // namespace detail

const char* no_fiber_stack::what() const noexcept {
  return "no stack for a fiber: memory is used up, or the number of mappings: each fiber takes two of "
         "'sysctl "
         "vm.max_map_count'";
}

fiber_counters this_thread_fibers() noexcept {
  return detail::get_pool().counters();
}

std::size_t fiber_high_water_bytes() noexcept {
  return detail::get_pool().high_water_bytes();
}

void trim_fiber_stacks() noexcept {
  detail::get_pool().trim();
}

}  // namespace keel
