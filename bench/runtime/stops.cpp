// What stops cost on their own thread: a source that is made and stopped, with nobody and with one under it;
// a section under a source, and a shielded one, around something that is ready at once.
//
//     build/release/bench/stops
//
// CPU time of this thread. Medians of 9 rounds of 1,000,000.

#include "report.hpp"

#include <keel/keel.hpp>

using namespace keel;

namespace {

constexpr int rounds = 9;
constexpr std::uint64_t per_round = 1'000'000;

struct listener : stop_callback {
  listener() noexcept
      : stop_callback([](stop_callback& self, stop_level) noexcept { ++static_cast<listener&>(self).told; }) {
  }
  int told = 0;
};

template <class Fn>
void measure(const char* what, Fn once) {
  std::vector<double> ns;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    for (std::uint64_t n = 0; n < per_round; ++n) once();
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / per_round);
  }
  bench::report("stops", what, ns, per_round);
}

void sources() {
  measure("make_and_request_stop", [] {
    stop_source source;
    asm volatile("" : : "r"(&source) : "memory");
    source.request_stop();
    asm volatile("" : : "r"(&source) : "memory");
  });
  listener told;
  measure("make_add_and_request_stop", [&told] {
    stop_source source;
    source.token().context().add(told);
    asm volatile("" : : "r"(&source) : "memory");
    source.request_stop();
    asm volatile("" : : "r"(&source) : "memory");
  });
}

template <class Make>
task<> around(const char* what, Make make) {
  std::vector<double> ns;
  for (int i = 0; i < rounds; ++i) {
    const double begin = bench::cpu_seconds();
    for (std::uint64_t n = 0; n < per_round; ++n) co_await make();
    ns.push_back((bench::cpu_seconds() - begin) * 1e9 / per_round);
  }
  bench::report("stops", what, ns, per_round);
}

task<> nothing() {
  co_return;
}

task<> sections() {
  stop_source source;
  co_await around("ready_task", [] { return nothing(); });
  co_await around("with_stop_ready_task", [&source] { return with_stop(source, nothing()); });
  co_await around("shielded_ready_task", [] { return shielded(nothing()); });
}

}  // namespace

int main() {
  sources();
  run(sections());
}
