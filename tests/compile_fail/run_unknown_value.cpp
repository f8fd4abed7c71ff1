// An exit code is made of nothing, an int or a result.
// EXPECT: run() takes a function that returns task<>, task<result<T>> or task<int>
#include <keel/runtime/run.hpp>

keel::task<int> code() { co_return 3; }
keel::task<double> no_code() { co_return 0.5; }

int start() {
#ifdef OFFENDING
  keel::run({}, no_code);
#endif
  return keel::run({}, code);
}
