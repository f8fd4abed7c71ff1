// What next() gives is an optional: there is none of a reference.
// EXPECT: an async_generator gives values: for references, take pointers
#include <keel/runtime/async_generator.hpp>

#ifdef OFFENDING
keel::async_generator<int&> numbers(int& n) { co_yield n; }
#else
keel::async_generator<int*> numbers(int& n) { co_yield &n; }
#endif
