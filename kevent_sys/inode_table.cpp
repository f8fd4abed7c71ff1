#include "inode_table.hpp"

#include "queue_table.hpp"

#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <new>
#include <utility>

namespace keel::kevent_sys {

// A directory (or file) that inotify watches for us, and whom it concerns.
struct watched_inode : list_hook {
  int wd = -1;
  // Its deletion is announced to its parent; to itself only when nobody has it open any more.
  int parent_wd = -1;
  dev_t device = 0;
  ino_t number = 0;
  intrusive_list<inode_event::place> places;
};

namespace inode_table {
namespace {

constexpr std::uint32_t self_mask = IN_CREATE | IN_MOVED_TO | IN_DELETE | IN_MOVED_FROM | IN_DELETE_SELF;
constexpr std::uint32_t parent_mask = IN_DELETE | IN_MOVED_FROM | IN_MASK_ADD;

struct table {
  std::mutex mutex;
  int fd = -1;
  std::uint32_t users = 0;
  std::uint64_t process = 0;  // the generation of the process that made the descriptor
  intrusive_list<watched_inode>* inodes = nullptr;
};
constinit table all;

int add_watch(const char* format, int fd, std::uint32_t mask) noexcept {
  char path[64];
  std::snprintf(path, sizeof path, format, fd);
  return ::inotify_add_watch(all.fd, path, mask);
}

watched_inode* find(int wd) noexcept {
  watched_inode* each = all.inodes->empty() ? nullptr : &all.inodes->front();
  while (each != nullptr && each->wd != wd) each = all.inodes->next(*each);
  return each;
}

bool wd_in_use(int wd) noexcept {
  for (watched_inode* each = all.inodes->empty() ? nullptr : &all.inodes->front(); each != nullptr;
       each = all.inodes->next(*each)) {
    if (each->wd == wd || each->parent_wd == wd) return true;
  }
  return false;
}

void drop(watched_inode& inode) noexcept {
  const int wds[] = {inode.wd, inode.parent_wd};
  inode.unlink();
  for (const int wd : wds) {
    if (wd >= 0 && !wd_in_use(wd)) ::inotify_rm_watch(all.fd, wd);
  }
  delete &inode;
}

void set_wishes(inode_event::place& p) noexcept {
  p.wanted = p.owner.asked().event;
  p.wakeup_all = p.owner.has(KEVENT_REQ_WAKEUP_ALL);
}

void tell(inode_event::place& p, const shared_queue& reader) noexcept {
  // It is alive: its place leaves under the table's lock.
  if (&p.owner.home() != &reader) p.owner.home().nudge();
}

// One of those that share the events, and everybody who does not want to.
void note(watched_inode& inode, std::uint32_t happened, const shared_queue& reader) noexcept {
  bool shared = false;
  for (inode_event::place* each = inode.places.empty() ? nullptr : &inode.places.front(); each != nullptr;
       each = inode.places.next(*each)) {
    if ((each->wanted & happened) == 0) continue;
    if (!each->wakeup_all && std::exchange(shared, true)) continue;
    each->happened |= happened;
    tell(*each, reader);
  }
}

void note_death(watched_inode& inode, const shared_queue& reader) noexcept {
  for (inode_event::place* each = inode.places.empty() ? nullptr : &inode.places.front(); each != nullptr;
       each = inode.places.next(*each)) {
    each->died = true;
    tell(*each, reader);
  }
}

// Something was removed from the directory `wd`: perhaps one that is watched.
void look_for_dead_children(int wd, const shared_queue& reader) noexcept {
  for (watched_inode* each = all.inodes->empty() ? nullptr : &all.inodes->front(); each != nullptr;
       each = all.inodes->next(*each)) {
    if (each->parent_wd != wd || each->places.empty()) continue;
    struct stat status {};
    const int fd = static_cast<int>(each->places.front().owner.asked().id.raw[0]);
    // A descriptor that was closed or reused says nothing; then inotify itself tells of the end.
    if (::fstat(fd, &status) != 0 || status.st_dev != each->device || status.st_ino != each->number) continue;
    if (status.st_nlink == 0) note_death(*each, reader);
  }
}

void note_overflow(const shared_queue& reader) noexcept {
  for (watched_inode* each = all.inodes->empty() ? nullptr : &all.inodes->front(); each != nullptr;
       each = all.inodes->next(*each)) {
    note(*each, KEVENT_INODE_CREATE | KEVENT_INODE_REMOVE, reader);
  }
}

void dispatch(const inotify_event& event, const shared_queue& reader) noexcept {
  if ((event.mask & IN_Q_OVERFLOW) != 0) {
    // Some events are lost: whoever watches has to look.
    note_overflow(reader);
    return;
  }
  if ((event.mask & (IN_DELETE | IN_MOVED_FROM)) != 0) look_for_dead_children(event.wd, reader);
  watched_inode* inode = find(event.wd);
  if (inode == nullptr) return;
  if ((event.mask & (IN_CREATE | IN_MOVED_TO)) != 0) note(*inode, KEVENT_INODE_CREATE, reader);
  if ((event.mask & (IN_DELETE | IN_MOVED_FROM)) != 0) note(*inode, KEVENT_INODE_REMOVE, reader);
  if ((event.mask & (IN_DELETE_SELF | IN_UNMOUNT)) != 0) note_death(*inode, reader);
  if ((event.mask & IN_IGNORED) != 0) inode->wd = -1;
}

}  // namespace

int take_descriptor() noexcept {
  const std::lock_guard lock(all.mutex);
  const std::uint64_t process = queue_table::process_generation();
  // A parent's would tell the parent's events, and to only one of the two.
  if (all.users == 0 || all.process != process) {
    all.fd = ::inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (all.fd < 0) return -errno;
    all.users = 0;
    all.process = process;
    all.inodes = new (std::nothrow) intrusive_list<watched_inode>();
    if (all.inodes == nullptr) {
      ::close(std::exchange(all.fd, -1));
      return -ENOMEM;
    }
  }
  ++all.users;
  return all.fd;
}

void give_back_descriptor() noexcept {
  const std::lock_guard lock(all.mutex);
  KEEL_ASSERT(all.users > 0);
  if (--all.users != 0) return;
  ::close(std::exchange(all.fd, -1));
  delete std::exchange(all.inodes, nullptr);
}

int add(inode_event::place& p, int fd) noexcept {
  const std::lock_guard lock(all.mutex);
  struct stat status {};
  if (::fstat(fd, &status) != 0) return -errno;
  const int wd = add_watch("/proc/self/fd/%d", fd, self_mask | IN_MASK_ADD);
  if (wd < 0) return -errno;
  watched_inode* inode = find(wd);
  if (inode == nullptr) {
    inode = new (std::nothrow) watched_inode;
    if (inode == nullptr) {
      if (!wd_in_use(wd)) ::inotify_rm_watch(all.fd, wd);
      return -ENOMEM;
    }
    inode->wd = wd;
    inode->device = status.st_dev;
    inode->number = status.st_ino;
    if (S_ISDIR(status.st_mode)) inode->parent_wd = add_watch("/proc/self/fd/%d/..", fd, parent_mask);
    all.inodes->push_back(*inode);
  }
  inode->places.push_back(p);
  p.inode = inode;
  set_wishes(p);
  return 0;
}

void update(inode_event::place& p) noexcept {
  const std::lock_guard lock(all.mutex);
  set_wishes(p);
}

void remove(inode_event::place& p) noexcept {
  const std::lock_guard lock(all.mutex);
  p.unlink();
  watched_inode* inode = std::exchange(p.inode, nullptr);
  if (inode != nullptr && inode->places.empty()) drop(*inode);
}

void read_all(const shared_queue& reader) noexcept {
  const std::lock_guard lock(all.mutex);
  alignas(inotify_event) char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(all.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    for (const char* at = buffer; at < buffer + n;) {
      const auto& event = *reinterpret_cast<const inotify_event*>(at);
      dispatch(event, reader);
      at += sizeof event + event.len;
    }
  }
}

news take_news(inode_event::place& p) noexcept {
  const std::lock_guard lock(all.mutex);
  return {std::exchange(p.happened, 0), std::exchange(p.died, false)};
}

}  // namespace inode_table
}  // namespace keel::kevent_sys
