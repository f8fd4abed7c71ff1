#include "inode_events.hpp"

#include "inode_table.hpp"

#include <cerrno>
#include <new>

namespace keel::kevent_sys {

int inode_event::open() noexcept {
  int error = 0;
  watch_ = inode_watch::join(home(), error);
  if (watch_ == nullptr) return error;
  error = inode_table::add(place_, static_cast<int>(asked_.id.raw[0]));
  if (error != 0) {
    watch_->leave();
    watch_ = nullptr;
    return error;
  }
  watch_->add(in_queue_);
  return 0;
}

void inode_event::change() noexcept {
  inode_table::update(place_);
}

void inode_event::stop() noexcept {
  if (watch_ == nullptr) return;
  inode_table::remove(place_);
  in_queue_.unlink();
  watch_->leave();
  watch_ = nullptr;
}

inode_watch::~inode_watch() {
  KEEL_ASSERT(places_.empty());
  inode_table::give_back_descriptor();
}

inode_watch* inode_watch::join(shared_queue& home, int& error) noexcept {
  auto* watch = static_cast<inode_watch*>(process_watch::of(home, KEVENT_INODE));
  if (watch == nullptr) {
    const int fd = inode_table::take_descriptor();
    error = fd < 0 ? fd : -ENOMEM;
    if (fd < 0) return nullptr;
    watch = new (std::nothrow) inode_watch(home, KEVENT_INODE, fd);
    if (watch == nullptr) {
      inode_table::give_back_descriptor();
      return nullptr;
    }
    if (!watch->begin()) {
      delete watch;
      return nullptr;
    }
  }
  watch->process_watch::join();
  return watch;
}

void inode_watch::activity() noexcept {
  inode_table::read_all(home());
  for (inode_event::queue_place* each = places_.empty() ? nullptr : &places_.front(); each != nullptr;
       each = places_.next(*each)) {
    inode_event& event = each->owner;
    const inode_table::news news = inode_table::take_news(event.place_);
    if (news.died) {
      home().set_ready(event, verdict{KEVENT_RET_DONE | KEVENT_RET_BROKEN, {news.happened, 0}});
    } else if (news.happened != 0) {
      home().set_ready(event, verdict::done(news.happened));
    }
  }
}

}  // namespace keel::kevent_sys
