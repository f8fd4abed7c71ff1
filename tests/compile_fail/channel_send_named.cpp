// A value is moved into a channel, and the caller says so; a number is copied.
// EXPECT: no matching function | cannot bind rvalue reference | no matching member function
#include <keel/runtime/channel.hpp>

struct order {
  explicit order(int n) : number(n) {}
  order(order&& other) noexcept : number(other.number) {}
  int number;
};

auto send_all(keel::channel<order>& orders, keel::channel<int>& numbers, order& one, int number) {
  auto by_move = orders.send(static_cast<order&&>(one));
  auto by_copy = numbers.send(number);
#ifdef OFFENDING
  auto by_mistake = orders.send(one);
#endif
  return sizeof by_move + sizeof by_copy;
}
