// A lock that nobody awaits locks nothing.
// EXPECT: nodiscard
#include <keel/runtime/mutex.hpp>
#include <keel/runtime/task.hpp>

keel::task<> critical(keel::mutex& m) {
  const auto guard = co_await m.lock();
#ifdef OFFENDING
  m.lock();
#endif
}
