#include <keel/runtime/dump.hpp>

#include "snapshot.hpp"

#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>

namespace keel {
namespace {

task_snapshot::state state_of(const task_node& node, const scheduler& of) noexcept {
  if (&of.running() == &node) return task_snapshot::state::running;
  return node.ready ? task_snapshot::state::ready : task_snapshot::state::waiting;
}

// Texts by where they stand: those of a thousand tasks are a few.
class interned {
 public:
  explicit interned(std::vector<std::string>& texts) noexcept : texts_(texts) {}
  std::uint32_t place_of(const char* text) {
    if (text == nullptr) text = "unnamed";
    if (text == last_text_) return last_;
    const auto [at, is_new] = places_.try_emplace(text, static_cast<std::uint32_t>(texts_.size()));
    if (is_new) texts_.emplace_back(text);
    last_text_ = text;
    return last_ = at->second;
  }

 private:
  std::vector<std::string>& texts_;
  std::map<const char*, std::uint32_t> places_;
  const char* last_text_ = nullptr;
  std::uint32_t last_ = 0;
};

}  // namespace

void take_snapshot(scheduler& of, const dump_options& options, scheduler_snapshot& into) {
  into.counters = of.counters();
  interned names(into.names);
  const std::uint64_t now_ns = of.now().since_boot_ns();
  auto& nodes = of.nodes();
  for (task_node* one = nodes.empty() ? nullptr : &nodes.front(); one != nullptr; one = nodes.next(*one)) {
    if (into.tasks.size() >= options.tasks_max) {
      into.tasks_left_out = into.counters.live - into.tasks.size();
      break;
    }
    task_snapshot task;
    task.name = names.place_of(one->name);
    task.now = state_of(*one, of);
    task.urgency = one->urgency;
    task.stopped = one->context.level();
    task.id = one->id;
    task.parent_id = one->parent_id;
    if (task.now == task_snapshot::state::waiting)
      task.for_ns = now_ns > one->since_ns ? now_ns - one->since_ns : 0;
    task.waits_for = one->waits_for;
    task.first_frame = static_cast<std::uint32_t>(into.frames.size());
    for (const task_frame* frame = one->innermost; frame != nullptr; frame = frame->caller) {
      if (task.frame_count == options.frames_max) break;
      if (frame->awaits.line() == 0) continue;
      into.frames.push_back(frame->awaits);
      ++task.frame_count;
    }
    into.tasks.push_back(task);
  }
  if (options.run_times) {
    const run_table& table = of.monitor().table();
    for (unsigned i = 0; i < table.size(); ++i)
      if (table.at(i).tasks != 0) into.statistics.push_back({table.at(i).name, table.at(i)});
  }
  into.answered = true;
}

// One scheduler is asked. Held by who asks and, until it is delivered, by itself: a blocked scheduler may
// come to it much later.
struct inspection::question : message {
  explicit question(const dump_options& o) noexcept : message(&deliver_question), options(o) {}

  static void deliver_question(message& self, scheduler& to) noexcept {
    const std::shared_ptr<question> me = std::move(static_cast<question&>(self).on_the_way);
    me->answer(to);
  }
  void answer(scheduler& from) noexcept {
    scheduler_snapshot mine;
    mine.index = from.index();
    mine.engine = from.engine_info().name;
    try {
      take_snapshot(from, options, mine);
    } catch (const std::bad_alloc&) {
      mine.answered = false;
    }
    {
      const std::lock_guard lock(mutex);
      got = std::move(mine);
      done = true;
    }
    changed.notify_one();
  }

  const dump_options options;
  std::shared_ptr<question> on_the_way;
  std::mutex mutex;
  std::condition_variable changed;
  bool done = false;
  scheduler_snapshot got;
};

inspection::inspection(runtime& of, const dump_options& options) : of_(of), options_(options) {
  for (unsigned i = 0; i < of.size(); ++i) ask(i);
}

inspection::inspection(runtime& of, unsigned index, const dump_options& options)
    : of_(of), options_(options) {
  ask(index);
}

void inspection::ask(unsigned index) {
  scheduler& whom = of_.at(index);
  auto one = std::make_shared<question>(options_);
  one->got.index = index;
  questions_.push_back(one);
  if (scheduler::current() == &whom || of_.rests_here()) {
    one->answer(whom);
    return;
  }
  one->on_the_way = one;
  whom.post(*one);
}

bool inspection::answered() const noexcept {
  return std::all_of(questions_.begin(), questions_.end(), [](const std::shared_ptr<question>& one) {
    const std::lock_guard lock(one->mutex);
    return one->done;
  });
}

void inspection::wait() noexcept {
  const auto until =
      std::chrono::steady_clock::now() + std::chrono::nanoseconds(static_cast<std::int64_t>(
                                             std::min(delay_ns(options_.patience), std::uint64_t{1} << 60)));
  for (const auto& one : questions_) {
    std::unique_lock lock(one->mutex);
    one->changed.wait_until(lock, until, [&] { return one->done; });
  }
}

runtime_snapshot inspection::collect() {
  runtime_snapshot all;
  all.blocking_calls = of_.blocking_counters();
  for (const auto& one : questions_) {
    const std::lock_guard lock(one->mutex);
    if (!one->done) {
      scheduler& silent = of_.at(one->got.index);
      one->got.engine = silent.engine_info().name;
      one->got.runs = silent.monitor().seen();
    }
    all.schedulers.push_back(one->got);
  }
  return all;
}

std::string inspect(runtime& of, const dump_options& options) {
  inspection asked(of, options);
  asked.wait();
  const runtime_snapshot all = asked.collect();
  return options.format == dump_format::json ? json_of(all, options) : tree_of(all, options);
}

result<scheduler_counters> counters_of(runtime& of, unsigned index, duration patience) {
  inspection asked(of, index, {.tasks_max = 0, .run_times = false, .patience = patience});
  asked.wait();
  const runtime_snapshot all = asked.collect();
  if (!all.schedulers[0].answered) return failure(errc::timed_out, "ask a scheduler for its counters");
  return all.schedulers[0].counters;
}

result<void> write_all(int fd, std::string_view text) noexcept {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failure(kernel_error(errno), "write a dump");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

result<void> runtime::dump(int fd) {
  return dump(fd, dump_options());
}

result<void> runtime::dump(int fd, const dump_options& options) {
  return write_all(fd, inspect(*this, options));
}

}  // namespace keel
