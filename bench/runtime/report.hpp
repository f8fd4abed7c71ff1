// What the micro-benchmarks share: CPU time, medians, one JSON line per result.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <vector>

namespace bench {

inline double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// Each value is one round's nanoseconds of CPU time per operation.
inline void report(const char* bench, const char* what, const std::vector<double>& ns_per_operation,
                   std::uint64_t operations) {
  const auto [least, most] = std::minmax_element(ns_per_operation.begin(), ns_per_operation.end());
  std::printf("{\"bench\": \"%s\", \"what\": \"%s\", \"ns\": %.1f, \"ns_min\": %.1f, \"ns_max\": %.1f, "
              "\"rounds\": %zu, \"operations\": %llu}\n",
              bench, what, median(ns_per_operation), *least, *most, ns_per_operation.size(),
              static_cast<unsigned long long>(operations));
}

}  // namespace bench
