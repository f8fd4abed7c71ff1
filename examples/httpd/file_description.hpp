// What the fields of an answer say about a file.
#pragma once

#include "conditions.hpp"
#include "response_head.hpp"
#include "site.hpp"

#include <string>
#include <string_view>

namespace httpd {

class file_description {
 public:
  // `now_s`: a modification in the future is not told, as RFC 9110 wants it.
  file_description(const file_info& info, std::string_view path, std::int64_t now_s);

  const file_info& info() const noexcept { return info_; }
  file_version version() const noexcept {
    return {.etag = etag_, .modified_s = info_.modified_s, .size = info_.size};
  }

  // Writes the fields that describe this file and the part of it that is sent: those that go with the status
  // of `choice`. Views in `head` point into *this.
  void fill(response_head& head, const selection& choice) const noexcept;

 private:
  file_info info_;
  std::string_view content_type_;
  std::string etag_;           // with its quotes
  std::string last_modified_;  // empty if it lies in the future
};

}  // namespace httpd
