// Private to kevent_sys: simulated files.
#pragma once

#include "sim_object.hpp"

#include <map>
#include <string>
#include <string_view>

namespace keel::kevent_sys {

struct sim_inode {
  std::string bytes;
};

// Files by path: no folders, a path is a name.
class sim_disk {
 public:
  explicit sim_disk(std::uint64_t bytes_max) : bytes_max_(bytes_max) {}

  // A new file, or the new content of an old one. REQUIRES: there is room
  void put(std::string_view path, std::string_view bytes);
  // Null when there is none.
  std::shared_ptr<sim_inode> find(std::string_view path) const;
  void remove(std::string_view path);
  // Grows with zeros. False: there is no room.
  bool resize(sim_inode& file, std::uint64_t bytes);
  std::uint64_t room() const noexcept;

  // As open(2): the file, or a negative errno.
  int open(std::string_view path, std::uint32_t flags, std::shared_ptr<sim_inode>& opened);

 private:
  const std::uint64_t bytes_max_;
  std::map<std::string, std::shared_ptr<sim_inode>, std::less<>> files_;
};

// A file as it was opened: with a mode and a position.
class sim_open_file final : public sim_object {
 public:
  sim_open_file(sim_disk& disk, std::shared_ptr<sim_inode> file, std::uint32_t flags)
      : disk_(disk), file_(std::move(file)), flags_(flags) {}

  bool is_socket() const noexcept override { return false; }
  sim_step read_at(byte_span target, std::uint64_t offset, std::uint64_t now_ns) override;
  sim_step write_at(const_byte_span bytes, std::uint64_t offset, std::uint64_t now_ns) override;
  std::uint32_t ready(std::uint64_t) override { return POLLIN | POLLOUT; }

  sim_inode& inode() noexcept { return *file_; }

 private:
  sim_disk& disk_;
  const std::shared_ptr<sim_inode> file_;
  const std::uint32_t flags_;
  std::uint64_t position_ = 0;
};

}  // namespace keel::kevent_sys
