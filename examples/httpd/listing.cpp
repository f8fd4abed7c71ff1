#include "listing.hpp"

#include "limits.hpp"
#include "text.hpp"

#include <algorithm>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

namespace httpd {
namespace {

struct listed_entry {
  std::string name;
  std::uint64_t size = 0;
  bool is_directory = false;
  bool is_file = false;
};

struct directory_closer {
  void operator()(DIR* directory) const noexcept { closedir(directory); }
};
using directory_stream = std::unique_ptr<DIR, directory_closer>;

// Links are not followed: what they lead to may lie outside, and then its size is nobody's business.
listed_entry look_at(int directory, const char* name) {
  listed_entry entry;
  entry.name = name;
  struct stat status;
  if (fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW) != 0) return entry;
  entry.is_directory = S_ISDIR(status.st_mode);
  entry.is_file = S_ISREG(status.st_mode);
  entry.size = static_cast<std::uint64_t>(status.st_size);
  return entry;
}

std::vector<listed_entry> entries_of(DIR* directory, bool hidden) {
  std::vector<listed_entry> entries;
  while (const dirent* found = readdir(directory)) {
    std::string_view name = found->d_name;
    if (name == "." || name == ".." || (name[0] == '.' && !hidden)) continue;
    if (entries.size() == listed_entries_max) break;
    entries.push_back(look_at(dirfd(directory), found->d_name));
  }
  std::ranges::sort(entries, {}, [](const listed_entry& entry) {
    return std::pair(!entry.is_directory, std::string_view(entry.name));
  });
  return entries;
}

void append_entry(std::string& out, const listed_entry& entry) {
  std::string_view slash = entry.is_directory ? "/" : "";
  out.append("<tr><td><a href=\"");
  append_url(out, entry.name);
  out.append(slash).append("\">");
  append_html(out, entry.name);
  out.append(slash).append("</a></td><td>");
  if (entry.is_file) append_number(out, entry.size);
  out.append("</td></tr>\n");
}

}  // namespace

std::string listing_page(keel::unique_fd directory, std::string_view path, bool hidden) {
  directory_stream stream(fdopendir(directory.get()));
  if (!stream) return {};
  directory.release();  // the stream closes it
  std::vector<listed_entry> entries = entries_of(stream.get(), hidden);

  std::string page =
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width\">\n<title>/";
  append_html(page, path);
  page.append(
      "</title>\n<style>body{font-family:sans-serif;margin:2em}td{padding:.1em 2em .1em 0}"
      "td+td{text-align:right}</style>\n</head>\n<body>\n<h1>/");
  append_html(page, path);
  page.append("</h1>\n<table>\n");
  if (!path.empty()) page.append("<tr><td><a href=\"../\">../</a></td><td></td></tr>\n");
  for (const listed_entry& entry : entries) append_entry(page, entry);
  page.append("</table>\n</body>\n</html>\n");
  return page;
}

void append_html(std::string& out, std::string_view text) {
  for (char c : text) {
    switch (c) {
      case '&': out.append("&amp;"); break;
      case '<': out.append("&lt;"); break;
      case '>': out.append("&gt;"); break;
      case '"': out.append("&quot;"); break;
      case '\'': out.append("&#39;"); break;
      default: out.push_back(c);
    }
  }
}

void append_url(std::string& out, std::string_view path) {
  constexpr std::string_view unreserved =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
  constexpr char hex[] = "0123456789ABCDEF";
  for (char c : path) {
    if (unreserved.find(c) != unreserved.npos) {
      out.push_back(c);
      continue;
    }
    auto byte = static_cast<unsigned char>(c);
    out.push_back('%');
    out.push_back(hex[byte >> 4]);
    out.push_back(hex[byte & 15]);
  }
}

}  // namespace httpd
