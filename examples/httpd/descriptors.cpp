#include "descriptors.hpp"

#include "limits.hpp"

#include <algorithm>

#include <sys/resource.h>

namespace httpd {

unsigned connections_within(unsigned long descriptors, unsigned cpus) noexcept {
  constexpr unsigned long connections_max = 1'000'000;
  // Each CPU after the first brings its own ring, listener and wake-up.
  unsigned long spare = spare_descriptors + 4ul * (cpus - 1);
  if (descriptors <= spare) return 1;
  unsigned long count = (descriptors - spare) / descriptors_per_connection;
  return static_cast<unsigned>(std::clamp(count, 1ul, connections_max));
}

unsigned connection_places(unsigned wanted, unsigned cpus) noexcept {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  getrlimit(RLIMIT_NOFILE, &limit);
  unsigned possible = connections_within(limit.rlim_cur, cpus);
  unsigned places = wanted == 0 ? possible : std::min(wanted, possible);
  return std::max(places / cpus, 1u);
}

}  // namespace httpd
