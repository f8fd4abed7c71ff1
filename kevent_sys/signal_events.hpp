// Private to kevent_sys: KEVENT_SIGNAL.
#pragma once

#include <keel/kevent_sys/signal_hub.hpp>

#include "process_watch.hpp"

#include <optional>

namespace keel::kevent_sys {

class signal_watch;

// Deliveries of one signal to this process, counted since the last collection.
class signal_event final : public registration {
 public:
  using registration::registration;

  int open() noexcept override;
  void stop() noexcept override;
  void delivered(ukevent& out) noexcept override;

  // Something was delivered, perhaps this signal.
  void look() noexcept;

  // A place in the list of the queue's watch.
  struct place : list_hook {
    explicit place(signal_event& of) noexcept : owner(of) {}
    signal_event& owner;
  };

 private:
  int signal() const noexcept;

  place place_{*this};
  signal_watch* watch_ = nullptr;
  std::optional<signal_subscription> subscription_;
  std::uint32_t count_ = 0;
};

// All the signals of one queue.
class signal_watch final : public process_watch {
 public:
  using process_watch::process_watch;
  ~signal_watch() override;

  // The queue's watch, made where there is none; null with `error` set when it cannot be.
  static signal_watch* join(shared_queue& home, int& error) noexcept;

  void add(signal_event::place& p) noexcept { places_.push_back(p); }
  int event_fd() const noexcept { return event_fd_; }

 private:
  void activity() noexcept override;

  intrusive_list<signal_event::place> places_;
  int event_fd_ = -1;
};

}  // namespace keel::kevent_sys
