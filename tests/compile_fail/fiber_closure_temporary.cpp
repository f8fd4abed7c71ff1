// g++ 12 destroys a temporary closure with a destructor twice when it stands in an expression with co_await.
// EXPECT: give it a name, and pass the name
// ONLY: defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
#include <keel/runtime/fiber.hpp>

#include <string>

keel::task<int> length(std::string text) {
#ifdef OFFENDING
  co_return co_await keel::fiber([text] { return static_cast<int>(text.size()); });
#endif
  auto named = [text] { return static_cast<int>(text.size()); };
  co_return co_await keel::fiber(named);
}
