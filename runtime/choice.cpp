#include <keel/runtime/choice.hpp>

namespace keel {
namespace {

void withdraw(choice_place& place) noexcept {
  if (!place.linked()) return;
  place.unlink();
  if (place.withdrawn != nullptr) place.withdrawn(place);
}

}  // namespace

void choice::leave_others(const choice_place& but) noexcept {
  for (choice_place* place = places_; place != nullptr; place = place->next_place)
    if (place != &but) withdraw(*place);
}

void choice::stopped(stop_callback& self, stop_level) noexcept {
  auto& me = static_cast<choice&>(self);
  for (choice_place* place = me.places_; place != nullptr; place = place->next_place) {
    place->how = outcome::canceled;
    withdraw(*place);
  }
  me.wake();
}

}  // namespace keel
