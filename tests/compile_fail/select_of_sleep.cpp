// A select chooses among exchanges, of which those not chosen have not happened: a time limit goes around it.
// EXPECT: constraints not satisfied | no matching function | associated constraints
#include <keel/runtime/channel.hpp>
#include <keel/runtime/select.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/with_timeout.hpp>

auto first_of(keel::channel<int>& a, keel::channel<int>& b) {
  auto limited = keel::with_timeout(std::chrono::seconds(1), keel::select(a.receive(), b.receive()));
#ifdef OFFENDING
  auto mistaken = keel::select(a.receive(), keel::sleep_for(std::chrono::seconds(1)));
#endif
  return limited;
}
