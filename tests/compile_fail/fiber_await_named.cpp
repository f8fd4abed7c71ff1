// In a fiber, too, what is awaited once is given away aloud when it has a name.
// EXPECT: use of deleted function | call to deleted function
#include <keel/runtime/fiber.hpp>

#include <utility>

keel::task<int> child() { co_return 1; }

int in_a_fiber() {
  auto named = child();
#ifdef OFFENDING
  return keel::await(named);
#endif
  return keel::await(std::move(named));
}
