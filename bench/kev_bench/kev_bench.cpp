// Event collection, after Eric Dumazet's benchmark of 2006: one thread writes a byte into a random one of n
// handles as fast as it can, the other one learns which handles have a byte, and reads it.
//
//   kev_bench --backend kevent|epoll|uring|busy --kind pipe|unix|inet [-n 2000] [--et]
//             [--mode completion|et|default] [--unread N] [--order random|sequential] [--seconds 3]
//             [--cpu N | --cpu none] [--seed N] [--lines]
//
// Both threads run on one CPU unless `--cpu none` frees them. A handle has at most one byte that was not
// read, all handles together at most N (half of n); a writer that may not write gives its CPU away. --lines
// prints events, events per collecting call and context switches of each second.
//
// The last line is JSON. What holds still on a noisy machine is "reader_ns": CPU time of the reading thread
// per event. "system_calls" are the reader's, per event: its own, and for kevent the engine's; null where
// the library makes them out of sight (then: strace -c -f). Latencies are those of one byte in 64, from
// before its write() until the reader has it. The first half second warms up.

#include "collector.hpp"

#include <getopt.h>
#include <sched.h>
#include <sys/resource.h>
#include <time.h>
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace kev_bench {
namespace {

enum class phase : int { warm_up, measure, done };

struct reading {
  std::uint64_t events = 0;
  std::uint64_t calls = 0;
  std::int64_t system_calls = 0;
  double cpu_s = 0;
  double at_s = 0;
  long switches = 0;  // of the process
};

struct run {
  const settings& asked;
  field handles;
  std::atomic<phase> now{phase::warm_up};
  std::atomic<bool> stop_writing{false};
  std::atomic<std::uint64_t> calls{0};
  reading first, last;
  std::string engine;

  explicit run(const settings& s) : asked(s), handles(s.handles, s.n) {}
};

double seconds_of(clockid_t clock) {
  timespec t{};
  ::clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

long context_switches() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_nvcsw + usage.ru_nivcsw;
}

void pause_for(double seconds) {
  const auto whole = static_cast<time_t>(seconds);
  const timespec t{whole, static_cast<long>((seconds - static_cast<double>(whole)) * 1e9)};
  ::nanosleep(&t, nullptr);
}

void pin(int cpu) {
  if (cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<unsigned>(cpu), &set);
  if (::sched_setaffinity(0, sizeof set, &set) != 0) {
    std::perror("kev_bench: --cpu");
    std::exit(1);
  }
}

std::uint64_t next_random(std::uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

void write_all_the_time(run& r) {
  pin(r.asked.cpu);
  const std::uint32_t n = r.asked.n;
  std::uint64_t random = r.asked.seed * 0x9e3779b97f4a7c15u + 1;
  std::uint32_t i = 0;
  while (!r.stop_writing.load(std::memory_order_relaxed)) {
    if (r.handles.unread() >= r.asked.unread_max) {
      ::sched_yield();
      continue;
    }
    i = r.asked.writes == settings::order::random ? static_cast<std::uint32_t>(next_random(random) % n)
                                                  : (i + 1) % n;
    if (r.handles.is_free(i)) r.handles.write_one(i);
  }
}

std::unique_ptr<collector> make_collector(const settings& s, field& handles) {
  const std::string backend = s.backend;
  if (backend == "busy") return make_busy(handles);
  if (backend == "epoll") return make_epoll(handles, s.edge_triggered);
  if (backend == "uring") return make_uring(handles);
  if (std::strcmp(s.mode, "completion") == 0) return make_kevent_completion(handles);
  return make_kevent_readiness(handles, s.edge_triggered);
}

void read_all_the_time(run& r) {
  pin(r.asked.cpu);
  const std::unique_ptr<collector> collects = make_collector(r.asked, r.handles);
  std::uint64_t calls = 0;
  const auto look = [&] {
    return reading{r.handles.taken(),           calls,
                   collects->system_calls(),    seconds_of(CLOCK_THREAD_CPUTIME_ID),
                   seconds_of(CLOCK_MONOTONIC), context_switches()};
  };
  collects->begin();
  phase seen = phase::warm_up;
  while (seen != phase::done) {
    collects->collect();
    r.calls.store(++calls, std::memory_order_relaxed);
    if (const phase now = r.now.load(std::memory_order_relaxed); now != seen) {
      (now == phase::measure ? r.first : r.last) = look();
      if (now == phase::measure) r.handles.forget_latencies();
      seen = now;
    }
  }
  collects->end();
  r.engine = collects->engine();
}

void print_lines(run& r) {
  const int seconds = std::max(1, static_cast<int>(r.asked.seconds));
  std::uint64_t events = r.handles.taken(), calls = r.calls.load();
  long switches = context_switches();
  for (int second = 1; second <= seconds; ++second) {
    pause_for(1);
    const std::uint64_t events_now = r.handles.taken(), calls_now = r.calls.load();
    const long switches_now = context_switches();
    std::printf("%3d s: %8llu events/s, %7.2f events per call, %7ld context switches/s\n", second,
                static_cast<unsigned long long>(events_now - events),
                static_cast<double>(events_now - events) / static_cast<double>(calls_now - calls),
                switches_now - switches);
    std::fflush(stdout);
    events = events_now;
    calls = calls_now;
    switches = switches_now;
  }
}

void report(run& r) {
  const settings& s = r.asked;
  const auto events = static_cast<double>(r.last.events - r.first.events);
  const double seconds = r.last.at_s - r.first.at_s;
  char system_calls[32] = "null";
  if (r.last.system_calls >= 0) {
    std::snprintf(system_calls, sizeof system_calls, "%.4f",
                  static_cast<double>(r.last.system_calls - r.first.system_calls) / events);
  }
  std::printf(
      "{\"bench\": \"kev_bench\", \"backend\": \"%s\", \"mode\": \"%s\", \"engine\": \"%s\", "
      "\"kind\": \"%s\", \"n\": %u, \"unread\": %u, \"order\": \"%s\", \"cpu\": %d, \"seconds\": %.3f, "
      "\"events_s\": %.0f, \"events_per_call\": %.2f, \"switches_s\": %.0f, \"system_calls\": %s, "
      "\"reader_ns\": %.1f, \"latency_p50_us\": %.1f, \"latency_p99_us\": %.1f}\n",
      s.backend, s.mode, r.engine.c_str(), s.kind_name, s.n, s.unread_max,
      s.writes == settings::order::random ? "random" : "sequential", s.cpu, seconds, events / seconds,
      events / static_cast<double>(r.last.calls - r.first.calls),
      static_cast<double>(r.last.switches - r.first.switches) / seconds, system_calls,
      (r.last.cpu_s - r.first.cpu_s) * 1e9 / events, r.handles.latency_us(0.50), r.handles.latency_us(0.99));
}

[[noreturn]] void usage(int code) {
  std::fprintf(code == 0 ? stdout : stderr,
               "kev_bench --backend kevent|epoll|uring|busy --kind pipe|unix|inet [-n 2000] [--et]\n"
               "          [--mode completion|et|default] [--unread N] [--order random|sequential]\n"
               "          [--seconds 3] [--cpu N | --cpu none] [--seed N] [--lines]\n");
  std::exit(code);
}

bool one_of(const char* text, std::initializer_list<const char*> words) {
  return std::any_of(words.begin(), words.end(), [text](const char* w) { return !std::strcmp(text, w); });
}

void set(settings& s, int option, const char* value) {
  const std::string text = value == nullptr ? "" : value;
  switch (option) {
    case 'b': s.backend = value; return;
    case 'k':
      s.kind_name = value;
      s.handles = text == "pipe" ? kind::pipe : text == "unix" ? kind::unix_socket : kind::inet;
      return;
    case 'n': s.n = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10)); return;
    case 'e': s.edge_triggered = true; return;
    case 'm': s.mode = value; return;
    case 'u': s.unread_max = static_cast<std::uint32_t>(std::strtoul(value, nullptr, 10)); return;
    case 'o': s.writes = text == "random" ? settings::order::random : settings::order::sequential; return;
    case 's': s.seconds = std::strtod(value, nullptr); return;
    case 'c': s.cpu = text == "none" ? -1 : std::atoi(value); return;
    case 'S': s.seed = std::strtoull(value, nullptr, 10); return;
    case 'l': s.lines = true; return;
    case 'h': usage(0);
    default: usage(2);
  }
}

int last_allowed_cpu() {
  cpu_set_t set;
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return -1;
  int last = -1;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<unsigned>(cpu), &set)) last = cpu;
  }
  return last;
}

