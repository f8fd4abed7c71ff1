#include "file_description.hpp"

#include "content_type.hpp"
#include "http_date.hpp"
#include "text.hpp"

namespace httpd {

file_description::file_description(const file_info& info, std::string_view path, std::int64_t now_s)
    : info_(info), content_type_(httpd::content_type(path)) {
  etag_.push_back('"');
  append_number(etag_, info.inode, 16);
  etag_.push_back('-');
  append_number(etag_, info.size, 16);
  etag_.push_back('-');
  append_number(etag_, static_cast<std::uint64_t>(info.modified_s), 16);
  etag_.push_back('.');
  append_number(etag_, static_cast<std::uint64_t>(info.modified_ns), 16);
  etag_.push_back('"');
  if (info.modified_s <= now_s) last_modified_ = text_of(format_http_date(info.modified_s));
}

void file_description::fill(response_head& head, const selection& choice) const noexcept {
  head.status = choice.status;
  head.file_size = info_.size;
  if (choice.status == 412 || choice.status == 416) return;
  head.etag = etag_;
  head.last_modified = last_modified_;
  if (choice.status == 304) return;
  head.content_type = content_type_;
  head.content_length = choice.range.count;
  head.range_offset = choice.range.offset;
}

}  // namespace httpd
