// Runs a small program of a few threads under every schedule with few preemptions, and under every value
// that a weakly ordered memory may show it. See docs/decisions/0009.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace keel::test {

struct exploration {
  unsigned preemptions = 3;   // switches away from a thread that could go on
  unsigned stale_reads = 1;   // loads that see something else than what was stored last
  unsigned steps_max = 2000;  // of one schedule: more is taken for a thread that turns in circles
  std::uint64_t schedules_max = 10'000'000;
  // Operations of order `strong` are done with `weak` instead: a mutation of code that is run as it is.
  struct {
    std::memory_order strong = std::memory_order_seq_cst;
    std::memory_order weak = std::memory_order_seq_cst;
  } weaken = {};
  std::vector<std::uint8_t> only =
      {};  // the choices of one schedule (findings::choices): nothing else is run
};

struct findings {
  std::uint64_t schedules = 0;
  bool complete = false;              // all of them were run
  std::string failure;                // of the first that failed, or empty
  std::string schedule;               // what its threads did, a line for each step
  std::vector<std::uint8_t> choices;  // leads there again

  bool failed() const noexcept { return !failure.empty(); }
  bool failed_with(const char* text) const { return failure.find(text) != std::string::npos; }
  // Nothing when all schedules were run and none failed; else what to tell.
  std::string problem() const;
};

// A program: made anew for each schedule. It keeps its state in members, and no memory of its own on the
// stacks of run(): a schedule that fails is left where it stands.
class model {
 public:
  virtual ~model() = default;
  virtual unsigned threads() const = 0;
  virtual const char* name(unsigned thread) const = 0;
  virtual void run(unsigned thread) = 0;
  // After the end of all threads; sees all that they did.
  virtual void finish() {}
};

// With KEEL_MODEL_COUNTS in the environment it tells how many schedules that were.
findings explore(const exploration& options, const std::function<std::unique_ptr<model>()>& make);

template <class Model, class... Args>
findings explore(const exploration& options, Args... args) {
  return explore(options, [&] { return std::unique_ptr<model>(std::make_unique<Model>(args...)); });
}

// For models.

// This schedule has failed. Does not return to a thread of the program.
void fail(const char* why);
inline void expect(bool condition, const char* why) {
  if (!condition) fail(why);
}
// Whether a thread that waits may go on.
struct condition {
  bool (*holds)(const void* what) = nullptr;
  const void* what = nullptr;
};

// The thread is about to do something that others can see: they may go first. With a condition, it waits for
// that. `what` says so in the schedule.
void step(const char* what, const void* object = nullptr, condition until = {});
// One of 0 to n - 1: each is explored.
unsigned any_of(unsigned n);
// A line in the schedule of a failure.
void note(const char* text);
// What the schedule calls the object, and values that are its address.
void label(const void* object, const char* name);

namespace detail {

constexpr unsigned threads_max = 6;
constexpr unsigned locations_max = 16;

// What a thread knows: of each location, the oldest store that it may still see; of each thread, how many of
// its steps have happened before.
struct view {
  std::array<std::uint16_t, locations_max> oldest{};
  std::array<std::uint16_t, threads_max + 1> clock{};

  void join(const view& other) noexcept {
    for (unsigned i = 0; i < locations_max; ++i)
      oldest[i] = oldest[i] < other.oldest[i] ? other.oldest[i] : oldest[i];
    for (unsigned i = 0; i <= threads_max; ++i)
      clock[i] = clock[i] < other.clock[i] ? other.clock[i] : clock[i];
  }
};

// What the models' atomics, locks and bells do, on the machine that explore() runs.

// Adds to the line of the step.
void outcome(const char* what, std::uint64_t value);
// threads_max: none, for the model is being made or finished.
unsigned this_thread() noexcept;
unsigned steps() noexcept;
// One of n values, of which 0 is the newest: an older one as long as the schedule may read stale ones.
unsigned any_value(unsigned n);
// What this thread knows. tick(): what it does from now on is not covered by what was released before.
view& known() noexcept;
void tick() noexcept;
// Locks that this thread holds.
unsigned& locks_held() noexcept;
// The order that the exploration makes of it.
std::memory_order weakened(std::memory_order order) noexcept;

// The stores to one location, oldest first.
struct stored {
  std::uint64_t value;
  view released;
};
struct location_state {
  std::vector<stored> stores;
  unsigned newest_sequential = 0;  // the last store that was sequentially consistent
};
unsigned new_location() noexcept;
location_state& location(unsigned index) noexcept;
// What sequentially consistent fences have seen.
view& fenced() noexcept;
// Of this thread: what its relaxed loads have seen, and what it knew at its last releasing fence.
view& loaded() noexcept;
view& fence_released() noexcept;

// Futexes: whom a wake-up finds.
void park(const void* word);
unsigned unpark(const void* word, unsigned most) noexcept;

}  // namespace detail
}  // namespace keel::test
