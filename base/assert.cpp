#include <keel/base/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace keel::detail {

void assertion_failed(const char* expression, const char* why, const char* file, unsigned line,
                      const char* function) noexcept {
  const bool explained = why[0] != '\0';
  std::fprintf(stderr, "keel: %s:%u: %s: assertion failed: %s%s%s\n", file, line, function, expression,
               explained ? ": " : "", why);
  std::abort();
}

}  // namespace keel::detail
