#include "models/explorer.hpp"

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "models/fiber.hpp"

namespace keel::test {
namespace detail {
namespace {

constexpr unsigned nobody = threads_max;

struct virtual_thread {
  unsigned index = 0;
  std::unique_ptr<fiber> stack;
  bool ended = false;
  condition until;
  const char* doing = "";
  const void* object = nullptr;
  const void* parked_on = nullptr;
  unsigned locks = 0;
  view known;
  view loaded;
  view fence_released;
};

struct choice {
  std::uint8_t taken;
  std::uint8_t of;
};

class machine {
 public:
  machine(const exploration& options, const std::function<std::unique_ptr<model>()>& make)
      : options_(options), make_(make) {
    for (const std::uint8_t taken : options.only) path_.push_back({taken, 1});
    for (unsigned i = 0; i <= threads_max; ++i) threads_[i].index = i;
  }

  findings run();

  void step(const char* what, const void* object, condition until);
  void outcome(const char* what, std::uint64_t value);
  unsigned choose(unsigned n);
  unsigned any_value(unsigned n);
  void fail(std::string why);
  void note(const char* text) {
    if (telling_) tell(std::string("-- ") + text);
  }
  void label(const void* object, const char* name) { labels_.emplace_back(object, name); }

  virtual_thread& me() noexcept { return threads_[running_]; }

  const exploration& options_;
  unsigned running_ = nobody;
  unsigned steps_ = 0;
  unsigned locations_used_ = 0;
  std::array<location_state, locations_max> locations_;
  std::array<virtual_thread, threads_max + 1> threads_;  // the last: who makes and finishes the model
  view fenced_;

 private:
  void run_one();
  void reset();
  bool next_path();
  static void body(void* thread);
  void ended();
  unsigned pick(unsigned from);
  bool can_go(const virtual_thread& t) const {
    return !t.ended && (t.until.holds == nullptr || t.until.holds(t.until.what));
  }
  void go_on_with(unsigned next);
  void nobody_can_go_on();
  void tell(const std::string& text);
  std::string name_of(const void* object) const;

