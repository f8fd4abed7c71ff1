// The ways to learn which handles have a byte.
#pragma once

#include "field.hpp"

#include <cstdint>
#include <memory>

namespace kev_bench {

// Lives on the reader's thread: begin() -> collect() ... -> end().
class collector {
 public:
  explicit collector(field& handles) noexcept : handles_(handles) {}
  collector(const collector&) = delete;
  collector& operator=(const collector&) = delete;
  virtual ~collector() = default;

  virtual void begin() = 0;
  // Waits until there is a byte, and reads what one call of the interface told about.
  virtual void collect() = 0;
  virtual void end() = 0;
  // The reader's system calls so far; -1 where they cannot be counted from inside.
  virtual std::int64_t system_calls() const = 0;
  // What serves it, where that is chosen at run time.
  virtual const char* engine() const { return ""; }

 protected:
  field& handles_;
};

std::unique_ptr<collector> make_busy(field& handles);
std::unique_ptr<collector> make_epoll(field& handles, bool edge_triggered);
std::unique_ptr<collector> make_uring(field& handles);
// Completions: the bytes come with the event (keel::kevent_sys::queue).
std::unique_ptr<collector> make_kevent_completion(field& handles);
// Readiness, and a read of our own (the kevent calls): edge-triggered, or with MODIFY after each event.
std::unique_ptr<collector> make_kevent_readiness(field& handles, bool edge_triggered);

}  // namespace kev_bench
