// A coroutine runs once: its task has one owner.
// EXPECT: use of deleted function | call to implicitly-deleted copy constructor | call to deleted constructor
#include <keel/runtime/task.hpp>

#include <utility>

void hand_over(keel::task<>& owner) {
#ifdef OFFENDING
  keel::task<> copy(owner);
#endif
  keel::task<> moved(std::move(owner));
}
