#include <keel/runtime/place.hpp>

#include "snapshot.hpp"

#include <algorithm>
#include <cstdio>
#include <unordered_map>

namespace keel {
namespace {

constexpr std::uint32_t none = ~std::uint32_t{0};
constexpr unsigned depth_max = 48;

// "12,345"
std::string grouped(std::uint64_t n) {
  const std::string digits = std::to_string(n);
  std::string text;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (i != 0 && (digits.size() - i) % 3 == 0) text += ',';
    text += digits[i];
  }
  return text;
}

std::string amount(std::uint64_t n, const char* one, const char* many) {
  return grouped(n) + " " + (n == 1 ? one : many);
}

std::string decimal(double value, const char* unit = "") {
  char text[48];
  std::snprintf(text, sizeof text, value < 10 ? "%.2f%s" : "%.1f%s", value, unit);
  return text;
}

std::string time_text(std::uint64_t ns) {
  if (ns < 1'000) return std::to_string(ns) + " ns";
  if (ns < 1'000'000) return std::to_string(ns / 1'000) + " us";
  if (ns < 1'000'000'000) return std::to_string(ns / 1'000'000) + " ms";
  const std::uint64_t s = ns / 1'000'000'000;
  if (s < 60) return decimal(static_cast<double>(ns / 10'000'000) / 100, " s");
  if (s < 3600) return std::to_string(s / 60) + " min " + std::to_string(s % 60) + " s";
  return std::to_string(s / 3600) + " h " + std::to_string(s / 60 % 60) + " min";
}

double ratio(std::uint64_t of, std::uint64_t per) noexcept {
  return per == 0 ? 0 : static_cast<double>(of) / static_cast<double>(per);
}

// The tasks of one scheduler. Siblings whose whole subtrees look alike are told of together.
class tree {
 public:
  tree(const scheduler_snapshot& of, const dump_options& options);
  std::string print() &&;

 private:
  struct link {
    std::uint32_t first_child = none;
    std::uint32_t next_sibling = none;
    std::uint64_t likeness = 0;
    std::uint64_t tasks = 1;  // with all below
  };
  // A line among siblings: a task, or `count` more that are like it.
  struct entry {
    std::uint32_t task = none;
    std::uint64_t count = 0;
    std::uint64_t shortest_ns = ~std::uint64_t{0};
    std::uint64_t longest_ns = 0;
  };

  std::uint32_t parent_of(std::uint32_t task) const noexcept;
  std::uint64_t likeness_of(const task_snapshot& task) const noexcept;
  std::vector<entry> entries(std::uint32_t first) const;
  void print_siblings(std::uint32_t first, std::string& prefix, unsigned depth);
  void print_task(const task_snapshot& task);
  void print_more(const entry& more);

  const scheduler_snapshot& of_;
  const dump_options& options_;
  std::vector<link> links_;
  std::uint32_t first_root_ = none;
  std::uint32_t lines_left_;
  std::uint64_t told_ = 0;
  std::string text_;
};

tree::tree(const scheduler_snapshot& of, const dump_options& options)
    : of_(of), options_(options), links_(of.tasks.size()), lines_left_(options.lines_max) {
  // A parent is older than its children: from the youngest on, each is complete before its parent.
  for (auto i = static_cast<std::uint32_t>(links_.size()); i-- > 0;) {
    link& me = links_[i];
    me.likeness = me.likeness * 31 + likeness_of(of_.tasks[i]);
    const std::uint32_t parent = parent_of(i);
    std::uint32_t& first = parent == none ? first_root_ : links_[parent].first_child;
    me.next_sibling = first;
    first = i;
    if (parent == none) continue;
    links_[parent].likeness = links_[parent].likeness * 1'000'003 + me.likeness;
    links_[parent].tasks += me.tasks;
  }
}

std::uint32_t tree::parent_of(std::uint32_t task) const noexcept {
  const std::uint64_t id = of_.tasks[task].parent_id;
  const auto end = of_.tasks.begin() + task;
  const auto at = std::lower_bound(of_.tasks.begin(), end, id,
                                   [](const task_snapshot& one, std::uint64_t i) { return one.id < i; });
  return at != end && at->id == id ? static_cast<std::uint32_t>(at - of_.tasks.begin()) : none;
}

std::uint64_t tree::likeness_of(const task_snapshot& task) const noexcept {
  std::uint64_t mixed = task.name * std::uint64_t{4} + static_cast<unsigned>(task.now);
  const auto mix = [&mixed](std::uint64_t more) { mixed = (mixed ^ more) * 0x9E37'79B9'7F4A'7C15; };
  if (task.now == task_snapshot::state::waiting) mix(reinterpret_cast<std::uintptr_t>(task.waits_for));
  for (std::uint32_t i = 0; i < task.frame_count; ++i) {
    const std::source_location& at = of_.frames[task.first_frame + i];
    mix(reinterpret_cast<std::uintptr_t>(at.file_name()));
    mix(at.line());
  }
  return mixed;
}

std::vector<tree::entry> tree::entries(std::uint32_t first) const {
  struct group {
    std::uint64_t count = 0;
    std::uint64_t shown = 0;
    std::size_t more = 0;  // the place of its line that counts
  };
  std::unordered_map<std::uint64_t, group> groups;
  for (std::uint32_t i = first; i != none; i = links_[i].next_sibling) ++groups[links_[i].likeness].count;
  std::vector<entry> lines;
  for (std::uint32_t i = first; i != none; i = links_[i].next_sibling) {
    group& alike = groups[links_[i].likeness];
    // A line that says "one more" is no shorter than the one.
    const std::uint64_t shown = std::max<std::uint64_t>(options_.alike_max, 1);
    if (alike.count <= shown + 1 || alike.shown < shown) {
      ++alike.shown;
      lines.push_back({.task = i});
      continue;
    }
    if (alike.more == 0) {
      alike.more = lines.size();
      lines.push_back({});
    }
    entry& more = lines[alike.more];
    more.task = i;
    ++more.count;
    more.shortest_ns = std::min(more.shortest_ns, of_.tasks[i].for_ns);
    more.longest_ns = std::max(more.longest_ns, of_.tasks[i].for_ns);
  }
  return lines;
}

void tree::print_siblings(std::uint32_t first, std::string& prefix, unsigned depth) {
  const std::vector<entry> lines = entries(first);
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines_left_ == 0) return;
    --lines_left_;
    const bool last = i + 1 == lines.size();
    text_ += prefix + (last ? "└─ " : "├─ ");
    if (lines[i].count != 0) {
      print_more(lines[i]);
      continue;
    }
    const link& me = links_[lines[i].task];
    print_task(of_.tasks[lines[i].task]);
    ++told_;
    if (me.first_child == none) continue;
    const std::size_t before = prefix.size();
    prefix += last ? "   " : "│  ";
    if (depth < depth_max) {
      print_siblings(me.first_child, prefix, depth + 1);
    } else {
      text_ += prefix + "└─ ... and " + grouped(me.tasks - 1) + " more below\n";
      told_ += me.tasks - 1;
    }
    prefix.resize(before);
  }
}

void tree::print_task(const task_snapshot& task) {
  text_ += of_.names[task.name] + " #" + std::to_string(task.id);
  if (task.urgency == priority::latency) text_ += " (latency)";
  if (task.urgency == priority::batch) text_ += " (batch)";
  if (task.stopped == stop_level::graceful) text_ += ", asked to stop,";
  if (task.stopped == stop_level::hard) text_ += ", stopped,";
  switch (task.now) {
    case task_snapshot::state::running: text_ += " runs"; break;
    case task_snapshot::state::ready:
      text_ += task.waits_for == nullptr && task.frame_count == 0 ? " has not begun" : " is ready";
      break;
    case task_snapshot::state::waiting:
      text_ += " waits";
      if (task.waits_for != nullptr) text_ += std::string(" for ") + task.waits_for;
      text_ += ", " + time_text(task.for_ns);
      break;
  }
  for (std::uint32_t i = 0; i < task.frame_count; ++i)
    text_ += (i == 0 ? ", at " : " < ") + describe(of_.frames[task.first_frame + i]);
  text_ += '\n';
}

void tree::print_more(const entry& more) {
  const std::uint64_t below = more.count * (links_[more.task].tasks - 1);
  text_ += "... and " + grouped(more.count) + " more in the same place, " + time_text(more.shortest_ns);
  if (more.longest_ns != more.shortest_ns) text_ += " to " + time_text(more.longest_ns);
  if (below != 0) text_ += ", with " + grouped(below) + " below";
  text_ += '\n';
  told_ += more.count + below;
}

std::string tree::print() && {
  std::string prefix;
  print_siblings(first_root_, prefix, 0);
  if (const std::uint64_t untold = of_.tasks.size() - told_; untold != 0)
    text_ += "... and " + grouped(untold) + " more (dump_options::lines_max)\n";
  if (of_.tasks_left_out != 0)
    text_ +=
        "... and " + grouped(of_.tasks_left_out) + " that were not looked at (dump_options::tasks_max)\n";
  return std::move(text_);
}

// The time below which so many of a hundred runs stayed.
std::string most_below(const run_statistics& of, std::uint64_t percent) {
  const std::uint64_t runs = of.runs();
  std::uint64_t sum = 0;
  for (unsigned i = 0; i < run_statistics::bucket_count; ++i) {
    sum += of.buckets[i];
    if (sum * 100 >= runs * percent) return time_text(ticks_to_ns(std::uint64_t{1} << i));
  }
  return {};
}

std::string run_times(const scheduler_snapshot& of) {
  std::string text;
  for (const name_snapshot& one : of.statistics) {
    if (one.ran.runs() == 0) continue;
    text += "  " + one.name + ": " + amount(one.ran.tasks, "task", "tasks") + ", " +
            amount(one.ran.runs(), "run", "runs") + " of " + time_text(ticks_to_ns(one.ran.total_ticks)) +
            ", half below " + most_below(one.ran, 50) + ", 99 in 100 below " + most_below(one.ran, 99) +
            ", the longest " + time_text(ticks_to_ns(one.ran.longest_ticks)) + '\n';
  }
  return text;
}

std::string heading(const scheduler_snapshot& of) {
  const scheduler_counters& c = of.counters;
  std::string text = amount(c.live, "task", "tasks") + ", " + grouped(c.tasks) + " spawned, " +
                     amount(c.turns, "turn", "turns") + ", " + decimal(ratio(c.events, c.enters)) +
                     " events per enter, " + decimal(ratio(c.enters, c.submitted)) +
                     " enters per operation, " + grouped(c.in_flight) + " in flight, " +
                     amount(c.timers, "timer", "timers") + ", " + grouped(c.buffers_in_use) + " of " +
                     amount(c.buffers, "buffer", "buffers") + " in use, " + grouped(c.frames_fresh) +
                     " frames allocated and " + grouped(c.frames_recycled) + " recycled";
  if (c.exhausted != 0) text += ", " + amount(c.exhausted, "turn", "turns") + " had more to do than fits";
  return text + '\n';
}

std::string silence(const run_monitor::sight& what) {
  if (what.since_ticks == 0) return "it does not run\n";
  const auto since = static_cast<std::int64_t>(ticks_now() - what.since_ticks);
  std::string text = what.id == 0 ? "it runs a callback or a message"
                                  : std::string("it runs ") + what.name + " #" + std::to_string(what.id);
  text += ", " + time_text(since > 0 ? ticks_to_ns(static_cast<std::uint64_t>(since)) : 0);
  if (const std::string place = describe(what.from); !place.empty()) text += ", after " + place;
  return text + '\n';
}

}  // namespace

std::string tree_of(const runtime_snapshot& all, const dump_options& options) {
  std::string text;
  for (const scheduler_snapshot& one : all.schedulers) {
    text += "scheduler " + std::to_string(one.index) + " on " + one.engine;
    if (!one.answered) {
      text += " does not answer: " + silence(one.runs);
      continue;
    }
    text += ": " + heading(one) + tree(one, options).print() + run_times(one);
  }
  const auto& calls = all.blocking_calls;
  if (calls.done != 0 || calls.threads != 0)
    text += "blocking calls: " + amount(calls.threads, "thread", "threads") + ", " + grouped(calls.idle) +
            " idle, " + amount(calls.waiting, "call", "calls") + " queued, " + grouped(calls.done) +
            " done, " + grouped(calls.refused) + " refused\n";
  return text;
}

}  // namespace keel
