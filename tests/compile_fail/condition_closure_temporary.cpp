// g++ 12 destroys a closure with a destructor twice when it is made in an expression with co_await.
// ONLY: defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
// EXPECT: g++ 12 destroys this temporary closure twice: give it a name, and pass the name
#include <keel/runtime/condition.hpp>
#include <keel/runtime/task.hpp>

#include <string>

keel::task<> reader(keel::condition& changed, keel::mutex::guard& held, std::string wanted) {
  auto named = [wanted] { return wanted.empty(); };
  static_cast<void>(co_await changed.wait(held, named));
  static_cast<void>(co_await changed.wait(held, [&wanted] { return wanted.empty(); }));
#ifdef OFFENDING
  static_cast<void>(co_await changed.wait(held, [wanted] { return wanted.empty(); }));
#endif
}
