// Private to kevent_sys: what sim_engine knows of the operations in flight.
#pragma once

#include <keel/kevent_sys/sim_engine.hpp>

#include "sim_object.hpp"

#include <deque>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>

namespace keel::kevent_sys {

inline bool is_pooled(opcode code) noexcept {
  return code == opcode::receive || code == opcode::drain;
}

// An opcode, and the descriptor it works on.
using sim_kind = std::pair<opcode, int>;

// Due at a time; the number orders what is due at the same time, and keeps the keys apart.
using sim_moment = std::pair<std::uint64_t, std::uint64_t>;

// An outcome that owns its bytes.
struct sim_planned {
  explicit sim_planned(const sim_outcome& o)
      : value(o.value), delay_ns(o.delay_ns), more(o.more), on_cancel(o.on_cancel), data(o.data) {}

  std::int32_t value;
  std::uint64_t delay_ns;
  bool more;
  sim_cancel on_cancel;
  std::string data;
};

struct sim_engine::flight final : sim_waiter {
  // Where an operation stands.
  enum class place : std::uint8_t {
    scripted,  // waits for an outcome, or for its outcome's time
    refused,   // in the backlog: the kernel has not taken it yet
    waiting,   // works on an object: on the agenda, or until that tells of a change
    hanging,   // a fault: nothing but a cancel or the end of faults moves it
    held,      // done: `answered` comes at its time
    lost,      // a planted bug has taken its answer
  };

  flight(operation& o, state& s) : op(o), home(s) {}
  void retry_at(std::uint64_t ns) noexcept override;
  // A script may still say what it comes to.
  bool open() const noexcept { return at != place::held && at != place::lost; }

  operation& op;
  state& home;
  std::uint64_t order = 0;          // of the submission
  std::deque<sim_planned> outcome;  // none, or the one it waits for
  sim_kind taken_from{};            // the script that it came from
  sim_moment due{};
  bool on_agenda = false;

  place at = place::scripted;
  std::shared_ptr<sim_object> object;  // null for opcodes without a descriptor
  int injected = 0;                    // the error that it comes to
  bool tried = false;
  std::uint64_t not_before_ns = 0;
  std::uint64_t cancel_ns = never;  // cancelled: ends by then at the latest
  std::uint64_t edges_seen = 0;     // polls
  answer answered;
  sim_step done;  // of `answered`: what was transferred
};

struct sim_engine::state {
  state(const sim_options& options, std::uint64_t seed)
      : now_ns(options.now_ns), faults(options.faults), random(seed), bug(options.bug) {}

  // A script says what becomes of `f`.
  void schedule(flight& f, sim_planned p) {
    unschedule(f);
    leave_object(f);
    f.outcome.clear();
    f.outcome.push_back(std::move(p));
    const std::uint64_t delay_ns = f.outcome.front().delay_ns;
    if (delay_ns != never) put_on_agenda(f, delay_ns > never - now_ns ? never : now_ns + delay_ns);
  }
  void put_on_agenda(flight& f, std::uint64_t due_ns) {
    unschedule(f);
    f.due = {due_ns, ++sequence};
    f.on_agenda = true;
    agenda.emplace(f.due, &f);
  }
  void unschedule(flight& f) {
    if (std::exchange(f.on_agenda, false)) agenda.erase(f.due);
  }
  void leave_object(flight& f);
  // The oldest operation in flight of a kind, of those without an outcome or of all.
  flight* oldest(opcode code, int fd, bool without_outcome) {
    flight* found = nullptr;
    for (auto& [op, f] : flights) {
      const bool matches = op->asked.code == code && (fd == any_fd || op->asked.fd == fd);
      if (!matches || !f.open() || (without_outcome && !f.outcome.empty())) continue;
      if (found == nullptr || f.order < found->order) found = &f;
    }
    return found;
  }
  bool take_script(flight& f, sim_kind from) {
    const auto script = scripts.find(from);
    if (script == scripts.end() || script->second.empty()) return false;
    f.taken_from = from;
    sim_planned p = std::move(script->second.front());
    script->second.pop_front();
    schedule(f, std::move(p));
    return true;
  }
  std::map<std::uint64_t, flight*> by_age() {
    std::map<std::uint64_t, flight*> sorted;
    for (auto& [op, f] : flights) sorted.emplace(f.order, &f);
    return sorted;
  }

  std::uint64_t now_ns;
  std::uint64_t sequence = 0;
  std::unordered_map<operation*, flight> flights;
  std::map<sim_moment, flight*> agenda;
  std::map<sim_kind, std::deque<sim_planned>> scripts;
  std::map<opcode, sim_planned> defaults;
  std::map<sim_kind, std::uint64_t> submissions;
  std::map<sim_kind, request> newest;
  std::map<int, std::string> sent;

  sim_kernel* kernel = nullptr;  // from the first operation on an object on
  sim_faults faults;
  sim_random random;
  std::deque<flight*> backlog;  // refused, oldest first
  unsigned refusals = 0;        // in a row
  sim_bug bug;
  unsigned bug_after = 4;  // answers
  sim_checker checker;
  std::uint64_t trace = 0;
};

}  // namespace keel::kevent_sys
