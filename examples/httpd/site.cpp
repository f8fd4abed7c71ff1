#include "site.hpp"

#include <cerrno>
#include <cstring>
#include <span>

#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace httpd {
namespace {

// O_NONBLOCK: opening a FIFO must not wait for its writer. We look at what it is afterwards.
constexpr int open_flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

int open_beneath(int folder, const char* path) noexcept {
  open_how how{};
  how.flags = open_flags;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  // The kernel answers EAGAIN when a rename elsewhere keeps it from being sure about a "..".
  for (int attempts = 8;; --attempts) {
    auto fd = static_cast<int>(syscall(SYS_openat2, folder, path, &how, sizeof how));
    if (fd >= 0 || errno != EAGAIN || attempts == 0) return fd;
  }
}

// Without openat2 (before Linux 5.6, or in a container that forbids it): segment by segment, and no symbolic
// links at all. `path` has no "." and ".." segments.
int open_without_links(int folder, const char* path) noexcept {
  keel::unique_fd parent;
  for (;;) {
    int at = parent ? parent.get() : folder;
    const char* slash = std::strchr(path, '/');
    if (slash == nullptr) return openat(at, path, open_flags | O_NOFOLLOW);
    char segment[NAME_MAX + 1];  // without the slash: behind one, O_NOFOLLOW would follow
    auto size = static_cast<std::size_t>(slash - path);
    if (size >= sizeof segment) {
      errno = ENAMETOOLONG;
      return -1;
    }
    std::memcpy(segment, path, size);
    segment[size] = '\0';
    if (slash[1] == '\0') return openat(at, segment, open_flags | O_NOFOLLOW | O_DIRECTORY);
    int fd = openat(at, segment, O_PATH | O_CLOEXEC | O_NOFOLLOW | O_DIRECTORY);
    if (fd < 0) return -1;
    parent.reset(fd);
    path = slash + 1;
  }
}

int refusal_of(int error_number) noexcept {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case ENAMETOOLONG:
      return 404;
    case EACCES:
    case EPERM:
    case ELOOP:
    case EXDEV:   // a symbolic link that leaves the folder
    case ENXIO:   // a socket, or a device without a driver
    case ENODEV:
      return 403;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case EAGAIN:
      return 503;
    default:
      return 500;
  }
}

// System calls want a NUL behind the path. False when it is too long to name anything.
bool to_c_string(std::string_view path, std::span<char> buffer) noexcept {
  if (path.empty()) path = ".";
  if (path.size() >= buffer.size()) return false;
  std::memcpy(buffer.data(), path.data(), path.size());
  buffer[path.size()] = '\0';
  return true;
}

}  // namespace

file_info info_of(const struct stat& status) noexcept {
  return {.device = status.st_dev,
          .inode = status.st_ino,
          .size = static_cast<std::uint64_t>(status.st_size),
          .modified_s = status.st_mtim.tv_sec,
          .modified_ns = status.st_mtim.tv_nsec,
          .changed_s = status.st_ctim.tv_sec,
          .changed_ns = status.st_ctim.tv_nsec};
}

keel::result<site> site::open(const std::string& folder, bool hidden, bool links) {
  keel::unique_fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) return keel::failure(keel::kernel_error(errno), "open");
  keel::unique_fd probe(open_beneath(fd.get(), "."));
  bool beneath = links && probe;
  return site(std::move(fd), hidden, beneath);
}

int site::open_path(const char* path) const noexcept {
  return beneath_ ? open_beneath(folder_.get(), path) : open_without_links(folder_.get(), path);
}

opened site::open(std::string_view path) const {
  char name[PATH_MAX];
  if (!to_c_string(path, name)) return opened(404);
  keel::unique_fd fd(open_path(name));
  if (!fd) return opened(refusal_of(errno));

  struct stat status;
  if (fstat(fd.get(), &status) != 0) return opened(500);
  if (S_ISDIR(status.st_mode)) return opened(opened::kind::directory, std::move(fd), info_of(status));
  if (!S_ISREG(status.st_mode)) return opened(403);
  // Reads shall wait for the disk again: some file systems answer EAGAIN to io_uring otherwise.
  fcntl(fd.get(), F_SETFL, 0);
  return opened(opened::kind::file, std::move(fd), info_of(status));
}

std::optional<file_info> site::look(std::string_view path) const noexcept {
  char name[PATH_MAX];
  struct stat status;
  if (!to_c_string(path, name) || fstatat(folder_.get(), name, &status, 0) != 0) return {};
  return info_of(status);
}

}  // namespace httpd
