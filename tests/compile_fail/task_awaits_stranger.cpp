// A task awaits what keel can stop: somebody else's awaitable is not.
// EXPECT: await_transform
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/task.hpp>

#include <coroutine>

keel::task<> parent() {
  static_cast<void>(co_await keel::sleep_for(keel::seconds(1)));
#ifdef OFFENDING
  co_await std::suspend_always();
#endif
}
