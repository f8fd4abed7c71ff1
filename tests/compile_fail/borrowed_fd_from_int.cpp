// A plain number is not a descriptor that somebody keeps open: the caller says so.
// EXPECT: could not convert | no matching function for call
#include <keel/base/unique_fd.hpp>

int read_from(keel::borrowed_fd fd) { return fd.get(); }

int read_both(const keel::unique_fd& owner) {
  int n = read_from(owner) + read_from(keel::borrowed_fd(0));
#ifdef OFFENDING
  n += read_from(0);
#endif
  return n;
}
