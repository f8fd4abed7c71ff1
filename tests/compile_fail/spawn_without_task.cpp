// What is spawned is a task.
// EXPECT: spawn takes a function that returns task<T>
#include <keel/runtime/spawn.hpp>

keel::task<> fine() { co_return; }

void start() {
  keel::spawn(fine);
#ifdef OFFENDING
  keel::spawn([] { return 1; });
#endif
}
