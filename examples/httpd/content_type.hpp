// What kind of content a file name promises.
#pragma once

#include <string_view>

namespace httpd {

// By the extension, in any case of letters: "text/html; charset=utf-8" for "a/INDEX.HTM",
// "application/octet-stream" for what we do not know.
std::string_view content_type(std::string_view path) noexcept;

}  // namespace httpd
