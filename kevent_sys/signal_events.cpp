#include "signal_events.hpp"

#include "queue_table.hpp"

#include <sys/eventfd.h>
#include <unistd.h>
#include <cerrno>
#include <mutex>
#include <new>

namespace keel::kevent_sys {
namespace {

// The eventfd to which the signal handler writes for all queues of this process. It is never read: each write
// is a new edge for everybody who polls it.
struct common_eventfd {
  std::mutex mutex;
  int fd = -1;
  std::uint32_t users = 0;
  std::uint64_t process = 0;  // the generation of the process that made it
};
constinit common_eventfd common;

// -errno on failure.
int take_eventfd() noexcept {
  const std::lock_guard lock(common.mutex);
  const std::uint64_t process = queue_table::process_generation();
  // That of a parent would wake the parent.
  if (common.users == 0 || common.process != process) {
    common.fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    common.users = 0;
    common.process = process;
  }
  if (common.fd < 0) return -errno;
  ++common.users;
  return common.fd;
}

void give_back_eventfd() noexcept {
  const std::lock_guard lock(common.mutex);
  KEEL_ASSERT(common.users > 0);
  if (--common.users != 0) return;
  ::close(common.fd);
  common.fd = -1;
}

}  // namespace

int signal_event::signal() const noexcept {
  const std::uint64_t number = asked_.id.raw_u64 & ~std::uint64_t{KEVENT_SIGNAL_NOMASK};
  return number <= std::uint64_t{signal_subscription::signal_max} ? static_cast<int>(number) : 0;
}

int signal_event::open() noexcept {
  int error = 0;
  watch_ = signal_watch::join(home(), error);
  if (watch_ == nullptr) return error;
  const int number = signal();
  const bool alone = (asked_.id.raw_u64 & KEVENT_SIGNAL_NOMASK) != 0;
  auto made = signal_subscription::create(
      {&number, 1}, watch_->event_fd(),
      alone ? signal_delivery::only_here : signal_delivery::also_to_previous_handler);
  if (!made) {
    watch_->leave();
    watch_ = nullptr;
    return made.error().category() == std::system_category() ? -made.error().value() : -ENOSPC;
  }
  subscription_.emplace(std::move(*made));
  watch_->add(place_);
  return 0;
}

void signal_event::stop() noexcept {
  if (watch_ == nullptr) return;
  place_.unlink();
  subscription_.reset();
  watch_->leave();
  watch_ = nullptr;
}

void signal_event::look() noexcept {
  const std::uint32_t delivered = subscription_->take_all(signal());
  if (delivered == 0) return;
  count_ += delivered;
  home().set_ready(*this, verdict::done());
}

void signal_event::delivered(ukevent& out) noexcept {
  out.ret_data[0] = static_cast<std::uint32_t>(signal_subscription::last_value(signal()));
  out.ret_data[1] = count_;
  count_ = 0;
}

signal_watch::~signal_watch() {
  KEEL_ASSERT(places_.empty());
  give_back_eventfd();
}

signal_watch* signal_watch::join(shared_queue& home, int& error) noexcept {
  auto* watch = static_cast<signal_watch*>(process_watch::of(home, KEVENT_SIGNAL));
  if (watch == nullptr) {
    const int fd = take_eventfd();
    error = fd < 0 ? fd : -ENOMEM;
    if (fd < 0) return nullptr;
    watch = new (std::nothrow) signal_watch(home, KEVENT_SIGNAL, fd);
    if (watch == nullptr) {
      give_back_eventfd();
      return nullptr;
    }
    watch->event_fd_ = fd;
    if (!watch->begin()) {
      delete watch;
      return nullptr;
    }
  }
  watch->process_watch::join();
  return watch;
}

void signal_watch::activity() noexcept {
  signal_event::place* each = places_.empty() ? nullptr : &places_.front();
  for (; each != nullptr; each = places_.next(*each)) each->owner.look();
}

}  // namespace keel::kevent_sys
