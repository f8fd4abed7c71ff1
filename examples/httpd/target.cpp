#include "target.hpp"

#include <keel/base/assert.hpp>

#include <algorithm>

namespace httpd {
namespace {

int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

target_path refused(int status) noexcept {
  return {.refusal = status, .path = {}, .query = {}};
}

// A proxy may ask with the whole address: "GET http://host/path".
std::string_view without_authority(std::string_view target) noexcept {
  if (target.empty() || target[0] == '/') return target;
  std::size_t colon = target.find("://");
  if (colon == target.npos) return {};
  std::size_t path = target.find_first_of("/?#", colon + 3);
  if (path == target.npos) return "/";
  return target.substr(path);
}

// A path that grows by whole segments.
class path_builder {
 public:
  path_builder(std::span<char> scratch, bool hidden) noexcept : data_(scratch.data()), hidden_(hidden) {}

  void push(char c) noexcept { data_[size_++] = c; }

  // Ends the segment that was pushed, at a slash or at the end. Gives a refusal, or 0.
  int end_segment(bool at_slash) noexcept {
    std::string_view segment(data_ + start_, size_ - start_);
    if (segment.empty() || segment == ".") {
      size_ = start_;
      return 0;
    }
    if (segment == "..") return climb();
    if (segment[0] == '.' && !hidden_) return 404;
    if (at_slash) push('/');
    start_ = size_;
    return 0;
  }

  std::string_view path() const noexcept { return {data_, size_}; }

 private:
  int climb() noexcept {
    if (start_ == 0) return 400;
    size_ = start_ - 1;  // the slash behind the segment that we give up
    while (size_ > 0 && data_[size_ - 1] != '/') --size_;
    start_ = size_;
    return 0;
  }

  char* data_;
  std::size_t size_ = 0;
  std::size_t start_ = 0;  // of the segment that is being pushed
  bool hidden_;
};

}  // namespace

target_path decode_target(std::string_view target, bool hidden, std::span<char> scratch) noexcept {
  KEEL_ASSERT(scratch.size() >= target.size());
  target = without_authority(target);
  std::size_t path_end = std::min(target.find('?'), target.size());
  std::string_view encoded = target.substr(0, path_end);
  std::string_view query = target.substr(std::min(path_end + 1, target.size()));
  if (encoded.empty() && path_end < target.size()) encoded = "/";  // "http://host?query"
  if (encoded.empty() || encoded[0] != '/') return refused(400);

  path_builder path(scratch, hidden);
  for (std::size_t at = 1; at < encoded.size(); ++at) {
    auto c = static_cast<unsigned char>(encoded[at]);
    if (c == '/') {
      if (int refusal = path.end_segment(true); refusal != 0) return refused(refusal);
      continue;
    }
    if (c <= ' ' || c == 0x7f || c == '#') return refused(400);
    if (c == '%') {
      if (encoded.size() - at < 3) return refused(400);
      int high = hex_digit(encoded[at + 1]);
      int low = hex_digit(encoded[at + 2]);
      if (high < 0 || low < 0) return refused(400);
      c = static_cast<unsigned char>(high * 16 + low);
      if (c == '\0') return refused(400);
      if (c == '/') return refused(404);
      at += 2;
    }
    path.push(static_cast<char>(c));
  }
  if (int refusal = path.end_segment(false); refusal != 0) return refused(refusal);
  return {.refusal = 0, .path = path.path(), .query = query};
}

}  // namespace httpd
