// The second half of class connection: from a request to its answer.
#include "connection.hpp"

#include "limits.hpp"
#include "listing.hpp"
#include "target.hpp"
#include "text.hpp"

#include <memory>

using namespace keel;

namespace httpd {

task<bool> connection::answer() {
  bool stopping = co_await this_task::stopping();
  keep_alive_ = parser_.keep_alive() && !stopping && !host_.full();
  if (!parser_.is_get() && !parser_.is_head()) {
    refuse(405);
    co_return true;
  }
  target_path target = decode_target(parser_.target(), host_.files.shows_hidden(), host_.scratch);
  if (target.refusal != 0) {
    keep_alive_ = keep_alive_ && target.refusal != 400;
    refuse(target.refusal);
    co_return true;
  }
  if (answer_from_memory(target.path)) co_return true;
  co_return co_await answer_from_disk(std::string(target.path), std::string(target.query));
}

// The way of most requests: no system call, no allocation, one copy.
bool connection::answer_from_memory(std::string_view path) {
  const cached_file* file = host_.cache.find(path, host_.clock, host_.files);
  if (file == nullptr) return false;
  std::uint64_t body_bytes = 0;
  if (keep_alive_ && !parser_.http_1_0() && !parser_.is_conditional()) {
    out().append(parser_.is_head() ? file->head() : file->answer());
    body_bytes = parser_.is_head() ? 0 : file->body().size();
    log(200, body_bytes);
    return true;
  }
  selection choice = select(parser_, file->description().version());
  body_bytes = append_selected(file->description(), choice, file->body());
  log(choice.status, body_bytes);
  return true;
}

// Opening and looking at a file is a matter of microseconds as long as the kernel remembers its directory;
// we do it in place. Reading goes through the runtime.
task<bool> connection::answer_from_disk(std::string path, std::string query) {
  std::string key = path;
  opened found = host_.files.open(path);
  if (found.is_directory()) {
    if (!path.empty() && path.back() != '/') {
      redirect_to_directory(path, query);
      co_return true;
    }
    opened index = host_.files.open(path + "index.html");
    if (index.is_directory() || index.refusal() == 404) {
      answer_with_listing(path, std::move(found));
      co_return true;
    }
    path.append("index.html");
    found = std::move(index);
  }
  if (!found.is_file()) {
    refuse(found.refusal());
    co_return true;
  }
  if (found.info().size > small_file_bytes_max) {
    co_return co_await answer_with_large_file(std::move(path), std::move(found));
  }
  co_await answer_with_small_file(std::move(key), std::move(path), std::move(found));
  co_return true;
}

task<> connection::answer_with_small_file(std::string key, std::string path, opened found) {
  file_info info = found.info();
  fs::file file(found.take_fd());
  std::string body(info.size, '\0');
  for (std::size_t done = 0; done < body.size();) {
    auto n = co_await file.read_at(std::as_writable_bytes(std::span(body).subspan(done)), done);
    if (!n || *n == 0) {  // it cannot be read, or is being rewritten just now
      refuse(n ? 503 : 500);
      co_return;
    }
    done += *n;
  }
  auto prepared = std::make_unique<cached_file>(std::move(path), info, body, host_.clock);
  selection choice = select(parser_, prepared->description().version());
  std::uint64_t body_bytes = append_selected(prepared->description(), choice, prepared->body());
  log(choice.status, body_bytes);
  if (is_settled(info)) host_.cache.insert(key, std::move(prepared));
}

task<bool> connection::answer_with_large_file(std::string path, opened found) {
  file_description description(found.info(), path, host_.clock.second());
  selection choice = select(parser_, description.version());
  append_selected(description, choice, {});
  transfer part;
  if (parser_.is_get() && (choice.status == 200 || choice.status == 206)) {
    part.file = found.take_fd();
    part.offset = choice.range.offset;
    part.count = choice.range.count;
  }
  log(choice.status, part.count);
  if (part.count == 0) co_return true;
  co_return co_await send_file(std::move(part));
}

void connection::answer_with_listing(std::string_view path, opened directory) {
  std::string page = listing_page(directory.take_fd(), path, host_.files.shows_hidden());
  if (page.empty()) return refuse(500);
  response_head head = head_of(200);
  head.content_type = "text/html; charset=utf-8";
  head.content_length = page.size();
  append_head(out(), head);
  if (!parser_.is_head()) out().append(page);
  log(200, parser_.is_head() ? 0 : page.size());
}

// Relative links in a page only work when the directory's name ends with a slash. The path has no empty
// segments, so the location cannot begin with "//" and lead to another host.
void connection::redirect_to_directory(std::string_view path, std::string_view query) {
  std::string location = "/";
  append_url(location, path);
  location.push_back('/');
  if (!query.empty()) location.append("?").append(query);
  response_head head = head_of(301);
  head.location = location;
  append_plain_response(out(), head, !parser_.is_head());
  log(301, 0);
}

void connection::refuse(int status) {
  append_plain_response(out(), head_of(status), !parser_.is_head());
  log(status, 0);
}

// Gives the bytes of the body that it appended: none if `body` is empty because the file comes later.
std::uint64_t connection::append_selected(const file_description& file, const selection& choice,
                                          std::string_view body) {
  response_head head = head_of(choice.status);
  file.fill(head, choice);
  if (choice.status == 412 || choice.status == 416) {
    append_plain_response(out(), head, !parser_.is_head());
    return 0;
  }
  append_head(out(), head);
  if (parser_.is_head() || choice.status == 304 || body.empty()) return 0;
  out().append(body.substr(choice.range.offset, choice.range.count));
  return choice.range.count;
}

std::string& connection::out() {
  if (output_.capacity() < output_bytes) output_ = host_.outputs.take();
  return output_;
}

response_head connection::head_of(int status) const noexcept {
  response_head head;
  head.status = status;
  head.date = host_.clock.date();
  head.http_1_0 = parser_.http_1_0();
  head.keep_alive = keep_alive_;
  return head;
}

void connection::log(int status, std::uint64_t body_bytes) const {
  if (host_.log == nullptr) return;
  bool is_known = status != 408;  // then there is no whole request line to show
  host_.log->write({.client = client_,
                    .second = host_.clock.second(),
                    .request = is_known ? parser_.request_line() : "-",
                    .status = status,
                    .body_bytes = body_bytes});
}

}  // namespace httpd
