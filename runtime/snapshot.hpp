// Private to runtime: what a scheduler says of itself, copied so that others can read it.
#pragma once

#include <keel/runtime/blocking.hpp>
#include <keel/runtime/dump.hpp>

#include <memory>
#include <string>
#include <vector>

namespace keel {

struct task_snapshot {
  enum class state : std::uint8_t { running, ready, waiting };

  std::uint32_t name = 0;  // its place in scheduler_snapshot::names
  state now = state::waiting;
  priority urgency = priority::normal;
  stop_level stopped = stop_level::none;
  std::uint64_t id = 0;
  std::uint64_t parent_id = 0;
  std::uint64_t for_ns = 0;
  const char* waits_for = nullptr;  // a literal
  std::uint32_t first_frame = 0;
  std::uint32_t frame_count = 0;
};

struct name_snapshot {
  std::string name;
  run_statistics ran;
};

struct scheduler_snapshot {
  unsigned index = 0;
  const char* engine = "";
  bool answered = false;
  run_monitor::sight runs;  // when it did not answer
  scheduler_counters counters;
  std::vector<std::string> names;
  std::vector<task_snapshot> tasks;  // oldest first
  std::vector<std::source_location> frames;
  std::uint64_t tasks_left_out = 0;
  std::vector<name_snapshot> statistics;
};

struct runtime_snapshot {
  std::vector<scheduler_snapshot> schedulers;
  blocking_counters blocking_calls;
};

// On the scheduler's thread. Throws std::bad_alloc.
void take_snapshot(scheduler& of, const dump_options& options, scheduler_snapshot& into);

// The questions to the schedulers of a runtime, on their way. Those that can be answered at once are: the
// caller's own, or all when nothing runs. Throws std::bad_alloc.
class inspection {
 public:
  inspection(runtime& of, const dump_options& options);
  inspection(runtime& of, unsigned index, const dump_options& options);

  bool answered() const noexcept;
  // Waits for the answers for as long as options.patience says.
  void wait() noexcept;
  // What has come until now; who did not answer is described from outside.
  runtime_snapshot collect();

  struct question;

 private:
  void ask(unsigned index);

  runtime& of_;
  dump_options options_;
  std::vector<std::shared_ptr<question>> questions_;
};

std::string tree_of(const runtime_snapshot& all, const dump_options& options);
std::string json_of(const runtime_snapshot& all, const dump_options& options);

// Writes all of it. Blocks as `fd` does.
result<void> write_all(int fd, std::string_view text) noexcept;

}  // namespace keel
