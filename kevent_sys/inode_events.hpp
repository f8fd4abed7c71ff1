// Private to kevent_sys: KEVENT_INODE.
#pragma once

#include "process_watch.hpp"

namespace keel::kevent_sys {

class inode_watch;
struct watched_inode;

// Entries that come into a directory or leave it. All registrations of the process share one inotify
// descriptor; whoever reads it notes for everybody what has happened.
class inode_event final : public registration {
 public:
  using registration::registration;

  int open() noexcept override;
  void change() noexcept override;
  void stop() noexcept override;

  // What inotify said and nobody has told the registration yet; guarded by the lock of all of them.
  struct place : list_hook {
    explicit place(inode_event& of) noexcept : owner(of) {}
    inode_event& owner;
    watched_inode* inode = nullptr;
    std::uint32_t wanted = 0;  // KEVENT_INODE_*
    bool wakeup_all = false;
    std::uint32_t happened = 0;
    bool died = false;
  };

 private:
  friend class inode_watch;

  place place_{*this};
  struct queue_place : list_hook {
    explicit queue_place(inode_event& of) noexcept : owner(of) {}
    inode_event& owner;
  } in_queue_{*this};
  inode_watch* watch_ = nullptr;
};

// All the directories of one queue.
class inode_watch final : public process_watch {
 public:
  using process_watch::process_watch;
  ~inode_watch() override;

  // The queue's watch, made where there is none; null with `error` set when it cannot be.
  static inode_watch* join(shared_queue& home, int& error) noexcept;
  void add(inode_event::queue_place& p) noexcept { places_.push_back(p); }

 private:
  void activity() noexcept override;

  intrusive_list<inode_event::queue_place> places_;
};

}  // namespace keel::kevent_sys
