// From the target of a request to a path inside the served folder.
#pragma once

#include <span>
#include <string_view>

namespace httpd {

struct target_path {
  // Nonzero: refuse with this status, 400 or 404. The rest is then empty.
  int refusal = 0;
  // Relative to the served folder and already decoded: "a/b.txt" is a file, "a/" a directory, "" the
  // folder itself. No segment is empty, ".", or "..". Points into `scratch`.
  std::string_view path;
  // Behind the '?', as it came. Points into the target.
  std::string_view query;

  bool names_directory() const noexcept { return path.empty() || path.back() == '/'; }
};

// Decodes "/a%20b/./c?x=1" into "a b/c", the way a client means it: percent signs first, dot segments after
// that, so that an encoded dot is a dot.
//
// Refuses with 400 what is no path: a wrong percent sign, NUL, control characters, and dot segments that
// climb out of the folder. Refuses with 404 what names nothing here: an encoded slash (no file name contains
// one), and names that begin with a dot unless `hidden`.
//
// This is the first of two walls. The second is the kernel: see site.hpp.
//
// REQUIRES: scratch.size() >= target.size()
target_path decode_target(std::string_view target, bool hidden, std::span<char> scratch) noexcept;

}  // namespace httpd
