// A request outlives the expression that makes it: a named awaitable has to be given away.
// EXPECT: give or_return the call itself, or std::move(task)
#include <keel/base/or_return.hpp>

struct awaitable {};

void ask() {
  awaitable named;
  [[maybe_unused]] auto moved = keel::or_return(static_cast<awaitable&&>(named));
#ifdef OFFENDING
  [[maybe_unused]] auto copied = keel::or_return(named);
#endif
}
