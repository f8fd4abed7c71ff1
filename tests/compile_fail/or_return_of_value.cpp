// What cannot fail has no error to return.
// EXPECT: or_return takes what gives a result<T>
#include <keel/runtime/task.hpp>

keel::task<int> child() { co_return 1; }

keel::task<keel::result<int>> parent() {
#ifdef OFFENDING
  co_return co_await keel::or_return(child());
#endif
  co_return co_await child();
}
