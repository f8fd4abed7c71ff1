// A task is awaited once, and a named one is given away aloud.
// EXPECT: use of deleted function | call to deleted member function
#include <keel/runtime/task.hpp>

#include <utility>

keel::task<int> child() { co_return 1; }

keel::task<int> parent() {
  auto named = child();
#ifdef OFFENDING
  co_return co_await named;
#endif
  co_return co_await std::move(named);
}
