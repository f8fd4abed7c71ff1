// keel-probe: which engine keel uses on this machine, why, and what that engine finds here.
//
//     keel-probe                       a report for people; its last line is the verdict
//     keel-probe --json                the same for programs
//     KEEL_ENGINE=epoll keel-probe     leaves io_uring alone: for sandboxes that kill whoever tries it
//
// Exit code: 0 when some engine works, 1 when none does or KEEL_ENGINE names none, 2 for a wrong command
// line.

#include <keel/kevent_sys/probe.hpp>

#include <CLI/CLI.hpp>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

using keel::kevent_sys::engine_choice;
using keel::kevent_sys::machine_report;
using keel::kevent_sys::probed_request;
using keel::kevent_sys::trial;
using keel::kevent_sys::uring_report;

namespace {

// ---- for people ----

void line(const char* name, const std::string& value) {
  std::printf("  %-20s %s\n", name, value.c_str());
}

std::string in_words(const trial& t, const char* good, const char* bad) {
  if (!t.made) return "not tried";
  if (t.passed()) return good;
  return std::string(bad) + ": " + std::strerror(t.error_number) + " (" + std::to_string(t.error_number) +
         ")";
}

std::string limit_in_words(std::int64_t value, const char* unit) {
  if (value < 0) return "unknown";
  if (value == machine_report::unlimited) return "unlimited";
  return std::to_string(value) + unit;
}

std::string sysctl_in_words(int value) {
  switch (value) {
    case 0: return "0: for everybody";
    case 1: return "1: for privileged processes only";
    case 2: return "2: for nobody";
    default: return "not there";
  }
}

void print_uring(const machine_report& report) {
  const uring_report& ring = report.uring;
  std::printf("\nio_uring\n");
  line("io_uring_disabled", sysctl_in_words(report.uring_disabled));
  if (!ring.setup.made) {
    line("calls", "none was made: io_uring was not asked for");
    return;
  }
  line("setup", in_words(ring.setup, "allowed", "refused"));
  line("register", in_words(ring.registering, "allowed", "refused"));
  line("enter", in_words(ring.enter, "allowed", "refused"));
  if (ring.refused_call() != nullptr) line("likely cause", ring.likely_cause());
  if (!ring.setup.passed()) return;
  line("entries",
       std::to_string(ring.entries) + ", with " + std::to_string(ring.completions) + " completions");
  line("setup flags", ring.setup_flags);
  line("features", ring.features);
  line("provided buffers", in_words(ring.provided_buffers, "work", "refused: each receive polls first"));
  line("multishot accept", in_words(ring.multishot_accept, "works", "does not work"));
  line("multishot receive", in_words(ring.multishot_receive, "works", "does not work"));
  line("multishot read", in_words(ring.multishot_read, "works", "does not work"));
  for (std::uint32_t i = 0; i < ring.request_count; ++i) {
    const probed_request& one = ring.requests[i];
    const std::string fate = one.known ? "known" : std::string("missing: ") + one.without;
    std::printf("  %-20s %-16s %s\n", i == 0 ? "requests" : "", one.name, fate.c_str());
  }
}

void print_system(const machine_report& report) {
  std::printf("\nsystem\n");
  line("locked memory", limit_in_words(report.memlock_bytes, " bytes for all rings of a user (ulimit -l)"));
  line("descriptors", limit_in_words(report.descriptors, " (ulimit -n), at most ") +
                          limit_in_words(report.descriptors_max, ""));
  line("seccomp", report.seccomp_mode == 2 ? "a filter sees this process's system calls" : "no filter");
  line("rights", report.more_rights ? "more than the user's: KEEL_ENGINE is not read" : "the user's");
  line("epoll_pwait2",
       in_words(report.epoll_wait_ns, "works", "missing, epoll waits for whole milliseconds"));
  line("pidfd_open", in_words(report.pidfd, "works", "missing"));
  line("futex_waitv", in_words(report.futex_waitv, "works", "missing"));
}

std::string verdict(const machine_report& report) {
  const std::string engine = report.engine;
  if (!report.works) return "keel does not work here: " + std::string(report.reason);
  if (engine == "uring") return "keel works here, with io_uring";
  if (report.uring.refused_call() == nullptr)
    return "keel works here, with epoll: " + std::string(report.reason);
  return "keel works here, but only with epoll; " + std::string(report.uring.likely_cause());
}

void print(const machine_report& report) {
  std::printf("keel-probe %s: what keel finds on this machine\n\n", KEEL_VERSION);
  line("kernel", report.kernel);
  line("engine", report.works ? report.engine : "none");
  line("because", report.reason);
  print_uring(report);
  print_system(report);
  std::printf("\nverdict: %s\n", verdict(report).c_str());
}

// ---- for programs ----

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) out += c;
  }
  return out + '"';
}

