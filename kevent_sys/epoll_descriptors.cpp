#include "epoll_descriptors.hpp"

#include <sys/syscall.h>
#include <unistd.h>
#include <algorithm>
#include <cerrno>
#include <climits>
#include <ctime>
#include <new>

namespace keel::kevent_sys {
namespace {

constexpr long syscall_epoll_pwait2 = 441;  // Linux 5.11

// What EPOLLEXCLUSIVE goes together with.
constexpr std::uint32_t exclusive_events = EPOLLIN | EPOLLOUT | EPOLLERR | EPOLLHUP;

std::uint64_t mark_of(const watched_descriptor& d) noexcept {
  return static_cast<std::uint32_t>(d.fd) | std::uint64_t{d.generation} << 32;
}

}  // namespace

epoll_set::~epoll_set() {
  for (std::uint32_t i = 0; i < chunks_size_; ++i) delete[] chunks_[i];
  delete[] chunks_;
}

result<void> epoll_set::open() noexcept {
  fd_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!fd_) return failure(kernel_error(errno), "epoll_create1");
  return {};
}

watched_descriptor* epoll_set::find(int fd) const noexcept {
  const std::uint32_t chunk = static_cast<std::uint32_t>(fd) / chunk_size;
  if (fd < 0 || chunk >= chunks_size_ || chunks_[chunk] == nullptr) return nullptr;
  return &chunks_[chunk][static_cast<std::uint32_t>(fd) % chunk_size];
}

bool epoll_set::grow(std::uint32_t chunks) noexcept {
  const std::uint32_t size = std::max(chunks, chunks_size_ * 2);
  auto** larger = new (std::nothrow) watched_descriptor*[size]();
  if (larger == nullptr) return false;
  std::copy_n(chunks_, chunks_size_, larger);
  delete[] chunks_;
  chunks_ = larger;
  chunks_size_ = size;
  return true;
}

watched_descriptor* epoll_set::get(int fd) noexcept {
  KEEL_ASSERT(fd >= 0);
  if (watched_descriptor* known = find(fd)) return known;
  const std::uint32_t chunk = static_cast<std::uint32_t>(fd) / chunk_size;
  if (chunk >= chunks_size_ && !grow(chunk + 1)) return nullptr;
  auto* made = new (std::nothrow) watched_descriptor[chunk_size];
  if (made == nullptr) return nullptr;
  for (std::uint32_t i = 0; i < chunk_size; ++i) made[i].fd = static_cast<int>(chunk * chunk_size + i);
  chunks_[chunk] = made;
  return find(fd);
}

watched_descriptor* epoll_set::of(const epoll_event& event) const noexcept {
  watched_descriptor* d = find(static_cast<int>(event.data.u64 & 0xffffffff));
  if (d == nullptr || mark_of(*d) != event.data.u64) return nullptr;
  return d;
}

int epoll_set::control(int what, watched_descriptor& d, std::uint32_t events) noexcept {
  epoll_event event{};
  event.events = events | EPOLLET;
  event.data.u64 = mark_of(d);
  return ::epoll_ctl(fd_.get(), what, d.fd, &event) == 0 ? 0 : -errno;
}

epoll_set::enrolled epoll_set::enroll(watched_descriptor& d, std::uint32_t events, bool exclusive) noexcept {
  enrolled done;
  exclusive = exclusive && (events & ~exclusive_events) == 0;
  // An exclusive registration cannot be changed, only made anew.
  const bool anew = exclusive || d.exclusive;
  if (d.registered) {
    done.error = control(anew ? EPOLL_CTL_DEL : EPOLL_CTL_MOD, d, events);
    d.events = events;
    if (done.error == 0 && !anew) return done;
    d.registered = false;
    done.new_file = done.error != 0;
    if (done.error != 0 && done.error != -ENOENT) return done;
  }
  d.exclusive = exclusive;
  d.dry = d.dry && !done.new_file;
  // Events that an earlier registration left behind are recognised by its number.
  ++d.generation;
  std::uint32_t flags = events | (exclusive ? std::uint32_t{EPOLLEXCLUSIVE} : 0);
  done.error = control(EPOLL_CTL_ADD, d, flags);
  // Another epoll descriptor cannot be waited for exclusively.
  if (done.error == -EINVAL && exclusive) {
    d.exclusive = false;
    flags = events;
    done.error = control(EPOLL_CTL_ADD, d, flags);
  }
  // A file that came back to its number, by dup2: registered in a former life.
  if (done.error == -EEXIST && control(EPOLL_CTL_DEL, d, 0) == 0)
    done.error = control(EPOLL_CTL_ADD, d, flags);
  d.registered = done.error == 0;
  d.events = events;
  return done;
}

void epoll_set::withdraw(watched_descriptor& d) noexcept {
  if (!d.registered) return;
  d.registered = false;
  d.events = 0;
  // Where the number names another file by now there is nothing to end, or nothing that we can reach: the
  // events of a file that lives on under another number are told apart by the generation.
  control(EPOLL_CTL_DEL, d, 0);
  ++d.generation;
}

result<void> epoll_set::add_own(int fd) noexcept {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = own_mark;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
    return failure(kernel_error(errno), "epoll_ctl");
  return {};
}

int epoll_set::milliseconds(std::uint64_t timeout_ns) noexcept {
  if (timeout_ns == ~std::uint64_t{0}) return -1;
  const std::uint64_t ms = timeout_ns / 1'000'000 + (timeout_ns % 1'000'000 != 0 ? 1 : 0);
  return static_cast<int>(std::min<std::uint64_t>(ms, INT_MAX));
}

int epoll_set::wait(epoll_event* events, int size, std::uint64_t timeout_ns) noexcept {
  if (timeout_ns != 0 && nanoseconds_) {
    timespec limit{};
    limit.tv_sec = static_cast<time_t>(timeout_ns / 1'000'000'000);
    limit.tv_nsec = static_cast<long>(timeout_ns % 1'000'000'000);
    const timespec* at_most = timeout_ns == ~std::uint64_t{0} ? nullptr : &limit;
    const long n = ::syscall(syscall_epoll_pwait2, fd_.get(), events, size, at_most, nullptr, 0);
    if (n >= 0) return static_cast<int>(n);
    // A sandbox that does not know the call says EPERM.
    if (errno != ENOSYS && errno != EPERM) return -errno;
    nanoseconds_ = false;
  }
  const int n = ::epoll_pwait(fd_.get(), events, size, milliseconds(timeout_ns), nullptr);
  return n >= 0 ? n : -errno;
}

}  // namespace keel::kevent_sys
