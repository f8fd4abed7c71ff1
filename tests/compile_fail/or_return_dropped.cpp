// An or_return that nobody awaits does nothing.
// EXPECT: nodiscard
#include <keel/base/or_return.hpp>

struct awaitable {};

void ask() {
  [[maybe_unused]] auto kept = keel::or_return(awaitable());
#ifdef OFFENDING
  keel::or_return(awaitable());
#endif
}
