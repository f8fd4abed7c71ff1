// A task that nobody awaits does nothing.
// EXPECT: nodiscard
#include <keel/runtime/task.hpp>

keel::task<> work() { co_return; }

keel::task<> parent() {
  co_await work();
#ifdef OFFENDING
  work();
#endif
}
