// or_return ends the coroutine with an error: only one that returns a result can say it.
// EXPECT: await_transform
#include <keel/runtime/task.hpp>

keel::task<keel::result<int>> child() { co_return 1; }

keel::task<keel::result<int>> parent() { co_return co_await keel::or_return(child()); }

keel::task<int> plain() {
#ifdef OFFENDING
  co_return co_await keel::or_return(child());
#endif
  co_return 0;
}
