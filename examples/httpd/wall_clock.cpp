#include "wall_clock.hpp"

#include <ctime>

namespace httpd {

void wall_clock::refresh() noexcept {
  timespec now{};
  clock_gettime(CLOCK_REALTIME_COARSE, &now);
  if (now.tv_sec == second_) return;
  second_ = now.tv_sec;
  date_ = format_http_date(second_);
}

}  // namespace httpd