// The members of an object, in order.
class json_object {
 public:
  json_object& raw(const char* name, const std::string& value) {
    text_ += (text_.empty() ? "" : ", ") + quoted(name) + ": " + value;
    return *this;
  }
  json_object& add(const char* name, const std::string& value) { return raw(name, quoted(value)); }
  json_object& add(const char* name, const char* value) { return raw(name, quoted(value)); }
  json_object& add(const char* name, std::int64_t value) { return raw(name, std::to_string(value)); }
  json_object& add(const char* name, bool value) { return raw(name, value ? "true" : "false"); }
  // null: not tried; 0: it works; else the errno.
  json_object& add(const char* name, const trial& t) {
    return raw(name, t.made ? std::to_string(t.error_number) : "null");
  }
  json_object& limit(const char* name, std::int64_t value) {
    return value == machine_report::unlimited ? raw(name, "\"unlimited\"") : add(name, value);
  }
  std::string str() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

std::string json_of(const uring_report& ring) {
  json_object requests;
  for (std::uint32_t i = 0; i < ring.request_count; ++i)
    requests.add(ring.requests[i].name, ring.requests[i].known);
  json_object out;
  out.add("setup", ring.setup).add("register", ring.registering).add("enter", ring.enter);
  if (ring.refused_call() != nullptr)
    out.add("refused_call", ring.refused_call()).add("likely_cause", ring.likely_cause());
  out.add("entries", std::int64_t{ring.entries}).add("completions", std::int64_t{ring.completions});
  out.add("setup_flags", ring.setup_flags).add("features", ring.features);
  out.add("provided_buffers", ring.provided_buffers).add("multishot_accept", ring.multishot_accept);
  out.add("multishot_receive", ring.multishot_receive).add("multishot_read", ring.multishot_read);
  return out.raw("requests", requests.str()).str();
}

void print_json(const machine_report& report) {
  json_object out;
  out.add("version", KEEL_VERSION).add("kernel", report.kernel).add("works", report.works);
  out.add("engine", report.engine).add("reason", report.reason).add("verdict", verdict(report));
  out.add("io_uring_disabled", std::int64_t{report.uring_disabled});
  out.add("seccomp_mode", std::int64_t{report.seccomp_mode}).add("more_rights", report.more_rights);
  out.limit("memlock_bytes", report.memlock_bytes).limit("descriptors", report.descriptors);
  out.limit("descriptors_max", report.descriptors_max).add("epoll_pwait2", report.epoll_wait_ns);
  out.add("pidfd_open", report.pidfd).add("futex_waitv", report.futex_waitv);
  out.raw("io_uring", json_of(report.uring));
  std::printf("%s\n", out.str().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Says which engine keel uses on this machine, and why.", "keel-probe");
  std::string engine = "auto";
  bool json = false;
  app.add_option("--engine", engine, "ask for an engine, as a program can; auto reads KEEL_ENGINE")
      ->check(CLI::IsMember({"auto", "uring", "epoll"}))
      ->capture_default_str();
  app.add_flag("--json", json, "one line of JSON, for programs");
  app.set_version_flag("--version", KEEL_VERSION);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& problem) {
    return app.exit(problem) == 0 ? 0 : 2;
  }
  const engine_choice choice = engine == "uring"   ? engine_choice::uring
                               : engine == "epoll" ? engine_choice::epoll
                                                   : engine_choice::automatic;
  const machine_report report = keel::kevent_sys::probe_machine(choice);
  if (json) {
    print_json(report);
  } else {
    print(report);
  }
  return report.works ? 0 : 1;
}
