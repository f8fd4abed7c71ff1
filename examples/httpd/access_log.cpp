#include "access_log.hpp"

#include "http_date.hpp"
#include "text.hpp"

#include <cerrno>

#include <unistd.h>

namespace httpd {
namespace {

constexpr std::size_t flush_bytes = 8 * 1024;
constexpr std::size_t request_bytes_max = 2 * 1024;

// A client must not be able to forge lines, or to send escape codes to somebody's terminal.
void append_escaped(std::string& out, std::string_view text) {
  constexpr char hex[] = "0123456789abcdef";
  for (char c : text.substr(0, request_bytes_max)) {
    auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '"' && c != '\\') {
      out.push_back(c);
    } else {
      out.append("\\x").push_back(hex[byte >> 4]);
      out.push_back(hex[byte & 15]);
    }
  }
}

}  // namespace

void access_log::write(const line& entry) {
  log_date date = format_log_date(entry.second);
  pending_.append(entry.client).append(" - - [").append(date.data(), date.size()).append("] \"");
  append_escaped(pending_, entry.request);
  pending_.append("\" ");
  append_number(pending_, static_cast<std::uint64_t>(entry.status));
  pending_.push_back(' ');
  append_number(pending_, entry.body_bytes);
  pending_.push_back('\n');
  if (pending_.size() >= flush_bytes) flush();
}

void access_log::flush() noexcept {
  std::string_view rest = pending_;
  while (!rest.empty()) {
    ssize_t n = ::write(fd_, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  pending_.clear();
}

}  // namespace httpd