settings parse(int argc, char** argv) {
  static const option known[] = {{"backend", required_argument, nullptr, 'b'},
                                 {"kind", required_argument, nullptr, 'k'},
                                 {"et", no_argument, nullptr, 'e'},
                                 {"mode", required_argument, nullptr, 'm'},
                                 {"unread", required_argument, nullptr, 'u'},
                                 {"order", required_argument, nullptr, 'o'},
                                 {"seconds", required_argument, nullptr, 's'},
                                 {"cpu", required_argument, nullptr, 'c'},
                                 {"seed", required_argument, nullptr, 'S'},
                                 {"lines", no_argument, nullptr, 'l'},
                                 {"help", no_argument, nullptr, 'h'},
                                 {nullptr, 0, nullptr, 0}};
  settings s;
  s.cpu = last_allowed_cpu();
  s.mode = "";
  for (int o = 0; (o = ::getopt_long(argc, argv, "n:", known, nullptr)) != -1;) set(s, o, optarg);
  if (std::strcmp(s.backend, "kevent") == 0) {
    if (*s.mode == '\0') s.mode = s.edge_triggered ? "et" : "completion";
    if (!one_of(s.mode, {"completion", "et", "default"})) usage(2);
    s.edge_triggered = std::strcmp(s.mode, "et") == 0;
  } else {
    if (*s.mode != '\0' || !one_of(s.backend, {"epoll", "uring", "busy"})) usage(2);
    s.mode = s.edge_triggered ? "et" : "default";
  }
  if (s.unread_max == 0) s.unread_max = std::max(1u, s.n / 2);
  if (optind != argc || s.n == 0 || s.seconds <= 0) usage(2);
  if (!one_of(s.kind_name, {"pipe", "unix", "inet"})) usage(2);
  return s;
}

int main_of(int argc, char** argv) {
  const settings s = parse(argc, argv);
  run r(s);
  std::thread reader([&r] { read_all_the_time(r); });
  std::thread writer([&r] { write_all_the_time(r); });
  pause_for(0.5);
  r.now = phase::measure;
  if (s.lines) {
    print_lines(r);
  } else {
    pause_for(s.seconds);
  }
  r.now = phase::done;
  reader.join();
  r.stop_writing = true;
  writer.join();
  report(r);
  return 0;
}

}  // namespace
}  // namespace kev_bench

int main(int argc, char** argv) {
  return kev_bench::main_of(argc, argv);
}
