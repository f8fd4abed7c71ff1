// A result is no number: `int n = recv(...)` would read 1 for every success.
// EXPECT: cannot convert | no viable conversion
#include <keel/base/result.hpp>

int count(keel::result<int> answer) {
#ifdef OFFENDING
  int n = answer;
  return n;
#endif
  return answer.has_value() ? *answer : 0;
}
