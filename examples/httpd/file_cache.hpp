// Small files with their heads, ready to be sent.
#pragma once

#include "file_description.hpp"
#include "site.hpp"
#include "wall_clock.hpp"

#include <keel/base/intrusive_list.hpp>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>

namespace httpd {

// One small file: its whole answer in one block, as a keep-alive request of HTTP/1.1 gets it.
class cached_file : public keel::list_hook {
 public:
  // `path`: where the file lies in the site. `body`: its bytes.
  cached_file(std::string path, const file_info& info, std::string_view body, const wall_clock& clock);

  const file_description& description() const noexcept { return description_; }
  std::string_view answer() const noexcept { return block_; }
  std::string_view head() const noexcept { return answer().substr(0, head_size_); }
  std::string_view body() const noexcept { return answer().substr(head_size_); }

 private:
  friend class file_cache;

  void set_date(const wall_clock& clock) noexcept;

  std::string path_;
  file_description description_;
  std::string block_;
  std::size_t head_size_;
  std::string key_;        // the path that was asked for: "a/" and "a/index.html" are two entries
  std::int64_t checked_s_;  // when we last saw that the file has not changed
};

// The files that were asked for lately, up to a number of bytes; the one that was not asked for the longest
// goes first. Like lighttpd's stat cache, it looks at each file at most once per second.
//
// Thread safety: none. Each CPU has one.
class file_cache {
 public:
  explicit file_cache(std::size_t bytes_max) noexcept : bytes_max_(bytes_max) {}
  file_cache(const file_cache&) = delete;
  file_cache& operator=(const file_cache&) = delete;
  ~file_cache();

  // The answer for a path as decode_target() gives it, with today's date; null if it is not here or the file
  // is another by now. Valid until the next call of find() or insert().
  const cached_file* find(std::string_view key, const wall_clock& clock, const site& files);

  void insert(std::string_view key, std::unique_ptr<cached_file> file);

  std::size_t bytes() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return by_key_.size(); }

 private:
  static std::size_t cost(const cached_file& file) noexcept;
  void erase(cached_file& file) noexcept;

  std::unordered_map<std::string_view, std::unique_ptr<cached_file>> by_key_;  // views of cached_file::key_
  keel::intrusive_list<cached_file> by_age_;
  std::size_t bytes_ = 0;
  std::size_t bytes_max_;
};

// Whether a change within the clock's tick could go unnoticed: then the file is too young to be kept.
bool is_settled(const file_info& info) noexcept;

}  // namespace httpd
