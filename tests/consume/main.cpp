#include <keel/keel.hpp>

#include <cstdio>

keel::task<> hello() {
  std::puts("hello from a keel task");
  co_return;
}

int main() {
  keel::run(hello());
}
