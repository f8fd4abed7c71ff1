#include <keel/kevent_sys/sim_engine.hpp>

#include "sim_flight.hpp"
#include "sim_kernel.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace keel::kevent_sys {
namespace {

bool is_stream(opcode code) noexcept {
  return code == opcode::recv || is_pooled(code);
}
bool has_target(opcode code) noexcept {
  return code == opcode::recv || code == opcode::read;
}
bool is_sending(opcode code) noexcept {
  return code == opcode::send || code == opcode::write || code == opcode::sendfile;
}

// What a kernel keeps when the operation that waited for it is cancelled.
bool survives_cancel(opcode code, const sim_planned& p) noexcept {
  return p.value >= 0 && (is_stream(code) || code == opcode::accept);
}

bool matches(const request& asked, opcode code, int fd) noexcept {
  return asked.code == code && (fd == sim_engine::any_fd || asked.fd == fd);
}

}  // namespace

sim_engine::sim_engine(event_sink& sink, const sim_options& options)
    : sim_engine(sink, options, nullptr, options.seed) {}

sim_engine::sim_engine(event_sink& sink, const sim_options& options, sim_world* world, std::uint64_t seed)
    : engine(sink), options_(options), world_(world), state_(new state(options, seed)) {
  pool_ = new buffer_pool(options.buffers, options.buffer_bytes, unique_fd());
  pool_->set_limit(std::max(options.buffers, options.buffers_limit));
  info_.name = "sim";
  info_.reason = "made by a test";
  set_default(opcode::nop, {});
}

sim_engine::~sim_engine() {
  KEEL_ASSERT(in_flight() == 0, "an engine was destroyed with operations in flight");
  if (world_ != nullptr) world_->engine_ends(*this);
  unlink();
  pool_->detach();
  delete state_;
}

void sim_engine::expect(opcode code, int fd, const sim_outcome& o) {
  KEEL_ASSERT(o.data.empty() || is_stream(code) || code == opcode::read, "only these take data");
  state_->scripts[{code, fd}].emplace_back(o);
  hand_on(code, fd);
}

void sim_engine::set_default(opcode code, const sim_outcome& o) {
  state_->defaults.insert_or_assign(code, sim_planned(o));
}

bool sim_engine::complete(opcode code, int fd, const sim_outcome& o) {
  flight* f = state_->oldest(code, fd, false);
  if (f == nullptr) return false;
  f->taken_from = {code, fd};
  sim_planned p(o);
  p.delay_ns = 0;
  state_->schedule(*f, std::move(p));
  return true;
}

void sim_engine::pass(std::uint64_t ns) noexcept {
  state_->now_ns += ns;
}

std::uint64_t sim_engine::submitted(opcode code, int fd) const noexcept {
  std::uint64_t count = 0;
  for (const auto& [which, n] : state_->submissions) {
    if (which.first == code && (fd == any_fd || which.second == fd)) count += n;
  }
  return count;
}

std::uint64_t sim_engine::waiting(opcode code, int fd) const noexcept {
  std::uint64_t count = 0;
  for (const auto& [op, f] : state_->flights) count += matches(op->asked, code, fd) ? 1 : 0;
  return count;
}

const request* sim_engine::last(opcode code, int fd) const noexcept {
  const auto found = state_->newest.find({code, fd});
  return found == state_->newest.end() ? nullptr : &found->second;
}

std::string_view sim_engine::sent(int fd) const noexcept {
  const auto found = state_->sent.find(fd);
  return found == state_->sent.end() ? std::string_view() : std::string_view(found->second);
}

std::uint64_t sim_engine::unused() const noexcept {
  std::uint64_t count = 0;
  for (const auto& [which, script] : state_->scripts) count += script.size();
  return count;
}

// The one place that says what an operation comes to. False: nothing, so far.
bool sim_engine::decide(flight& f) {
  const request& asked = f.op.asked;
  if (state_->take_script(f, {asked.code, asked.fd}) || state_->take_script(f, {asked.code, any_fd}))
    return true;
  const auto otherwise = state_->defaults.find(asked.code);
  if (otherwise == state_->defaults.end()) return takes_object(f);
  f.taken_from = {asked.code, asked.fd};
  state_->schedule(f, otherwise->second);
  return true;
}

void sim_engine::do_submit(operation& op) noexcept {
  state_->checker.submitted(op, state_->now_ns);
  const auto [place, is_new] = state_->flights.try_emplace(&op, op, *state_);
  KEEL_ASSERT(is_new);
  place->second.order = ++state_->sequence;
  ++state_->submissions[{op.asked.code, op.asked.fd}];
  state_->newest.insert_or_assign({op.asked.code, op.asked.fd}, op.asked);
  state_->newest.insert_or_assign({op.asked.code, any_fd}, op.asked);
  decide(place->second);
}

