// Elements of an intrusive_list carry a hook.
// EXPECT: list_hook
#include <keel/base/intrusive_list.hpp>

struct element : keel::list_hook {};
struct stranger {};

void push(element& one, stranger& other, keel::intrusive_list<element>& list) {
  list.push_back(one);
  static_cast<void>(other);
#ifdef OFFENDING
  keel::intrusive_list<stranger> strangers;
  strangers.push_back(other);
#endif
}
