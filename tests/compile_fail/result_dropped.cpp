// An error is looked at, or thrown away aloud.
// EXPECT: nodiscard
#include <keel/base/result.hpp>

keel::result<void> work() { return {}; }

void drop() {
  static_cast<void>(work());
#ifdef OFFENDING
  work();
#endif
}
