// What time it is, for dates that change once per second.
#pragma once

#include "http_date.hpp"

#include <cstdint>
#include <string_view>

namespace httpd {

// Reads the kernel's coarse clock (4 ns, exact to one tick of it) and writes the date anew only when the
// second has changed.
class wall_clock {
 public:
  wall_clock() noexcept { refresh(); }

  void refresh() noexcept;

  std::int64_t second() const noexcept { return second_; }
  std::string_view date() const noexcept { return text_of(date_); }

 private:
  std::int64_t second_ = -1;
  http_date date_{};
};

}  // namespace httpd
