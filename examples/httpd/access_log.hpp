// One line per request on standard error, in the common log format.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace httpd {

// Gathers lines and writes them when they are many; whoever owns the log flushes it now and then.
//
//     127.0.0.1 - - [06/Nov/1994:08:49:37 +0000] "GET /a.txt HTTP/1.1" 200 699
//
// Thread safety: none. Each CPU has one; a write(2) of whole lines keeps them apart.
class access_log {
 public:
  explicit access_log(int fd) noexcept : fd_(fd) {}
  access_log(const access_log&) = delete;
  access_log& operator=(const access_log&) = delete;
  ~access_log() { flush(); }

  struct line {
    std::string_view client;
    std::int64_t second = 0;
    std::string_view request;  // as it came: it is escaped here
    int status = 0;
    std::uint64_t body_bytes = 0;
  };
  void write(const line& entry);
  // Blocks as long as standard error does. What cannot be written is dropped.
  void flush() noexcept;

 private:
  int fd_;
  std::string pending_;
};

}  // namespace httpd
