// The page for a directory without an index.html.
#pragma once

#include <keel/base/unique_fd.hpp>

#include <string>
#include <string_view>

namespace httpd {

// The page that lists `directory`, whose path is "a/" or "" for the served folder itself. Directories come
// first, each group in the order of its bytes. Empty if the directory cannot be read.
std::string listing_page(keel::unique_fd directory, std::string_view path, bool hidden);

// Text as HTML shows it: safe between tags and in quoted attributes.
void append_html(std::string& out, std::string_view text);

// A path as a URL writes it. Keeps slashes. A colon is encoded: "javascript:x" is a name here, no scheme.
void append_url(std::string& out, std::string_view path);

}  // namespace httpd