void sim_engine::do_cancel(operation& op) noexcept {
  flight& f = state_->flights.at(&op);
  if (f.at != flight::place::scripted) {
    cancel_object(f);
    return;
  }
  if (!f.outcome.empty()) {
    sim_planned& p = f.outcome.front();
    if (p.on_cancel == sim_cancel::ignored) return;
    if (p.on_cancel == sim_cancel::loses) {
      state_->put_on_agenda(f, state_->now_ns);
      return;
    }
    if (survives_cancel(op.asked.code, p)) {
      state_->scripts[f.taken_from].push_front(std::move(p));
      hand_on(op.asked.code, op.asked.fd);
    }
  }
  state_->schedule(f, sim_planned({.value = -ECANCELED}));
}

// Something was put back at the front of a script: somebody may wait for it.
void sim_engine::hand_on(opcode code, int fd) {
  if (flight* next = state_->oldest(code, fd, true)) decide(*next);
}

bool sim_engine::buffer_at_home() noexcept {
  if (pool_->at_home() != 0) return true;
  const int id = pool_->size() < options_.buffers_limit ? pool_->grow() : -1;
  if (id >= 0) pool_->adopt(static_cast<std::uint16_t>(id));
  return id >= 0;
}

// Answers `f` with its outcome. REQUIRES: room in the sink, and a buffer at home for the data of a receive
void sim_engine::deliver(flight& f) {
  operation& op = f.op;
  const request& asked = op.asked;
  state_->unschedule(f);
  sim_planned p = std::move(f.outcome.front());
  f.outcome.clear();
  answer a{p.value, 0};
  bool split = false;
  if (!p.data.empty()) {
    const bool pooled = is_pooled(asked.code);
    const std::size_t n =
        std::min<std::size_t>(p.data.size(), pooled ? pool_->buffer_bytes() : asked.size_bytes);
    a.value = static_cast<std::int32_t>(n);
    void* target = const_cast<void*>(asked.data);
    if (pooled) {
      const auto id = static_cast<std::uint16_t>(pool_->take());
      target = pool_->data(id);
      a.flags = answer::buffer_flag | std::uint32_t{id} << 16;
    }
    std::memcpy(target, p.data.data(), n);
    KEEL_ASSERT(n == p.data.size() || is_stream(asked.code), "more data than this read has room for");
    split = n < p.data.size();
    if (split) {
      // What is left is there already, and the end of a multishot comes with it.
      sim_planned rest = p;
      rest.data.erase(0, n);
      rest.delay_ns = 0;
      p.more = asked.multishot;
      state_->scripts[f.taken_from].push_front(std::move(rest));
    }
  } else if (is_sending(asked.code) || has_target(asked.code)) {
    const std::uint64_t most = asked.code == opcode::sendfile ? asked.count : asked.size_bytes;
    a.value = static_cast<std::int32_t>(std::min<std::int64_t>(p.value, static_cast<std::int64_t>(most)));
    if (a.value > 0 && asked.code != opcode::sendfile && is_sending(asked.code))
      state_->sent[asked.fd].append(static_cast<const char*>(asked.data), static_cast<std::size_t>(a.value));
  }
  if (!p.more) {
    const sim_kind same{asked.code, asked.fd};
    state_->flights.erase(&op);
    say(op, a);
    if (split) hand_on(same.first, same.second);
    return;
  }
  KEEL_ASSERT(asked.multishot, "only a multishot operation has more than one answer");
  a.flags |= answer::more_flag;
  say(op, a);
  if (op.canceling()) {
    state_->schedule(f, sim_planned({.value = -ECANCELED}));
  } else {
    decide(f);
  }
}

void sim_engine::deliver_due() {
  sim_moment last{};
  for (;;) {
    const auto next = state_->agenda.upper_bound(last);
    if (next == state_->agenda.end() || next->first.first > state_->now_ns || sink_.room() == 0) return;
    last = next->first;
    flight& f = *next->second;
    if (f.at != flight::place::scripted) {
      attempt(f);
      continue;
    }
    const bool takes_buffer = is_pooled(f.op.asked.code) && !f.outcome.front().data.empty();
    if (takes_buffer && !buffer_at_home()) {
      ++counters_.starved;
    } else {
      deliver(f);
    }
  }
}

void sim_engine::take_wake() noexcept {
  if (woken_.load(std::memory_order_acquire) == 0) return;
  flight* f = state_->oldest(opcode::wake, any_fd, true);
  if (f == nullptr || sink_.room() == 0) return;
  woken_.exchange(0, std::memory_order_acq_rel);
  say(f->op, answer{1, answer::more_flag});
}

void sim_engine::look_around() {
  state& s = *state_;
  if (sim_kernel* objects = kernel()) {
    objects->now_ns = s.now_ns;
    for (const int fd : objects->observe()) s.checker.closed(fd, s.now_ns);
  }
  if (s.random.hit(s.faults.spurious_wakes) && waiting(opcode::wake, any_fd) > 0)
    woken_.store(1, std::memory_order_release);
}

