// What a client has sent and no request has used up yet.
#pragma once

#include <keel/net/lease.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace httpd {

// A whole request is parsed where it arrived, in a buffer that the runtime has lent us. Only what straddles
// two of them is copied: a request is always one piece of memory.
class input {
 public:
  std::string_view bytes() const noexcept { return rest_; }
  bool empty() const noexcept { return rest_.empty(); }

  void append(keel::net::buffer_lease fresh) {
    if (rest_.empty()) {
      lent_ = std::move(fresh);
      rest_ = lent_.text();
      return;
    }
    keep();
    own_.append(fresh.text());
    rest_ = own_;
  }

  void consume(std::size_t size) noexcept { rest_.remove_prefix(size); }

  // Gives the lent buffer back and keeps a copy of what is left in it. To be done before a wait that may be
  // long: there are fewer buffers than clients. Views of bytes() become invalid.
  void keep() {
    if (rest_.empty()) {
      own_ = {};
    } else if (!lent_.empty()) {
      own_ = rest_;
    } else {
      own_.erase(0, own_.size() - rest_.size());
    }
    rest_ = own_;
    lent_.reset();
  }

 private:
  keel::net::buffer_lease lent_;
  std::string own_;
  std::string_view rest_;  // the end of lent_ or, if that is empty, of own_
};

}  // namespace httpd
