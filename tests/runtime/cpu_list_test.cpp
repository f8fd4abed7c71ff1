#include <keel/runtime/cpu_list.hpp>

#include <doctest/doctest.h>

#include <array>
#include <sched.h>

#include "support/death_test.hpp"

using keel::cpu_list;
using keel::pinned_thread;

namespace {

cpu_set_t allowed() {
  cpu_set_t set;
  CPU_ZERO(&set);
  REQUIRE(::sched_getaffinity(0, sizeof set, &set) == 0);
  return set;
}

unsigned allowed_count() {
  const cpu_set_t set = allowed();
  return static_cast<unsigned>(CPU_COUNT(&set));
}

bool allowed_exactly(int cpu) {
  const cpu_set_t set = allowed();
  return CPU_COUNT(&set) == 1 && CPU_ISSET(static_cast<std::size_t>(cpu), &set);
}

}  // namespace

TEST_CASE("cpu_list: one CPU is wherever the thread is") {
  CHECK(cpu_list().count() == 1);
  CHECK(cpu_list().resolve().cpu[0] == -1);
  CHECK(cpu_list(1).resolve().cpu[0] == -1);
}

TEST_CASE("cpu_list: all CPUs are those that this process may use") {
  const auto where = cpu_list(keel::all_cpus).resolve();
  CHECK(where.count == allowed_count());
  const cpu_set_t set = allowed();
  for (unsigned i = 0; i < where.count && where.count > 1; ++i)
    CHECK(CPU_ISSET(static_cast<std::size_t>(where.cpu[i]), &set));
}

TEST_CASE("cpu_list: more schedulers than CPUs share them in turns") {
  const unsigned usable = allowed_count();
  const auto where = cpu_list(static_cast<int>(usable) * 2 + 1).resolve();
  REQUIRE(where.count == usable * 2 + 1);
  for (unsigned i = 0; i < where.count; ++i) CHECK(where.cpu[i] == where.cpu[i % usable]);
}

TEST_CASE("cpu_list: a list is taken as it is") {
  constexpr std::array<unsigned, 3> cpus{1, 0, 1};
  const auto where = cpu_list::of(cpus.data(), cpus.size()).resolve();
  REQUIRE(where.count == 3);
  CHECK(where.cpu[0] == 1);
  CHECK(where.cpu[1] == 0);
  CHECK(where.cpu[2] == 1);
}

TEST_CASE("cpu_list: no CPU, or too many, are bugs") {
  CHECK_DEATH(cpu_list(0), "a runtime has 1 to 256 schedulers");
  CHECK_DEATH(cpu_list(257), "a runtime has 1 to 256 schedulers");
  CHECK_DEATH(cpu_list::of(nullptr, 0), "a list of 1 to 256 CPUs");
}

TEST_CASE("pinned_thread: the thread stays on its CPU until the end of the scope") {
  const cpu_set_t before = allowed();
  int cpu = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(cpu), &before)) ++cpu;
  {
    const pinned_thread pin(cpu);
    CHECK(allowed_exactly(cpu));
  }
  const cpu_set_t after = allowed();
  CHECK(CPU_EQUAL(&before, &after));
}

TEST_CASE("pinned_thread: a CPU that is not ours, or none, leaves the thread where it is") {
  const cpu_set_t before = allowed();
  for (const int cpu : {-1, 1023}) {
    const pinned_thread pin(cpu);
    const cpu_set_t now = allowed();
    CHECK(CPU_EQUAL(&before, &now));
  }
}
