// g++ 12 destroys a closure with a destructor twice when it is made in an expression with co_await.
// ONLY: defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// EXPECT: g++ 12 destroys this temporary closure twice: give it a name, and pass the name
#include <keel/runtime/scope.hpp>

#include <string>

keel::task<> parent(std::string text) {
  auto named = [text](keel::scope&) -> keel::task<> { co_return; };
  co_await keel::scope(named);
  co_await keel::scope([&text](keel::scope&) -> keel::task<> { co_return; });
#ifdef OFFENDING
  co_await keel::scope([text](keel::scope&) -> keel::task<> { co_return; });
#endif
}
