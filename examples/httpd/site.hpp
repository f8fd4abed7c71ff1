// The served folder, and the second wall around it: the kernel resolves each path beneath the folder.
#pragma once

#include <keel/base/result.hpp>
#include <keel/base/unique_fd.hpp>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

struct stat;

namespace httpd {

// What tells one version of a file from another. The status change time catches what the modification time
// does not: `touch -d`, `cp -p`, chmod.
struct file_info {
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t size = 0;
  std::int64_t modified_s = 0;
  std::int64_t modified_ns = 0;
  std::int64_t changed_s = 0;
  std::int64_t changed_ns = 0;

  bool operator==(const file_info&) const = default;
};

file_info info_of(const struct stat& status) noexcept;

// An open file or directory, or the status to refuse the request with.
class opened {
 public:
  enum class kind : std::uint8_t { file, directory, refused };

  explicit opened(int refusal) noexcept : which_(kind::refused), refusal_(refusal) {}
  opened(kind which, keel::unique_fd fd, const file_info& info) noexcept
      : which_(which), fd_(std::move(fd)), info_(info) {}

  bool is_file() const noexcept { return which_ == kind::file; }
  bool is_directory() const noexcept { return which_ == kind::directory; }
  int refusal() const noexcept { return refusal_; }
  const file_info& info() const noexcept { return info_; }
  keel::unique_fd take_fd() noexcept { return std::move(fd_); }

 private:
  kind which_;
  int refusal_ = 0;
  keel::unique_fd fd_;
  file_info info_;
};

// A resource: the descriptor of the folder. It stays the folder that it was when httpd started, even if its
// path gets another meaning.
//
// Thread safety: all CPUs share one.
class site {
 public:
  // Without `links`, and where the kernel has no openat2, all symbolic links are refused.
  static keel::result<site> open(const std::string& folder, bool hidden, bool links = true);

  bool shows_hidden() const noexcept { return hidden_; }

  // Opens what decode_target() found: "" is the folder itself. Never blocks on a FIFO or a device. A symbolic
  // link may lead anywhere inside the folder; one that leaves it is refused. Absolute ones always do.
  //
  // The refusal is 403, 404, 500, or 503 when no descriptor is left.
  opened open(std::string_view path) const;

  // The version that `path` names now; nothing if it names none. Follows links without a check, so it is good
  // for comparing with what open() gave, and for nothing else.
  std::optional<file_info> look(std::string_view path) const noexcept;

 private:
  site(keel::unique_fd folder, bool hidden, bool beneath) noexcept
      : folder_(std::move(folder)), hidden_(hidden), beneath_(beneath) {}

  int open_path(const char* path) const noexcept;

  keel::unique_fd folder_;
  bool hidden_;
  bool beneath_;  // this kernel has openat2, and we may call it
};

}  // namespace httpd
