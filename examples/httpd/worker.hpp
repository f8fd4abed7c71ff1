// What the connections of one CPU share. No locks: each CPU has its own.
#pragma once

#include "access_log.hpp"
#include "file_cache.hpp"
#include "limits.hpp"
#include "site.hpp"
#include "wall_clock.hpp"

#include <array>
#include <string>
#include <utility>
#include <vector>

namespace httpd {

// Memory for answers, lent to a connection while it has some to send. An idle connection holds none.
class output_pool {
 public:
  std::string take() {
    std::string text;
    if (spare_.empty()) {
      text.reserve(output_bytes);
    } else {
      text = std::move(spare_.back());
      spare_.pop_back();
    }
    return text;
  }

  void give_back(std::string text) {
    if (text.capacity() < output_bytes) return;      // it was moved from
    if (text.capacity() > 2 * output_bytes) return;  // it has held a giant
    if (spare_.size() == spare_max) return;
    text.clear();
    spare_.push_back(std::move(text));  // the last one is still in the CPU's caches: it goes out first
  }

 private:
  static constexpr std::size_t spare_max = 64;
  std::vector<std::string> spare_;
};

struct worker {
  worker(const site& served, unsigned connection_limit, access_log* request_log)
      : files(served), connections_max(connection_limit), log(request_log) {}

  // With no place left, clients are asked not to stay: others wait for theirs.
  bool full() const noexcept { return connections >= connections_max; }

  const site& files;
  const unsigned connections_max;
  access_log* const log;  // null: no log is wanted
  unsigned connections = 0;
  bool has_acceptor = false;  // a task waits for the next client
  wall_clock clock;
  file_cache cache{cache_bytes_max};
  output_pool outputs;
  std::array<char, head_bytes_max> scratch;  // for a decoded path; not to be kept across a co_await
};

}  // namespace httpd
