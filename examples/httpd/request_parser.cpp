#include "request_parser.hpp"

#include "limits.hpp"

namespace httpd {
namespace {

header header_named(std::string_view name) noexcept {
  struct known {
    std::string_view name;
    header which;
  };
  // Few, and of different lengths: comparing sizes first makes this as quick as a hash.
  static constexpr known table[] = {
      {"host", header::host},
      {"range", header::range},
      {"expect", header::expect},
      {"if-match", header::if_match},
      {"if-range", header::if_range},
      {"if-none-match", header::if_none_match},
      {"if-modified-since", header::if_modified_since},
      {"transfer-encoding", header::transfer_encoding},
      {"if-unmodified-since", header::if_unmodified_since},
  };
  for (const known& entry : table) {
    if (entry.name.size() == name.size() && equals_ignoring_case(name, entry.name)) return entry.which;
  }
  return header::count;
}

constexpr bool is_token_of_capitals(std::string_view text) noexcept {
  constexpr std::string_view allowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZ-_";
  return !text.empty() && text.size() <= 32 && text.find_first_not_of(allowed) == text.npos;
}

// What http_parser lets through in a Host field, but no host contains.
constexpr bool is_host(std::string_view text) noexcept {
  return text.find_first_of(" \t/\\@?#<>\"{}|^`,") == text.npos;
}

}  // namespace

void request_parser::start() noexcept {
  http_parser_init(&parser_, HTTP_REQUEST);
  message_ = {};
  parsed_ = 0;
  values_ = {};
  target_ = name_ = {};
  value_end_ = 0;
  present_ = 0;
  refusal_ = 0;
  current_ = header::count;
  in_value_ = head_complete_ = complete_ = keep_alive_ = false;
}

const http_parser_settings& request_parser::callbacks() noexcept {
  static const http_parser_settings settings = [] {
    http_parser_settings made;
    http_parser_settings_init(&made);
    made.on_url = on_target;
    made.on_header_field = on_name;
    made.on_header_value = on_value;
    made.on_headers_complete = on_head_complete;
    made.on_message_complete = on_complete;
    return made;
  }();
  return settings;
}

request_parser::progress request_parser::parse(std::string_view message) noexcept {
  message_ = message;
  parser_.data = this;
  std::string_view fresh = message.substr(parsed_);
  if (fresh.empty()) return progress::incomplete;  // http_parser would take it for the end of the stream
  parsed_ += http_parser_execute(&parser_, &callbacks(), fresh.data(), fresh.size());

  if (refusal_ != 0) return progress::refused;
  if (int status = check_size(); status != 0) return refuse(status);
  if (complete_) return progress::complete;
  if (HTTP_PARSER_ERRNO(&parser_) != HPE_OK) return refuse(refusal_of_grammar());
  return progress::incomplete;
}

bool request_parser::is_conditional() const noexcept {
  unsigned conditions = bit(header::if_match) | bit(header::if_modified_since) | bit(header::if_none_match) |
                        bit(header::if_range) | bit(header::if_unmodified_since) | bit(header::range);
  return (present_ & conditions) != 0;
}

std::string_view request_parser::request_line() const noexcept {
  std::size_t first = std::min(message_.find_first_not_of("\r\n"), message_.size());
  std::string_view rest = message_.substr(first);
  return rest.substr(0, rest.find_first_of("\r\n"));
}

// A field may come in pieces when it straddles two calls. The pieces touch each other.
void request_parser::extend(span& where, const char* at, std::size_t size) const noexcept {
  if (where.size == 0) where.offset = static_cast<std::uint32_t>(at - message_.data());
  where.size += static_cast<std::uint32_t>(size);
}

int request_parser::on_target(http_parser* parser, const char* at, std::size_t size) {
  request_parser& request = self(parser);
  request.extend(request.target_, at, size);
  return 0;
}

int request_parser::on_name(http_parser* parser, const char* at, std::size_t size) {
  request_parser& request = self(parser);
  if (request.head_complete_) return 0;  // a trailer behind a chunked body
  if (request.in_value_) {
    request.in_value_ = false;
    request.name_ = {};
  }
  request.extend(request.name_, at, size);
  return 0;
}

int request_parser::on_value(http_parser* parser, const char* at, std::size_t size) {
  request_parser& request = self(parser);
  if (request.head_complete_) return 0;
  auto offset = static_cast<std::size_t>(at - request.message_.data());
  bool fits = request.in_value_ ? offset == request.value_end_ : request.begin_value(offset, size);
  if (!fits) {
    request.refusal_ = 400;
    return 1;
  }
  request.value_end_ = offset + size;
  if (request.current_ != header::count) request.extend(request.values_[index(request.current_)], at, size);
  return 0;
}

// Looks at the name, which is complete now. The Debian build of http_parser is lenient: it accepts spaces
// in a name, and lines that continue the one before. Both have been used to smuggle requests past proxies.
bool request_parser::begin_value(std::size_t offset, std::size_t size) noexcept {
  std::size_t name_end = name_.offset + name_.size;
  std::string_view between = message_.substr(name_end, offset - name_end);
  // An empty value is found on the next line, too, but there is nothing in it.
  bool is_folded = size != 0 && between.find('\n') != between.npos;
  if (is_folded || view(name_).find(' ') != view(name_).npos) return false;

  in_value_ = true;
  current_ = header_named(view(name_));
  if (current_ == header::count) return true;
  if (has(current_)) {
    if (current_ == header::host) return false;
    current_ = header::count;  // of other fields the first one counts
    return true;
  }
  present_ |= bit(current_);
  return true;
}

int request_parser::on_head_complete(http_parser* parser) {
  request_parser& request = self(parser);
  request.head_complete_ = true;
  request.keep_alive_ = http_should_keep_alive(parser) != 0;
  request.refusal_ = request.check_head();
  return request.refusal_ == 0 ? 0 : -1;
}

int request_parser::on_complete(http_parser* parser) {
  self(parser).complete_ = true;
  http_parser_pause(parser, 1);  // parse() shall return here, and not run on into the next request
  return 0;
}

bool request_parser::expects_continue() const noexcept {
  return has(header::expect) && !http_1_0() && equals_ignoring_case(value(header::expect), "100-continue");
}

int request_parser::check_head() const noexcept {
  // HTTP/0.9 had no version in its request line. http_parser invents one.
  std::size_t target_end = target_.offset + target_.size;
  if (target_end >= message_.size() || message_[target_end] != ' ') return 400;
  if (parser_.http_major != 1) return 505;
  if (target_.size > target_bytes_max) return 414;
  if (value_end_ > head_bytes_max) return 431;
  if (!http_1_0() && !has(header::host)) return 400;
  if (!is_host(value(header::host))) return 400;
  if (has(header::transfer_encoding) && (parser_.flags & F_CHUNKED) != 0 &&
      !equals_ignoring_case(value(header::transfer_encoding), "chunked")) {
    return 501;
  }
  bool has_length = (parser_.flags & F_CONTENTLENGTH) != 0;
  if (has_length && parser_.content_length > body_bytes_max) return is_get() || is_head() ? 413 : 405;
  return 0;
}

// All parts of a message count: a chunked body has no length that could be checked beforehand.
int request_parser::check_size() const noexcept {
  if (target_.size > target_bytes_max) return 414;
  if (!head_complete_) return parsed_ > head_bytes_max ? 431 : 0;
  if (parsed_ > head_bytes_max + body_bytes_max) return is_get() || is_head() ? 413 : 405;
  return 0;
}

int request_parser::refusal_of_grammar() const noexcept {
  std::string_view line = request_line();
  switch (HTTP_PARSER_ERRNO(&parser_)) {
    case HPE_INVALID_METHOD: {
      std::size_t method_end = line.find(' ');
      bool known_form = method_end != line.npos && is_token_of_capitals(line.substr(0, method_end));
      return known_form ? 501 : 400;
    }
    case HPE_INVALID_VERSION: {
      std::size_t version = line.rfind(" HTTP/");
      if (version == line.npos || version + 6 >= line.size()) return 400;
      char major = line[version + 6];
      return major >= '0' && major <= '9' && major != '1' ? 505 : 400;
    }
    case HPE_HEADER_OVERFLOW: return 431;
    default: return 400;
  }
}

request_parser::progress request_parser::refuse(int status) noexcept {
  refusal_ = status;
  return progress::refused;
}

}  // namespace httpd
