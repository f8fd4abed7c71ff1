// A generator is read without a scheduler: there is nobody who could let it wait.
// EXPECT: a generator cannot wait: async_generator can
#include <keel/runtime/generator.hpp>
#include <keel/runtime/sleep.hpp>

keel::generator<int> numbers() {
#ifdef OFFENDING
  static_cast<void>(co_await keel::sleep_for(keel::seconds(1)));
#endif
  co_yield 1;
}
