// A stack of its own, for the explorer: its threads are fibers of one thread, so that real code runs in
// them.
#pragma once

#include <ucontext.h>
#include <cstddef>
#include <memory>

namespace keel::test {

// Life cycle: made -> switch_to()ed, which runs body(context) -> abandoned wherever it stands.
class fiber {
 public:
  using function = void (*)(void* context);

  // The stack that the caller runs on.
  fiber() noexcept;
  // `body` must not return.
  fiber(function body, void* context);
  fiber(const fiber&) = delete;
  fiber& operator=(const fiber&) = delete;
  ~fiber();

  // REQUIRES: *this runs
  void switch_to(fiber& next) noexcept;

 private:
  static constexpr std::size_t stack_bytes = std::size_t{128} * 1024;
  static void enter(unsigned high, unsigned low);

  ucontext_t context_{};
  std::unique_ptr<std::byte[]> stack_;
  function body_ = nullptr;
  void* argument_ = nullptr;
  fiber* came_from_ = nullptr;
  // What the sanitizers want to know of it.
  const void* bottom_ = nullptr;
  std::size_t size_ = 0;
  [[maybe_unused]] void* shadow_ = nullptr;
};

}  // namespace keel::test
