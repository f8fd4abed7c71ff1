#include "file_cache.hpp"

#include <cstring>
#include <ctime>
#include <utility>

namespace httpd {

cached_file::cached_file(std::string path, const file_info& info, std::string_view body,
                         const wall_clock& clock)
    : path_(std::move(path)), description_(info, path_, clock.second()), checked_s_(clock.second()) {
  response_head head{.date = clock.date()};
  const byte_range whole{.which = byte_range::kind::whole, .offset = 0, .count = body.size()};
  description_.fill(head, {.status = 200, .range = whole});
  append_head(block_, head);
  head_size_ = block_.size();
  block_.append(body);
  block_.shrink_to_fit();
}

void cached_file::set_date(const wall_clock& clock) noexcept {
  std::memcpy(block_.data() + date_offset, clock.date().data(), http_date_size);
}

file_cache::~file_cache() {
  while (!by_age_.empty()) by_age_.pop_front();
}

const cached_file* file_cache::find(std::string_view key, const wall_clock& clock, const site& files) {
  auto found = by_key_.find(key);
  if (found == by_key_.end()) return nullptr;
  cached_file& file = *found->second;
  if (file.checked_s_ != clock.second()) {
    if (files.look(file.path_) != file.description_.info()) {
      erase(file);
      return nullptr;
    }
    file.checked_s_ = clock.second();
    file.set_date(clock);
  }
  file.unlink();
  by_age_.push_back(file);
  return &file;
}

void file_cache::insert(std::string_view key, std::unique_ptr<cached_file> file) {
  if (auto old = by_key_.find(key); old != by_key_.end()) erase(*old->second);
  file->key_ = key;
  bytes_ += cost(*file);
  by_age_.push_back(*file);
  std::string_view own_key = file->key_;
  by_key_.emplace(own_key, std::move(file));
  while (bytes_ > bytes_max_) erase(by_age_.front());
}

// The constant stands for the object, the node and bucket of the map, and what malloc adds.
std::size_t file_cache::cost(const cached_file& file) noexcept {
  return file.block_.capacity() + file.key_.size() + file.path_.size() + 512;
}

void file_cache::erase(cached_file& file) noexcept {
  bytes_ -= cost(file);
  file.unlink();
  by_key_.erase(by_key_.find(file.key_));
}

bool is_settled(const file_info& info) noexcept {
  constexpr std::int64_t tick_ns = 20'000'000;  // two ticks of the slowest clock that kernels are built with
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  std::int64_t age_s = now.tv_sec - info.changed_s;
  if (age_s < 0 || age_s > 1) return true;
  return age_s * 1'000'000'000 + now.tv_nsec - info.changed_ns > tick_ns;
}

}  // namespace httpd
