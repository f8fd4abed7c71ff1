#include <keel/runtime/place.hpp>

#include "snapshot.hpp"

namespace keel {
namespace {

// Writes JSON: commas where they belong.
class json {
 public:
  void open(char bracket) {
    separate();
    text += bracket;
    first_ = true;
  }
  void close(char bracket) {
    text += bracket;
    first_ = false;
  }
  void key(const char* name) {
    string(name);
    text += ": ";
    first_ = true;
  }
  void string(std::string_view value) {
    separate();
    text += '"';
    for (const char c : value) {
      if (c == '"' || c == '\\') text += '\\';
      // Names are literals of the program: what is no text has no business in them.
      text += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
    }
    text += '"';
  }
  void number(std::uint64_t value) {
    separate();
    text += std::to_string(value);
  }
  void boolean(bool value) {
    separate();
    text += value ? "true" : "false";
  }

  std::string text;

 private:
  void separate() {
    if (!first_) text += ", ";
    first_ = false;
  }
  bool first_ = true;
};

void counters(json& out, const scheduler_counters& c) {
  const struct {
    const char* name;
    std::uint64_t value;
  } all[] = {{"turns", c.turns},
             {"events", c.events},
             {"runs", c.runs},
             {"messages", c.messages},
             {"tasks", c.tasks},
             {"live", c.live},
             {"exhausted", c.exhausted},
             {"enters", c.enters},
             {"submitted", c.submitted},
             {"in_flight", c.in_flight},
             {"timers", c.timers},
             {"frames_fresh", c.frames_fresh},
             {"frames_recycled", c.frames_recycled},
             {"buffers", c.buffers},
             {"buffers_in_use", c.buffers_in_use}};
  out.key("counters");
  out.open('{');
  for (const auto& one : all) {
    out.key(one.name);
    out.number(one.value);
  }
  out.close('}');
}

void place(json& out, const std::source_location& at) {
  out.open('{');
  out.key("file");
  out.string(short_path(at.file_name()));
  out.key("line");
  out.number(at.line());
  out.key("function");
  out.string(short_function(at.function_name()));
  out.close('}');
}

void task(json& out, const scheduler_snapshot& of, const task_snapshot& one) {
  static constexpr const char* states[] = {"running", "ready", "waiting"};
  static constexpr const char* priorities[] = {"latency", "normal", "batch"};
  static constexpr const char* levels[] = {"no", "gracefully", "hard"};
  out.open('{');
  out.key("name");
  out.string(of.names[one.name]);
  out.key("id");
  out.number(one.id);
  out.key("parent");
  out.number(one.parent_id);
  out.key("state");
  out.string(states[static_cast<unsigned>(one.now)]);
  out.key("waits_for");
  out.string(one.waits_for != nullptr && one.now == task_snapshot::state::waiting ? one.waits_for : "");
  out.key("for_ns");
  out.number(one.for_ns);
  out.key("priority");
  out.string(priorities[static_cast<unsigned>(one.urgency)]);
  out.key("stopped");
  out.string(levels[static_cast<unsigned>(one.stopped)]);
  out.key("frames");
  out.open('[');
  for (std::uint32_t i = 0; i < one.frame_count; ++i) place(out, of.frames[one.first_frame + i]);
  out.close(']');
  out.close('}');
}

void statistics(json& out, const name_snapshot& of) {
  out.open('{');
  out.key("name");
  out.string(of.name);
  out.key("tasks");
  out.number(of.ran.tasks);
  out.key("runs");
  out.number(of.ran.runs());
  out.key("total_ns");
  out.number(ticks_to_ns(of.ran.total_ticks));
  out.key("longest_ns");
  out.number(ticks_to_ns(of.ran.longest_ticks));
  out.key("histogram");
  out.open('[');
  for (unsigned i = 0; i < run_statistics::bucket_count; ++i) {
    if (of.ran.buckets[i] == 0) continue;
    out.open('{');
    out.key("below_ns");
    out.number(ticks_to_ns(std::uint64_t{1} << i));
    out.key("runs");
    out.number(of.ran.buckets[i]);
    out.close('}');
  }
  out.close(']');
  out.close('}');
}

void blocked(json& out, const run_monitor::sight& what) {
  out.key("runs");
  out.open('{');
  out.key("name");
  out.string(what.since_ticks != 0 ? what.name : "");
  out.key("id");
  out.number(what.id);
  out.key("for_ns");
  out.number(what.since_ticks != 0 ? ticks_to_ns(ticks_now() - what.since_ticks) : 0);
  out.key("since");
  place(out, what.from);
  out.close('}');
}

void scheduler_part(json& out, const scheduler_snapshot& one) {
  out.open('{');
  out.key("index");
  out.number(one.index);
  out.key("engine");
  out.string(one.engine);
  out.key("answered");
  out.boolean(one.answered);
  if (one.answered) {
    counters(out, one.counters);
    out.key("tasks");
    out.open('[');
    for (const task_snapshot& each : one.tasks) task(out, one, each);
    out.close(']');
    out.key("tasks_left_out");
    out.number(one.tasks_left_out);
    out.key("names");
    out.open('[');
    for (const name_snapshot& each : one.statistics) statistics(out, each);
    out.close(']');
  } else {
    blocked(out, one.runs);
  }
  out.close('}');
}

}  // namespace

std::string json_of(const runtime_snapshot& all, const dump_options&) {
  json out;
  out.open('{');
  out.key("schedulers");
  out.open('[');
  for (const scheduler_snapshot& one : all.schedulers) scheduler_part(out, one);
  out.close(']');
  out.key("blocking_calls");
  out.open('{');
  out.key("threads");
  out.number(all.blocking_calls.threads);
  out.key("idle");
  out.number(all.blocking_calls.idle);
  out.key("queued");
  out.number(all.blocking_calls.waiting);
  out.key("completed");
  out.number(all.blocking_calls.done);
  out.key("refused");
  out.number(all.blocking_calls.refused);
  out.close('}');
  out.close('}');
  out.text += '\n';
  return std::move(out.text);
}

}  // namespace keel
