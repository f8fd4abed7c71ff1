#include "sim_file.hpp"

#include <fcntl.h>
#include <cstring>
#include <utility>

namespace keel::kevent_sys {
namespace {

// "At the file's position", as the kernel says it.
constexpr std::uint64_t at_position = ~std::uint64_t{0};
constexpr std::uint64_t file_bytes_max = 1u << 30;

}  // namespace

void sim_disk::put(std::string_view path, std::string_view bytes) {
  auto& file = files_[std::string(path)];
  if (file == nullptr) file = std::make_shared<sim_inode>();
  const bool fits = resize(*file, bytes.size());
  KEEL_ASSERT(fits, "the simulated disk has no room for this file");
  file->bytes.assign(bytes);
}

std::shared_ptr<sim_inode> sim_disk::find(std::string_view path) const {
  const auto found = files_.find(path);
  return found == files_.end() ? nullptr : found->second;
}

void sim_disk::remove(std::string_view path) {
  if (const auto found = files_.find(path); found != files_.end()) files_.erase(found);
}

std::uint64_t sim_disk::room() const noexcept {
  std::uint64_t used = 0;
  for (const auto& [path, file] : files_) used += file->bytes.size();
  return used >= bytes_max_ ? 0 : bytes_max_ - used;
}

bool sim_disk::resize(sim_inode& file, std::uint64_t bytes) {
  if (bytes > file.bytes.size() && bytes - file.bytes.size() > room()) return false;
  file.bytes.resize(bytes);
  return true;
}

int sim_disk::open(std::string_view path, std::uint32_t flags, std::shared_ptr<sim_inode>& opened) {
  opened = find(path);
  if (opened == nullptr && (flags & O_CREAT) == 0) return -ENOENT;
  if (opened != nullptr && (flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) return -EEXIST;
  if (path.empty()) return -ENOENT;
  if ((flags & O_DIRECTORY) != 0) return -ENOTDIR;
  if (opened == nullptr) {
    opened = std::make_shared<sim_inode>();
    files_.emplace(path, opened);
  }
  if ((flags & O_TRUNC) != 0 && (flags & O_ACCMODE) != O_RDONLY) opened->bytes.clear();
  return 0;
}

sim_step sim_open_file::read_at(byte_span target, std::uint64_t offset, std::uint64_t) {
  if ((flags_ & O_ACCMODE) == O_WRONLY) return {.value = -EBADF};
  const std::uint64_t from = offset == at_position ? position_ : offset;
  const std::string& bytes = file_->bytes;
  const std::size_t n = from >= bytes.size() ? 0 : std::min<std::size_t>(target.size(), bytes.size() - from);
  if (n > 0) std::memcpy(target.data(), bytes.data() + from, n);
  if (offset == at_position) position_ += n;
  return {.value = static_cast<int>(n)};
}

sim_step sim_open_file::write_at(const_byte_span bytes, std::uint64_t offset, std::uint64_t) {
  if ((flags_ & O_ACCMODE) == O_RDONLY) return {.value = -EBADF};
  std::uint64_t from = offset == at_position ? position_ : offset;
  if ((flags_ & O_APPEND) != 0) from = file_->bytes.size();
  if (bytes.empty()) return {};
  if (from >= file_bytes_max) return {.value = -EFBIG};
  const std::uint64_t size = file_->bytes.size();
  const std::uint64_t reach = std::min(size + disk_.room(), file_bytes_max);
  if (from >= reach) return {.value = -ENOSPC};
  const std::size_t n = std::min<std::uint64_t>(bytes.size(), reach - from);
  if (from + n > size) disk_.resize(*file_, from + n);
  std::memcpy(file_->bytes.data() + from, bytes.data(), n);
  if (offset == at_position) position_ = from + n;
  return {.value = static_cast<int>(n)};
}

}  // namespace keel::kevent_sys
