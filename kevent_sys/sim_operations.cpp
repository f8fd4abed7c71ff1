// The operations of sim_engine that work on the objects of a world, and the faults that meet them.

#include "sim_flight.hpp"
#include "sim_kernel.hpp"

#include <algorithm>

namespace keel::kevent_sys {
namespace {

constexpr std::uint32_t in_events = POLLIN | POLLPRI | POLLRDNORM | POLLRDBAND | POLLRDHUP;
constexpr std::uint32_t out_events = POLLOUT | POLLWRNORM | POLLWRBAND;
constexpr std::uint32_t always_events = POLLERR | POLLHUP | POLLNVAL;
// The kernel that takes none of what there is does so only a few times running.
constexpr unsigned refusals_max = 3;

bool needs_object(opcode code) noexcept {
  return code != opcode::open && code != opcode::close && code != opcode::call && code != opcode::futex;
}

bool receives(opcode code) noexcept {
  return code == opcode::recv || code == opcode::read || is_pooled(code);
}

bool transfers(opcode code) noexcept {
  return receives(code) || code == opcode::send || code == opcode::write || code == opcode::sendfile;
}

bool goes_on(const request& asked, std::int32_t value) noexcept {
  return asked.multishot && (is_pooled(asked.code) ? value > 0 : value >= 0);
}

}  // namespace

void sim_engine::flight::retry_at(std::uint64_t ns) noexcept {
  if (at != place::waiting || ns == never) return;
  if (home.bug == sim_bug::forgets_a_waiter) {
    home.bug = sim_bug::none;
    return;
  }
  const std::uint64_t due_ns = std::max({ns, home.now_ns, not_before_ns});
  if (!on_agenda || due.first > due_ns) home.put_on_agenda(*this, due_ns);
}

void sim_engine::state::leave_object(flight& f) {
  if (f.at == flight::place::refused) std::erase(backlog, &f);
  f.at = flight::place::scripted;
  if (f.object == nullptr) return;
  f.object->forget(f);
  const auto object = std::move(f.object);
  f.object = nullptr;
  kernel->end_use(*object);
}

// Whether an object, or the engine itself, says what becomes of `f`.
bool sim_engine::takes_object(flight& f) {
  const request& asked = f.op.asked;
  sim_kernel* objects = kernel();
  state_->kernel = objects;
  if (objects != nullptr) objects->now_ns = state_->now_ns;
  switch (asked.code) {
    case opcode::nop:
    case opcode::wake:
    case opcode::timer: return false;
    case opcode::call:
    case opcode::futex: break;
    case opcode::open:
      if (objects == nullptr || !objects->has_disk) return false;
      break;
    default:
      if (objects == nullptr || !objects->takes(asked)) return false;
  }
  state& s = *state_;
  if (!s.backlog.empty() || s.random.hit(s.faults.refusals)) {
    f.at = flight::place::refused;
    s.backlog.push_back(&f);
  } else {
    begin(f);
  }
  return true;
}

// The kernel takes `f`: its descriptor is looked up.
void sim_engine::begin(flight& f) {
  f.at = flight::place::waiting;
  if (needs_object(f.op.asked.code)) {
    f.object = state_->kernel->find(f.op.asked.fd);
    if (f.object == nullptr) {
      hold(f, {-EBADF, 0}, 0);
      return;
    }
    state_->kernel->begin_use(*f.object);
    f.object->add(f);
  }
  roll(f);
}

void sim_engine::admit() {
  state& s = *state_;
  if (s.backlog.empty()) return;
  std::size_t taken = s.backlog.size();
  if (s.refusals < refusals_max && s.random.hit(s.faults.refusals)) {
    taken = s.random.below(taken);
    ++s.refusals;
  } else {
    s.refusals = 0;
  }
  for (; taken > 0; --taken) {
    flight& f = *s.backlog.front();
    s.backlog.pop_front();
    begin(f);
  }
}

// Decides what goes wrong with the next answer of `f`, and sets it going.
void sim_engine::roll(flight& f) {
  state& s = *state_;
  f.at = flight::place::waiting;
  f.injected = 0;
  f.not_before_ns = s.now_ns;
  const opcode code = f.op.asked.code;
  const auto errors = sim_errors(code);
  if (code != opcode::futex && s.random.hit(s.faults.hangs)) {
    s.unschedule(f);
    f.at = flight::place::hanging;
    return;
  }
  if (!errors.empty() && s.random.hit(s.faults.errors)) f.injected = errors[s.random.below(errors.size())];
  if (s.random.hit(s.faults.delays)) f.not_before_ns += 1 + s.random.below(s.faults.delay_max_ns);
  s.put_on_agenda(f, f.not_before_ns);
}

// `f` is due. REQUIRES: room in the sink
void sim_engine::attempt(flight& f) {
  state& s = *state_;
  if (kernel() != nullptr) kernel()->now_ns = s.now_ns;
  int buffer = -1;
  if (f.at == flight::place::waiting && f.injected == 0 && is_pooled(f.op.asked.code)) {
    // Without a buffer it stays on the agenda, and is looked at again with each poll().
    if (!take_buffer(f, buffer)) return;
  }
  s.unschedule(f);
  if (f.at == flight::place::held) {
    deliver_held(f);
  } else if (f.injected != 0) {
    fail(f);
  } else if (f.op.asked.code == opcode::poll) {
    attempt_poll(f);
  } else if (f.op.asked.code == opcode::futex) {
    attempt_futex(f);
  } else {
    attempt_work(f, buffer);
  }
}

bool sim_engine::take_buffer(flight& f, int& buffer) {
  state& s = *state_;
  if ((f.object->ready(s.now_ns) & (POLLIN | always_events)) == 0) {
    s.unschedule(f);
    park(f, f.object->next_change_ns(s.now_ns));
    return false;
  }
  const bool last_try = f.cancel_ns <= s.now_ns;
  if (!last_try && s.random.hit(s.faults.starvations)) {
    ++counters_.starved;
    f.not_before_ns = s.now_ns + 1 + s.random.below(s.faults.delay_max_ns);
    s.put_on_agenda(f, std::min(f.not_before_ns, f.cancel_ns));
    return false;
  }
  if (buffer_at_home()) {
    buffer = pool_->take();
    return true;
  }
  ++counters_.starved;
  if (last_try) {
    s.unschedule(f);
    conclude(f, {-ECANCELED, 0});
  }
  return false;
}

void sim_engine::attempt_poll(flight& f) {
  state& s = *state_;
  sim_object& object = *f.object;
  const std::uint32_t wanted = f.op.asked.flags & ~poll_exclusive;
  const bool exclusive = (f.op.asked.flags & poll_exclusive) != 0;
  const std::uint32_t mask = object.ready(s.now_ns) & (wanted | always_events);
  const bool takes_in = (wanted & in_events) != 0 || (wanted & out_events) == 0;
  const std::uint64_t edges =
      (takes_in ? object.arrivals : 0) + ((wanted & out_events) != 0 ? object.openings : 0);
  // The first look is at the level; a multishot then answers edges.
  bool answers = mask != 0;
  if (f.tried && f.op.asked.multishot) answers = answers && edges != f.edges_seen;
  if (f.tried && exclusive) answers = answers && object.arrivals + object.openings > object.exclusive_served;
  f.edges_seen = edges;
  f.tried = true;
  if (!answers) {
    park(f, object.next_change_ns(s.now_ns));
    return;
  }
  if (exclusive) object.exclusive_served = object.arrivals + object.openings;
  conclude(f, {static_cast<std::int32_t>(mask), 0});
}

void sim_engine::attempt_futex(flight& f) {
  const auto* word = static_cast<const std::uint32_t*>(f.op.asked.data);
  const bool differs = __atomic_load_n(word, __ATOMIC_SEQ_CST) != f.op.asked.offset;
  if (differs && !f.tried) {
    conclude(f, {-EAGAIN, 0});
  } else {
    park(f, never);
  }
}

std::uint32_t sim_engine::wake_futex(const std::uint32_t& word, std::uint32_t count) {
  std::uint32_t woken = 0;
  for (const auto& [order, f] : state_->by_age()) {
    const request& asked = f->op.asked;
    if (woken == count || asked.code != opcode::futex || asked.data != &word) continue;
    // Before its first look at the word it does not wait yet.
    if (f->at != flight::place::waiting || !f->tried) continue;
    conclude(*f, {0, 0});
    ++woken;
  }
  return woken;
}

std::size_t sim_engine::limit_of(const flight& f) {
  state& s = *state_;
  const request& asked = f.op.asked;
  std::uint64_t size = asked.size_bytes;
  if (is_pooled(asked.code)) size = pool_->buffer_bytes();
  if (asked.code == opcode::sendfile) size = asked.count;
  if (!transfers(asked.code) || !f.object->is_stream() || size <= 1) return size;
  if (s.faults.one_byte) return 1;
  if (!s.random.hit(s.faults.short_counts)) return size;
  const std::uint64_t counts[] = {1, size / 2, size - 1};
  return counts[s.random.below(std::size(counts))];
}

void sim_engine::attempt_work(flight& f, int buffer) {
  state& s = *state_;
  const request& asked = f.op.asked;
  if (asked.code == opcode::call) {
    const auto& what = *static_cast<const blocking_call*>(asked.data);
    s.checker.executed(f.op, s.now_ns);
    conclude(f, {what.function(what.context), 0});
    return;
  }
  byte_span target;
  if (buffer >= 0) {
    target = {pool_->data(static_cast<std::uint16_t>(buffer)), pool_->buffer_bytes()};
  } else if (receives(asked.code)) {
    target = {static_cast<std::byte*>(const_cast<void*>(asked.data)), asked.size_bytes};
  }
  const sim_step step = s.kernel->perform(asked, f.object.get(), target, limit_of(f));
  if (buffer >= 0 && (step.blocked || step.value <= 0)) {
    pool_->give_back(static_cast<std::uint16_t>(buffer));
    buffer = -1;
  }
  if (step.blocked) {
    park(f, step.retry_ns);
    return;
  }
  if (asked.code == opcode::close && step.value == 0) s.checker.closed(asked.fd, s.now_ns);
  s.checker.executed(f.op, s.now_ns);
  f.done = step;
  conclude(f, {step.value, buffer < 0 ? 0 : answer::buffer_flag | static_cast<std::uint32_t>(buffer) << 16});
}

void sim_engine::fail(flight& f) {
  state& s = *state_;
  const request& asked = f.op.asked;
  const int error = std::exchange(f.injected, 0);
  // Linux gives the descriptor up, whatever else happens.
  if (asked.code == opcode::close) {
    s.kernel->close(asked.fd);
    s.checker.closed(asked.fd, s.now_ns);
  }
  if (sim_error_is_fatal(error) && asked.code != opcode::connect) f.object->fail(s.now_ns);
  conclude(f, {-error, 0});
}

// Nothing to do so far.
void sim_engine::park(flight& f, std::uint64_t retry_ns) {
  f.tried = true;
  if (f.cancel_ns <= state_->now_ns) {
    conclude(f, {-ECANCELED, 0});
    return;
  }
  const std::uint64_t next_ns = std::min(retry_ns, f.cancel_ns);
  if (next_ns != never) state_->put_on_agenda(f, next_ns);
}

// The work is done. Its answer may take a while.
void sim_engine::conclude(flight& f, answer a) {
  state& s = *state_;
  const bool more = goes_on(f.op.asked, a.value) && !f.op.canceling() && !s.random.hit(s.faults.dropped_more);
  if (more) a.flags |= answer::more_flag;
  hold(f, a, s.random.hit(s.faults.late_answers) ? 1 + s.random.below(s.faults.window_max_ns) : 0);
}

void sim_engine::hold(flight& f, answer a, std::uint64_t delay_ns) {
  f.at = flight::place::held;
  f.answered = a;
  state_->put_on_agenda(f, state_->now_ns + delay_ns);
}

void sim_engine::deliver_held(flight& f) {
  state& s = *state_;
  operation& op = f.op;
  const answer a = f.answered;
  auto* data = static_cast<std::byte*>(const_cast<void*>(op.asked.data));
  if (a.has_buffer()) data = pool_->data(a.buffer());
  const sim_bug bug = plant_bug(f);
  if (bug == sim_bug::loses_an_answer) return;
  if (bug == sim_bug::changes_a_byte) data[0] ^= std::byte{1};
  if (sim_audit* audit = f.done.audit; audit != nullptr && a.value > 0) {
    const auto n = static_cast<std::size_t>(a.value);
    if (op.asked.code == opcode::sendfile) {
      audit->count += f.done.counted.count;
      audit->sum += f.done.counted.sum;
    } else {
      audit->note(f.done.position, {data, n});
    }
  }
  f.done = {};
  if (a.more()) {
    say(op, a);
    if (op.canceling()) {
      hold(f, {-ECANCELED, 0}, 0);
    } else {
      roll(f);
    }
    return;
  }
  s.leave_object(f);
  s.flights.erase(&op);
  say(op, a);
  if (bug == sim_bug::answers_twice) say(op, a);
}

// The bug that is due with this answer.
sim_bug sim_engine::plant_bug(flight& f) {
  state& s = *state_;
  const answer a = f.answered;
  if (s.bug == sim_bug::none || s.bug == sim_bug::forgets_a_waiter || a.value < 0 || a.more())
    return sim_bug::none;
  if (s.bug == sim_bug::changes_a_byte && (a.value == 0 || !receives(f.op.asked.code))) return sim_bug::none;
  if (s.bug_after > 0) {
    --s.bug_after;
    return sim_bug::none;
  }
  if (s.bug == sim_bug::loses_an_answer) f.at = flight::place::lost;
  return std::exchange(s.bug, sim_bug::none);
}

void sim_engine::cancel_object(flight& f) {
  state& s = *state_;
  if (f.at == flight::place::held) return;
  if (f.at == flight::place::refused) std::erase(s.backlog, &f);
  if (f.at != flight::place::waiting || !s.random.hit(s.faults.cancel_races)) {
    hold(f, {-ECANCELED, 0}, 0);
    return;
  }
  // It is tried once more, now or later: what it has got by then is its answer.
  f.cancel_ns = s.now_ns;
  if (s.random.hit(500)) f.cancel_ns += 1 + s.random.below(s.faults.delay_max_ns);
  f.not_before_ns = std::min(f.not_before_ns, f.cancel_ns);
  if (!f.on_agenda || f.due.first > f.cancel_ns) s.put_on_agenda(f, f.cancel_ns);
}

// Whether the next attempt would end `f`, or answer it once more.
bool sim_engine::can_finish(const flight& f) {
  const request& asked = f.op.asked;
  if (f.at != flight::place::waiting) return false;
  if (f.injected != 0) return true;
  if (f.object == nullptr) return asked.code != opcode::futex;
  const std::uint32_t mask = f.object->ready(state_->now_ns);
  if (asked.code == opcode::connect) return false;
  if (asked.code == opcode::poll) {
    const bool exhausted = asked.multishot || (asked.flags & poll_exclusive) != 0;
    return !exhausted && (mask & (asked.flags | always_events)) != 0;
  }
  const bool reads = receives(asked.code) || asked.code == opcode::accept;
  return (mask & (always_events | (reads ? std::uint32_t{POLLIN} : std::uint32_t{POLLOUT}))) != 0;
}

void sim_engine::expect_liveness(std::uint64_t limit_ns) {
  state& s = *state_;
  s.checker.expect_answers(s.now_ns, limit_ns);
  for (const auto& [order, f] : s.by_age()) {
    const std::string name = sim_name(f->op.asked);
    if (f->at == flight::place::hanging) s.checker.complain(name + " hangs");
    if (!f->on_agenda && can_finish(*f)) s.checker.complain(name + " could go on, and was not told");
    if (f->on_agenda && f->due.first + limit_ns < s.now_ns)
      s.checker.complain(name + " is due since " + std::to_string(f->due.first) + " ns");
  }
}

void sim_engine::stop_faults() noexcept {
  state& s = *state_;
  s.faults = sim_faults::calm();
  for (const auto& [order, f] : s.by_age()) {
    if (f->at != flight::place::hanging) continue;
    f->at = flight::place::waiting;
    s.put_on_agenda(*f, s.now_ns);
  }
}

}  // namespace keel::kevent_sys