// The time of the next outcome, or of the next attempt.
std::uint64_t sim_engine::next_ns() const noexcept {
  const auto later = state_->agenda.upper_bound({state_->now_ns, ~std::uint64_t{0}});
  return later == state_->agenda.end() ? never : later->first.first;
}

void sim_engine::do_poll(std::uint64_t deadline_ns) noexcept {
  if (!attached_) {
    pool_->attach(nullptr, nullptr);
    attached_ = true;
  }
  ++counters_.enters;
  rung_ = false;
  sink_.settle();
  pool_->collect();
  look_around();
  for (;;) {
    admit();
    take_wake();
    deliver_due();
    if (!sink_.empty() || deadline_ns <= state_->now_ns) return;
    if (!state_->backlog.empty()) continue;
    if (next_ns() == never && deadline_ns == never) {
      wait_for_wake();
    } else {
      state_->now_ns = std::min(next_ns(), deadline_ns);
    }
  }
}

// Nothing but a wake() can happen.
void sim_engine::wait_for_wake() noexcept {
  if (!options_.outside_threads || waiting(opcode::wake, any_fd) == 0) report_deadlock();
  ++counters_.waits;
  woken_.wait(0, std::memory_order_acquire);
}

void sim_engine::do_wake() noexcept {
  woken_.store(1, std::memory_order_release);
  if (options_.outside_threads) woken_.notify_all();
}

// One thread: whoever could ring or wake has done so before, and the time passes at once.
void sim_engine::do_block(std::uint64_t deadline_ns) noexcept {
  state& s = *state_;
  const bool due = !s.agenda.empty() && s.agenda.begin()->first.first <= s.now_ns;
  if (rung_ || due || !s.backlog.empty() || !sink_.empty() || woken_.load(std::memory_order_acquire) != 0)
    return;
  const std::uint64_t until_ns = std::min({next_ns(), deadline_ns, alarm_ns_});
  if (until_ns == never) report_deadlock();
  s.now_ns = std::max(s.now_ns, until_ns);
  if (alarm_ns_ > s.now_ns) return;
  alarm_ns_ = never;
  rung_ = true;
}

void sim_engine::do_ring() noexcept {
  rung_ = true;
}

void sim_engine::do_set_alarm(std::uint64_t deadline_ns) noexcept {
  alarm_ns_ = deadline_ns;
}

std::uint64_t sim_engine::do_now_ns() noexcept {
  return state_->now_ns;
}

sim_kernel* sim_engine::kernel() const noexcept {
  return world_ == nullptr ? nullptr : world_->kernel_;
}

sim_checker& sim_engine::checker() noexcept {
  return state_->checker;
}
const sim_checker& sim_engine::checker() const noexcept {
  return state_->checker;
}

std::uint64_t sim_engine::trace_hash() const noexcept {
  return state_->trace;
}

// Every event goes through here.
void sim_engine::say(operation& op, answer a) {
  state& s = *state_;
  if (!s.checker.answered(op, a, s.now_ns)) return;
  const std::uint64_t seen[] = {s.now_ns, static_cast<std::uint64_t>(op.asked.code),
                                static_cast<std::uint32_t>(op.asked.fd), static_cast<std::uint32_t>(a.value),
                                a.flags};
  for (const std::uint64_t word : seen) s.trace = (std::rotl(s.trace, 23) ^ word) * 0x9e3779b97f4a7c15;
  publish(op, a);
}

void sim_engine::report_deadlock() const noexcept {
  std::fprintf(
      stderr,
      "keel: sim: nothing will ever happen: a poll without a deadline, at %llu ns, no outcome to come and no "
      "wake()\n",
      static_cast<unsigned long long>(state_->now_ns));
  std::map<std::uint64_t, const flight*> by_age;
  for (const auto& [op, f] : state_->flights) by_age.emplace(f.order, &f);
  if (by_age.empty()) std::fprintf(stderr, "      no operation is in flight\n");
  if (kernel() != nullptr)
    std::fprintf(stderr, "      KEEL_SEED=%llu\n", static_cast<unsigned long long>(options_.seed));
  for (const auto& [order, f] : by_age) {
    const char* why = ": nothing is written down for it";
    if (f->at == flight::place::waiting) why = ": its object gives nothing";
    if (f->at == flight::place::hanging) why = ": it hangs, as a fault";
    if (f->at == flight::place::lost) why = ": its answer is lost, as a bug";
    if (f->op.asked.code == opcode::wake) why = ": nobody called wake()";
    if (!f->outcome.empty()) why = ": its outcome comes when it is completed";
    if (f->on_agenda) why = ": all buffers are away";
    std::fprintf(stderr, "      in flight: %s fd %d%s%s\n", sim_name(f->op.asked.code), f->op.asked.fd,
                 f->op.canceling() ? ", cancelled" : "", why);
  }
  std::abort();
}

}  // namespace keel::kevent_sys
