#include "http_date.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

namespace httpd {
namespace {

constexpr std::int64_t day_seconds = 86'400;
constexpr char day_names[] = "ThuFriSatSunMonTueWed";  // 1 January 1970 was a Thursday
constexpr char month_names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

struct civil_time {
  std::int64_t year;
  unsigned month;  // 1 to 12
  unsigned day;
  unsigned second_of_day;
  unsigned weekday;  // 0 is Thursday
};

// Days since 1970 and calendar dates, after Howard Hinnant's "chrono-compatible low-level date
// algorithms": years begin in March, so that the leap day is the last day of its year.
std::int64_t days_from_civil(std::int64_t year, unsigned month, unsigned day) noexcept {
  year -= month <= 2;
  std::int64_t era = (year >= 0 ? year : year - 399) / 400;
  auto year_of_era = static_cast<unsigned>(year - era * 400);
  unsigned day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
  unsigned day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146'097 + day_of_era - 719'468;
}

civil_time civil_from_seconds(std::int64_t seconds) noexcept {
  constexpr std::int64_t year_0 = -62'167'219'200;
  constexpr std::int64_t year_9999_end = 253'402'300'799;
  seconds = std::clamp(seconds, year_0, year_9999_end);
  std::int64_t days = (seconds - year_0) / day_seconds + year_0 / day_seconds;
  auto second_of_day = static_cast<unsigned>(seconds - days * day_seconds);

  std::int64_t shifted = days + 719'468;
  std::int64_t era = (shifted >= 0 ? shifted : shifted - 146'096) / 146'097;
  auto day_of_era = static_cast<unsigned>(shifted - era * 146'097);
  unsigned year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
  unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  unsigned shifted_month = (5 * day_of_year + 2) / 153;
  unsigned month = shifted_month < 10 ? shifted_month + 3 : shifted_month - 9;
  return {.year = era * 400 + year_of_era + (month <= 2),
          .month = month,
          .day = day_of_year - (153 * shifted_month + 2) / 5 + 1,
          .second_of_day = second_of_day,
          .weekday = static_cast<unsigned>((days % 7 + 7) % 7)};
}

// Writes `number` with that many digits.
void put(char* to, unsigned digits, std::int64_t number) noexcept {
  for (; digits > 0; number /= 10) to[--digits] = static_cast<char>('0' + number % 10);
}

void put_time_of_day(char* to, unsigned second_of_day) noexcept {
  put(to, 2, second_of_day / 3600);
  put(to + 3, 2, second_of_day / 60 % 60);
  put(to + 6, 2, second_of_day % 60);
}

// "Sun, 06-Nov-94 08:49:37 GMT" is eight words once commas, colons and hyphens separate them, too.
unsigned split(std::string_view text, std::array<std::string_view, 9>& words) noexcept {
  unsigned count = 0;
  for (std::size_t at = 0; count < words.size();) {
    at = text.find_first_not_of(" ,-:", at);
    if (at == text.npos) break;
    std::size_t end = std::min(text.find_first_of(" ,-:", at), text.size());
    words[count++] = text.substr(at, end - at);
    at = end;
  }
  return count;
}

std::optional<unsigned> number_of(std::string_view word, std::size_t digits_max) noexcept {
  unsigned value = 0;
  const char* end = word.data() + word.size();
  if (word.size() > digits_max) return {};
  auto [stopped, error] = std::from_chars(word.data(), end, value);
  if (error != std::errc() || stopped != end) return {};
  return value;
}

std::optional<unsigned> month_of(std::string_view word) noexcept {
  std::size_t at = word.size() == 3 ? std::string_view(month_names).find(word) : std::string_view::npos;
  if (at == std::string_view::npos || at % 3 != 0) return {};
  return static_cast<unsigned>(at / 3 + 1);
}

unsigned days_in_month(std::int64_t year, unsigned month) noexcept {
  std::int64_t next_year = month == 12 ? year + 1 : year;
  unsigned next_month = month == 12 ? 1 : month + 1;
  return static_cast<unsigned>(days_from_civil(next_year, next_month, 1) - days_from_civil(year, month, 1));
}

}  // namespace

http_date format_http_date(std::int64_t unix_seconds) noexcept {
  civil_time time = civil_from_seconds(unix_seconds);
  http_date date;
  std::memcpy(date.data(), "Sun, 06 Nov 1994 08:49:37 GMT", http_date_size);
  std::memcpy(&date[0], &day_names[time.weekday * 3], 3);
  put(&date[5], 2, time.day);
  std::memcpy(&date[8], &month_names[(time.month - 1) * 3], 3);
  put(&date[12], 4, time.year);
  put_time_of_day(&date[17], time.second_of_day);
  return date;
}

log_date format_log_date(std::int64_t unix_seconds) noexcept {
  civil_time time = civil_from_seconds(unix_seconds);
  log_date date;
  std::memcpy(date.data(), "06/Nov/1994:08:49:37 +0000", log_date_size);
  put(&date[0], 2, time.day);
  std::memcpy(&date[3], &month_names[(time.month - 1) * 3], 3);
  put(&date[7], 4, time.year);
  put_time_of_day(&date[12], time.second_of_day);
  return date;
}

std::optional<std::int64_t> parse_http_date(std::string_view text) noexcept {
  std::array<std::string_view, 9> words;
  unsigned count = split(text, words);
  bool asctime = count == 7;  // then the month comes before the day, the year last, and no zone
  if (!asctime && (count != 8 || words[7] != "GMT")) return {};

  auto day = number_of(words[asctime ? 2 : 1], 2);
  auto month = month_of(words[asctime ? 1 : 2]);
  auto year = number_of(words[asctime ? 6 : 3], 4);
  auto hour = number_of(words[asctime ? 3 : 4], 2);
  auto minute = number_of(words[asctime ? 4 : 5], 2);
  auto second = number_of(words[asctime ? 5 : 6], 2);
  if (!day || !month || !year || !hour || !minute || !second) return {};
  if (!asctime && words[3].size() == 2) *year += *year < 70 ? 2000 : 1900;
  // A second of 60 is a leap second.
  if (*day < 1 || *day > days_in_month(*year, *month)) return {};
  if (*hour > 23 || *minute > 59 || *second > 60) return {};
  return days_from_civil(*year, *month, *day) * day_seconds + *hour * 3600 + *minute * 60 + *second;
}

}  // namespace httpd
