// A sleep that nobody awaits does not sleep.
// EXPECT: nodiscard
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/task.hpp>

keel::task<> nap() {
  static_cast<void>(co_await keel::sleep_for(keel::seconds(1)));
#ifdef OFFENDING
  keel::sleep_for(keel::seconds(1));
#endif
}
