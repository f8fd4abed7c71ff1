// Combinators take over their operands: a named task is given away aloud.
// EXPECT: no matching function for call
#include <keel/runtime/task.hpp>
#include <keel/runtime/when_all.hpp>

#include <utility>

keel::task<int> child() { co_return 1; }

keel::task<> parent() {
  auto named = child();
#ifdef OFFENDING
  static_cast<void>(co_await keel::when_all(named, child()));
#endif
  static_cast<void>(co_await keel::when_all(std::move(named), child()));
}
