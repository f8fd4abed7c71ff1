// One descriptor has one owner.
// EXPECT: use of deleted function | call to implicitly-deleted copy constructor
#include <keel/base/unique_fd.hpp>

#include <utility>

void hand_over(keel::unique_fd& owner) {
#ifdef OFFENDING
  keel::unique_fd copy(owner);
#endif
  keel::unique_fd moved(std::move(owner));
}