  const std::function<std::unique_ptr<model>()>& make_;
  std::unique_ptr<model> program_;
  unsigned count_ = 0;
  fiber outside_;
  bool beginning_ = false;  // threads run up to their first step
  unsigned preemptions_left_ = 0;
  unsigned stale_reads_left_ = 0;
  std::vector<choice> path_;
  std::size_t depth_ = 0;
  bool telling_ = false;
  std::string failure_;
  std::string schedule_;
  std::vector<std::pair<const void*, const char*>> labels_;
};

machine* current = nullptr;

void machine::reset() {
  running_ = nobody;
  steps_ = 0;
  locations_used_ = 0;
  for (location_state& l : locations_) l.stores.clear();
  fenced_ = {};
  preemptions_left_ = options_.preemptions;
  stale_reads_left_ = options_.stale_reads;
  depth_ = 0;
  failure_.clear();
  schedule_.clear();
  labels_.clear();
  for (virtual_thread& t : threads_) {
    t.ended = false;
    t.until = {};
    t.parked_on = nullptr;
    t.locks = 0;
    t.known = {};
    t.loaded = {};
    t.fence_released = {};
  }
}

void machine::run_one() {
  reset();
  program_ = make_();
  count_ = program_->threads();
  for (unsigned i = 0; i < count_; ++i) threads_[i].known = threads_[nobody].known;
  beginning_ = true;
  for (unsigned i = 0; i < count_ && failure_.empty(); ++i) {
    if (!threads_[i].stack) threads_[i].stack = std::make_unique<fiber>(&body, &threads_[i]);
    threads_[i].known.clock[i] = 1;
    running_ = i;
    outside_.switch_to(*threads_[i].stack);
  }
  beginning_ = false;
  running_ = nobody;
  if (failure_.empty()) {
    const unsigned first = pick(nobody);
    if (first != nobody) {
      running_ = first;
      outside_.switch_to(*threads_[first].stack);
    } else {
      nobody_can_go_on();
    }
  }
  running_ = nobody;
  if (failure_.empty()) {
    for (unsigned i = 0; i < count_; ++i) threads_[nobody].known.join(threads_[i].known);
    program_->finish();
  }
  // Stacks of threads that were left in the middle of something cannot be used again.
  if (!failure_.empty())
    for (virtual_thread& t : threads_) t.stack.reset();
  program_.reset();
}

// Depth first: the last choice that has an alternative left takes the next one.
bool machine::next_path() {
  while (!path_.empty() && path_.back().taken + 1 >= path_.back().of) path_.pop_back();
  if (path_.empty()) return false;
  ++path_.back().taken;
  return true;
}

findings machine::run() {
  findings found;
  do {
    run_one();
    ++found.schedules;
    if (!failure_.empty()) {
      // Once more, and this time it tells.
      telling_ = true;
      run_one();
      found.failure = failure_;
      found.schedule = schedule_;
      for (const choice& c : path_) found.choices.push_back(c.taken);
      return found;
    }
    if (!options_.only.empty()) return found;
  } while (found.schedules < options_.schedules_max && next_path());
  found.complete = path_.empty();
  return found;
}

void machine::body(void* thread) {
  auto& t = *static_cast<virtual_thread*>(thread);
  for (;;) {
    current->program_->run(t.index);
    current->ended();
  }
}

void machine::ended() {
  virtual_thread& t = me();
  t.ended = true;
  if (t.locks != 0) fail("a thread ended with a lock");
  const unsigned next = beginning_ ? nobody : pick(running_);
  if (next == nobody && !beginning_) nobody_can_go_on();
  running_ = next;
  t.stack->switch_to(next == nobody ? outside_ : *threads_[next].stack);
}

unsigned machine::pick(unsigned from) {
  unsigned candidates[threads_max];
  unsigned n = 0;
  const bool goes_on = from != nobody && can_go(threads_[from]);
  if (goes_on) candidates[n++] = from;
  if (!goes_on || preemptions_left_ > 0) {
    for (unsigned i = 0; i < count_; ++i)
      if (i != from && can_go(threads_[i])) candidates[n++] = i;
  }
  if (n == 0) return nobody;
  const unsigned next = candidates[choose(n)];
  if (goes_on && next != from) --preemptions_left_;
  return next;
}

void machine::go_on_with(unsigned next) {
  virtual_thread& t = me();
  running_ = next;
  t.stack->switch_to(next == nobody ? outside_ : *threads_[next].stack);
}

// Fine when all have ended.
void machine::nobody_can_go_on() {
  std::string waiting;
  for (unsigned i = 0; i < count_; ++i) {
    const virtual_thread& t = threads_[i];
    if (t.ended) continue;
    waiting += waiting.empty() ? "nobody can go on: " : "; ";
    waiting += std::string(program_->name(i)) + ": " + t.doing + " " + name_of(t.object);
  }
  if (!waiting.empty()) fail(std::move(waiting));
}

void machine::step(const char* what, const void* object, condition until) {
  if (running_ == nobody) return;
  virtual_thread& t = me();
  t.until = until;
  t.doing = what;
  t.object = object;
  if (beginning_) {
    go_on_with(nobody);
  } else {
    const unsigned next = pick(t.index);
    if (next == nobody) {
      nobody_can_go_on();
    } else if (next != t.index) {
      go_on_with(next);
    }
  }
  t.until = {};
  ++t.known.clock[t.index];
  if (++steps_ > options_.steps_max) fail("this does not come to an end");
  if (telling_) tell(object == nullptr ? std::string(what) : std::string(what) + " " + name_of(object));
}

void machine::outcome(const char* what, std::uint64_t value) {
  if (!telling_ || running_ == nobody) return;
  schedule_.pop_back();
  schedule_ += std::string(what) + name_of(reinterpret_cast<const void*>(value)) + "\n";
}

unsigned machine::choose(unsigned n) {
  if (n < 2) return 0;
  if (depth_ == path_.size()) path_.push_back({0, static_cast<std::uint8_t>(n)});
  return path_[depth_++].taken;
}

unsigned machine::any_value(unsigned n) {
  if (n < 2 || stale_reads_left_ == 0 || running_ == nobody) return 0;
  const unsigned taken = choose(n);
  if (taken != 0) --stale_reads_left_;
  return taken;
}

void machine::fail(std::string why) {
  if (telling_) tell("FAILED: " + why);
  if (failure_.empty()) failure_ = why;
  // The stack below is never returned to, and must not keep memory.
  std::string().swap(why);
  if (running_ != nobody) go_on_with(nobody);
}

void machine::tell(const std::string& text) {
  char thread[32];
  std::snprintf(thread, sizeof thread, "  %-14s ", running_ == nobody ? "" : program_->name(running_));
  schedule_ += thread + text + "\n";
}

// Small numbers stand for themselves.
std::string machine::name_of(const void* object) const {
  for (const auto& [labelled, name] : labels_)
    if (labelled == object) return name;
  const auto number = reinterpret_cast<std::uintptr_t>(object);
  return number < 100'000 ? std::to_string(number) : "?";
}

}  // namespace

void outcome(const char* what, std::uint64_t value) {
  current->outcome(what, value);
}
unsigned this_thread() noexcept {
  return current->running_;
}
unsigned steps() noexcept {
  return current->steps_;
}
unsigned any_value(unsigned n) {
  return current->any_value(n);
}
view& known() noexcept {
  return current->me().known;
}
void tick() noexcept {
  ++known().clock[current->running_];
}
unsigned& locks_held() noexcept {
  return current->me().locks;
}
view& fenced() noexcept {
  return current->fenced_;
}
view& loaded() noexcept {
  return current->me().loaded;
}
view& fence_released() noexcept {
  return current->me().fence_released;
}

std::memory_order weakened(std::memory_order order) noexcept {
  const auto& weaken = current->options_.weaken;
  return order == weaken.strong ? weaken.weak : order;
}

unsigned new_location() noexcept {
  const unsigned index = current->locations_used_++;
  if (index >= locations_max) {
    std::fputs("keel: a model has more locations than the explorer can follow: see locations_max\n", stderr);
    std::abort();
  }
  current->locations_[index].stores.clear();
  current->locations_[index].newest_sequential = 0;
  return index;
}

location_state& location(unsigned index) noexcept {
  return current->locations_[index];
}

void park(const void* word) {
  virtual_thread& t = current->me();
  t.parked_on = word;
  const auto woken = [](const void* self) {
    return static_cast<const virtual_thread*>(self)->parked_on == nullptr;
  };
  current->step("sleeps on", word, {woken, &t});
}

unsigned unpark(const void* word, unsigned most) noexcept {
  unsigned woken = 0;
  for (virtual_thread& t : current->threads_) {
    if (woken == most) break;
    if (t.parked_on != word) continue;
    t.parked_on = nullptr;
    ++woken;
  }
  return woken;
}

}  // namespace detail

findings explore(const exploration& options, const std::function<std::unique_ptr<model>()>& make) {
  detail::machine m(options, make);
  detail::machine* before = std::exchange(detail::current, &m);
  findings found = m.run();
  detail::current = before;
  if (std::getenv("KEEL_MODEL_COUNTS") != nullptr) {
    std::fprintf(stderr, "%9llu schedules%s%s\n", static_cast<unsigned long long>(found.schedules),
                 found.failed() ? ", the last of which failed: " : "", found.failure.c_str());
  }
  return found;
}

std::string findings::problem() const {
  if (failed()) return failure + "\n" + schedule;
  return complete ? "" : "not all schedules were run";
}

void step(const char* what, const void* object, condition until) {
  detail::current->step(what, object, until);
}
void fail(const char* why) {
  detail::current->fail(why);
}
unsigned any_of(unsigned n) {
  return detail::current->choose(n);
}
void note(const char* text) {
  detail::current->note(text);
}
void label(const void* object, const char* name) {
  detail::current->label(object, name);
}

}  // namespace keel::test
