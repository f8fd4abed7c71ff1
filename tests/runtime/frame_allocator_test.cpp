#include <keel/runtime/frame_allocator.hpp>

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

using keel::this_thread_frames;
using keel::detail::allocate_frame;
using keel::detail::free_frame;

TEST_CASE("frames: what was freed is had again for any size of its class") {
  free_frame(allocate_frame(103), 103);
  const auto before = this_thread_frames();
  void* same = allocate_frame(104);
  CHECK(this_thread_frames().recycled == before.recycled + 1);
  CHECK(this_thread_frames().fresh == before.fresh);
  CHECK(this_thread_frames().live == before.live + 1);
  free_frame(same, 104);
  CHECK(this_thread_frames().live == before.live);
}

TEST_CASE("frames: every size can be written from end to end, and is aligned for every type") {
  std::vector<std::pair<void*, std::size_t>> frames;
  for (std::size_t size = 1; size < 5'000; size += 61) {
    void* memory = allocate_frame(size);
    CHECK(reinterpret_cast<std::uintptr_t>(memory) % alignof(std::max_align_t) == 0);
    std::memset(memory, static_cast<int>(size & 0xff), size);
    frames.emplace_back(memory, size);
  }
  for (const auto& [memory, size] : frames) {
    const auto* bytes = static_cast<const unsigned char*>(memory);
    CHECK(bytes[0] == (size & 0xff));
    CHECK(bytes[size - 1] == (size & 0xff));
  }
  for (const auto& [memory, size] : frames) free_frame(memory, size);
}

TEST_CASE("frames: large ones are new each time") {
  const auto before = this_thread_frames();
  for (int i = 0; i < 3; ++i) free_frame(allocate_frame(100'000), 100'000);
  CHECK(this_thread_frames().fresh == before.fresh + 3);
  CHECK(this_thread_frames().recycled == before.recycled);
}

TEST_CASE("frames: what is kept for later is bounded") {
  constexpr std::size_t many = 5'000;
  constexpr std::size_t size = 2'000;
  std::vector<void*> frames(many);
  for (void*& frame : frames) frame = allocate_frame(size);
  for (void* frame : frames) free_frame(frame, size);
  const auto before = this_thread_frames();
  for (void*& frame : frames) frame = allocate_frame(size);
  CHECK(this_thread_frames().recycled - before.recycled < many / 2);
  CHECK(this_thread_frames().recycled - before.recycled > 100);
  for (void* frame : frames) free_frame(frame, size);
}

TEST_CASE("frames: one may be freed on another thread, which has counters of its own") {
  void* frame = allocate_frame(300);
  std::memset(frame, 1, 300);
  std::thread([frame] {
    const auto before = this_thread_frames();
    CHECK(before.fresh == 0);
    free_frame(frame, 300);
    void* again = allocate_frame(300);
    CHECK(this_thread_frames().recycled == 1);
    free_frame(again, 300);
  }).join();
}
