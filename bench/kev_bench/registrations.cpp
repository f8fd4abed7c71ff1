// What a registration costs: time and user-space memory of kevent_ctl(ADD), and whether an event costs more
// when there are many registrations that have none.
//
//   kev_registrations [--kind user|socket] [--rounds 5]
//
// For 100, 1,000, 10,000 and 100,000 registrations: of KEVENT_UNOTIFY ("user"), or of one socket under
// different id.raw[1] ("socket"). Adds them in arrays of 256, fires one in a hundred with KEVENT_CTL_READY,
// 16 in a call and not fewer, collects those, removes all. One JSON line each: nanoseconds of CPU time,
// medians of the rounds, and bytes as mallinfo2() sees them. "flat" is the cost of an event over its cost
// among the fewest. Bars: add_ns <= 1500, bytes <= 256.

#include <keel/kevent_sys/kevent.h>

#include <malloc.h>
#include <sys/socket.h>
#include <unistd.h>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

namespace {

constexpr unsigned array = 256;
constexpr unsigned fired_one_in = 100;
constexpr unsigned fired_at_once = 16;
constexpr std::uint32_t sizes[] = {100, 1'000, 10'000, 100'000};

struct cost {
  double add_ns = 0;
  double event_ns = 0;
  double remove_ns = 0;
  double bytes = 0;
};

int check(int result, const char* what) {
  if (result >= 0) return result;
  std::fprintf(stderr, "kev_registrations: %s: %s (%d)\n", what, std::strerror(-result), -result);
  std::exit(1);
}

double cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

double used_bytes() {
  const struct mallinfo2 heap = ::mallinfo2();
  return static_cast<double>(heap.uordblks + heap.hblkhd);
}

class registrations {
 public:
  registrations(bool sockets, std::uint32_t n) : all_(n) {
    if (sockets && ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends_) != 0) {
      std::perror("kev_registrations: socketpair");
      std::exit(1);
    }
    for (std::uint32_t i = 0; i < n; ++i) {
      all_[i].id.raw[0] = sockets ? static_cast<std::uint32_t>(ends_[0]) : i;
      all_[i].id.raw[1] = sockets ? i : 0;
      all_[i].type = sockets ? KEVENT_SOCKET : KEVENT_UNOTIFY;
      all_[i].event = KEVENT_SOCKET_RECV;
      all_[i].req_flags = KEVENT_REQ_ET;
      all_[i].user[0] = i;
    }
  }
  registrations(const registrations&) = delete;
  registrations& operator=(const registrations&) = delete;
  ~registrations() {
    for (const int fd : ends_) {
      if (fd >= 0) ::close(fd);
    }
  }

  cost measure() {
    cost result;
    const auto n = static_cast<double>(all_.size());
    queue_ = check(kevent_init(nullptr, 0, 0), "kevent_init");
    const double before = used_bytes();
    result.add_ns = change(KEVENT_CTL_ADD) / n;
    result.bytes = (used_bytes() - before) / n;
    result.event_ns = fire_and_collect();
    result.remove_ns = change(KEVENT_CTL_REMOVE) / n;
    check(kevent_close(queue_), "kevent_close");
    return result;
  }

 private:
  double change(unsigned command) {
    ukevent some[array];
    const double start = cpu_ns();
    for (std::size_t at = 0; at < all_.size(); at += array) {
      const std::size_t count = std::min<std::size_t>(array, all_.size() - at);
      std::copy_n(all_.begin() + static_cast<std::ptrdiff_t>(at), count, some);
      const int answer = check(kevent_ctl(queue_, command, static_cast<unsigned>(count), some), "kevent_ctl");
      if (command == KEVENT_CTL_ADD && answer > 0) check(static_cast<int>(some[0].ret_data[1]), "add");
    }
    return cpu_ns() - start;
  }

  // Nanoseconds per event, of making it ready and of collecting it, always as many in a call.
  double fire_and_collect() {
    const std::size_t count = std::max<std::size_t>(fired_at_once, all_.size() / fired_one_in);
    std::vector<ukevent> chosen(count);
    for (std::size_t i = 0; i < count; ++i) chosen[i] = all_[i * (all_.size() / count)];
    const std::size_t repeats = std::max<std::size_t>(1, 10'000 / count);
    ukevent some[fired_at_once];
    const double start = cpu_ns();
    std::size_t events = 0;
    for (std::size_t i = 0; i < repeats; ++i) {
      for (std::size_t at = 0; at + fired_at_once <= count; at += fired_at_once) {
        std::copy_n(chosen.begin() + static_cast<std::ptrdiff_t>(at), fired_at_once, some);
        check(kevent_ctl(queue_, KEVENT_CTL_READY, fired_at_once, some), "kevent_ctl");
        const timespec for_ever{-1, 0};
        check(kevent_get_events(queue_, fired_at_once, fired_at_once, for_ever, some, 0),
              "kevent_get_events");
        events += fired_at_once;
      }
    }
    return (cpu_ns() - start) / static_cast<double>(events);
  }

  int ends_[2] = {-1, -1};
  int queue_ = -1;
  std::vector<ukevent> all_;
};

double median(std::vector<cost>& runs, double cost::*field) {
  std::sort(runs.begin(), runs.end(), [&](const cost& a, const cost& b) { return a.*field < b.*field; });
  return runs[runs.size() / 2].*field;
}

void measure(const char* kind, unsigned rounds) {
  double event_ns_of_few = 0;
  for (const std::uint32_t n : sizes) {
    std::vector<cost> runs;
    for (unsigned i = 0; i <= rounds; ++i) {
      registrations all(std::strcmp(kind, "socket") == 0, n);
      const cost once = all.measure();
      if (i > 0) runs.push_back(once);  // the first one warms up
    }
    const double event_ns = median(runs, &cost::event_ns);
    if (event_ns_of_few == 0) event_ns_of_few = event_ns;
    std::printf(
        "{\"bench\": \"kev_registrations\", \"kind\": \"%s\", \"n\": %u, \"rounds\": %u, \"add_ns\": %.0f, "
        "\"bytes\": %.0f, \"event_ns\": %.1f, \"flat\": %.2f, \"remove_ns\": %.0f}\n",
        kind, n, rounds, median(runs, &cost::add_ns), median(runs, &cost::bytes), event_ns,
        event_ns / event_ns_of_few, median(runs, &cost::remove_ns));
    std::fflush(stdout);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const char* kind = nullptr;
  unsigned rounds = 5;
  for (int i = 1; i + 1 < argc; i += 2) {
    if (std::strcmp(argv[i], "--kind") == 0) {
      kind = argv[i + 1];
    } else if (std::strcmp(argv[i], "--rounds") == 0) {
      rounds = static_cast<unsigned>(std::strtoul(argv[i + 1], nullptr, 10));
    } else {
      rounds = 0;
    }
  }
  if (argc % 2 == 0 || rounds == 0 ||
      (kind != nullptr && std::strcmp(kind, "user") != 0 && std::strcmp(kind, "socket") != 0)) {
    std::fprintf(stderr, "kev_registrations [--kind user|socket] [--rounds 5]\n");
    return 2;
  }
  for (const char* each : {"user", "socket"}) {
    if (kind == nullptr || std::strcmp(kind, each) == 0) measure(each, rounds);
  }
  return 0;
}
