// Waiting at one or several places at once, until exactly one of them takes effect.
#pragma once

#include <keel/runtime/wait_point.hpp>

#include <cstdint>
#include <new>

namespace keel {

class choice;

// What has become of a wait.
enum class outcome : std::uint8_t { none, done, closed, canceled };

// A place in a queue, one of those at which a choice waits. Whoever has what it waits for calls settle().
// Copies have not begun.
struct choice_place : list_hook {
  using function = void (*)(choice_place& self) noexcept;

  // Takes effect: the choice leaves its other places and goes on in its turn.
  void settle(outcome as) noexcept;

  outcome how = outcome::none;
  choice* owner = nullptr;
  choice_place* next_place = nullptr;  // of the same choice
  function withdrawn = nullptr;        // told when it has left its queue without having been settled
};

// Who waits. Part of an awaitable; copies have not begun.
//
// INVARIANT: after begin(), exactly one of its places is settled, or it is canceled; then it is woken, and
// none of its places is in a queue. What was settled before the stop stays so.
class choice : public wait_point, private stop_callback {
 public:
  choice() noexcept : stop_callback(&stopped) {}
  choice(const choice& other) noexcept : wait_point(other), stop_callback(other) {}

  // REQUIRES: !context.stopped()
  void begin(waiter& up, stop_context& context, const char* what) noexcept {
    wait_point::begin(up, context, what);
    context.add(*this);
  }
  // Waits at `place`, too. The caller puts it into its queue.
  void add(choice_place& place) noexcept {
    place.owner = this;
    place.next_place = places_;
    places_ = &place;
  }
  // The place that took effect; null when none has.
  const choice_place* settled() const noexcept { return settled_; }

 private:
  friend choice_place;
  static void stopped(stop_callback& self, stop_level level) noexcept;
  void leave_others(const choice_place& but) noexcept;

  choice_place* places_ = nullptr;
  const choice_place* settled_ = nullptr;
};

// A choice that is not made before somebody has to wait: most never do. Copies are not made.
class late_choice {
 public:
  late_choice() noexcept {}
  late_choice(const late_choice& other) noexcept {
    KEEL_ASSERT(!other.made_, "what is awaited was moved after it had started");
  }
  late_choice& operator=(const late_choice&) = delete;
  ~late_choice() {
    if (made_) choice_.~choice();
  }

  choice& make() noexcept {
    KEEL_ASSERT(!made_, "what is awaited has started already: it is awaited once");
    made_ = true;
    return *::new (static_cast<void*>(&choice_)) choice;
  }
  std::coroutine_handle<> go_on(waiter& up, stop_context& context) noexcept {
    if (context.home().may_go_on()) return up.next(&up);
    return make().go_on(up, context);
  }
  std::coroutine_handle<> give_up(waiter& up, stop_context& context) noexcept {
    return make().give_up(up, context);
  }

 private:
  union {
    choice choice_;
  };
  bool made_ = false;
};

inline void choice_place::settle(outcome as) noexcept {
  choice& who = *owner;
  list_hook::unlink();
  how = as;
  if (who.places_->next_place != nullptr) who.leave_others(*this);
  who.settled_ = this;
  static_cast<stop_callback&>(who).unlink();
  who.wake();
}

}  // namespace keel
