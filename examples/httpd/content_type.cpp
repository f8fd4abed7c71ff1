#include "content_type.hpp"

#include "text.hpp"

#include <algorithm>
#include <iterator>

namespace httpd {
namespace {

struct known {
  std::string_view extension;
  std::string_view type;
};

constexpr std::string_view plain_text = "text/plain; charset=utf-8";

// Sorted by extension, for the binary search.
constexpr known table[] = {
    {"7z", "application/x-7z-compressed"},
    {"aac", "audio/aac"},
    {"apk", "application/vnd.android.package-archive"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", plain_text},
    {"cc", plain_text},
    {"cmake", plain_text},
    {"conf", plain_text},
    {"cpp", plain_text},
    {"css", "text/css; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"deb", "application/vnd.debian.binary-package"},
    {"diff", plain_text},
    {"doc", "application/msword"},
    {"docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"},
    {"epub", "application/epub+zip"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"go", plain_text},
    {"gz", "application/gzip"},
    {"h", plain_text},
    {"hpp", plain_text},
    {"htm", "text/html; charset=utf-8"},
    {"html", "text/html; charset=utf-8"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ics", "text/calendar; charset=utf-8"},
    {"ini", plain_text},
    {"iso", "application/x-iso9660-image"},
    {"jar", "application/java-archive"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"jsonl", "application/jsonl"},
    {"log", plain_text},
    {"m3u8", "application/vnd.apple.mpegurl"},
    {"m4a", "audio/mp4"},
    {"map", "application/json"},
    {"md", "text/markdown; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"mkv", "video/x-matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"mpeg", "video/mpeg"},
    {"odt", "application/vnd.oasis.opendocument.text"},
    {"oga", "audio/ogg"},
    {"ogg", "audio/ogg"},
    {"ogv", "video/ogg"},
    {"opus", "audio/opus"},
    {"otf", "font/otf"},
    {"patch", plain_text},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"ps", "application/postscript"},
    {"py", plain_text},
    {"rs", plain_text},
    {"rst", plain_text},
    {"rtf", "application/rtf"},
    {"sh", plain_text},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tgz", "application/gzip"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"toml", plain_text},
    {"ts", "video/mp2t"},
    {"tsv", "text/tab-separated-values; charset=utf-8"},
    {"ttf", "font/ttf"},
    {"txt", plain_text},
    {"wasm", "application/wasm"},
    {"wav", "audio/wav"},
    {"weba", "audio/webm"},
    {"webm", "video/webm"},
    {"webmanifest", "application/manifest+json"},
    {"webp", "image/webp"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"xhtml", "application/xhtml+xml"},
    {"xml", "application/xml"},
    {"xz", "application/x-xz"},
    {"yaml", plain_text},
    {"yml", plain_text},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};
static_assert(std::ranges::is_sorted(table, {}, &known::extension));

// Source trees are full of these.
constexpr std::string_view plain_names[] = {"LICENSE", "Makefile", "README", "COPYING", "CHANGELOG"};

}  // namespace

std::string_view content_type(std::string_view path) noexcept {
  constexpr std::string_view unknown = "application/octet-stream";
  std::string_view name = path.substr(path.rfind('/') + 1);  // npos + 1 is 0
  if (std::ranges::find(plain_names, name) != std::end(plain_names)) return plain_text;
  std::size_t dot = name.rfind('.');
  if (dot == name.npos || dot == 0) return unknown;

  char lower[16];
  std::string_view extension = name.substr(dot + 1);
  if (extension.size() > sizeof lower) return unknown;
  char* end = std::ranges::transform(extension, lower, ascii_lower).out;
  extension = {lower, end};
  const known* found = std::ranges::lower_bound(table, extension, {}, &known::extension);
  return found != std::end(table) && found->extension == extension ? found->type : unknown;
}

}  // namespace httpd
