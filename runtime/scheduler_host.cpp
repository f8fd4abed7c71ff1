// A scheduler whose turns another loop calls.

#include <keel/runtime/scheduler.hpp>

namespace keel {
namespace {

// How many turns in a row a busy scheduler has before its host's loop has one.
constexpr unsigned turns_per_visit = 8;

}  // namespace

int scheduler::fd() {
  const int fd = queue_.pollable().value();
  // What happened before anybody watched is there to be done.
  if (!watched_) queue_.ring_bell();
  watched_ = true;
  return fd;
}

void scheduler::turn_for_host(time_point deadline) {
  turn(deadline);
  if (!watched_) return;
  // What the events of one turn have led to is handed over by the next.
  bool quiet = false;
  for (unsigned left = turns_per_visit; left > 0 && !quiet; --left) {
    const scheduler_counters before = counters_;
    turn(time_point());
    quiet = counters_.events == before.events && counters_.runs == before.runs &&
            counters_.messages == before.messages;
  }
  queue_.rest();
  resting_ = true;
  // As before a sleep: whoever posts from here on wakes the queue.
  const bool nothing_sent = inbox_.announce_sleep();
  if (!quiet || !nothing_sent) queue_.ring_bell();
}

}  // namespace keel
