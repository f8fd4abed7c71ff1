// Private to kevent_sys: KEVENT_SOCKET, KEVENT_PIPE and KEVENT_POLL.
#pragma once

#include "listener_table.hpp"
#include "shared_queue.hpp"

#include <memory>

namespace keel::kevent_sys {

// A descriptor that is polled. Every mode is a multishot poll: the modes differ in what a delivery does. The
// poll holds the open file, so that a registration outlives a close of its descriptor.
//
// Of several listeners without KEVENT_REQ_WAKEUP_ALL, one is to hear: by exclusive polls, or where the
// engine's do not choose (engine_info::exclusive_polls), by a table that says whose poll asks for what.
class readiness_event : public registration {
 public:
  readiness_event(shared_queue& home, const ukevent& asked) noexcept
      : registration(home, asked), poll_(*this) {}

  int open() noexcept override;
  probe to_poll() const noexcept override { return {fd(), static_cast<short>(poll_mask())}; }
  void start() noexcept override;
  void change() noexcept override;
  void stop() noexcept override;
  bool busy() const noexcept override { return poll_.in_flight(); }
  bool tests_again() const noexcept override { return true; }
  bool wanted() const noexcept { return wanted_; }

  // Begins to listen to what other listeners of the process have left to those of `home`.
  static void take_over_all(shared_queue& home) noexcept;

 private:
  struct polling : operation {
    explicit polling(readiness_event& of) noexcept;
    readiness_event& owner;
  };
  struct listening : listener_table::place {
    listening(readiness_event& of, dev_t device_number, ino_t inode_number) noexcept
        : place(of.home(), device_number, inode_number), owner(of) {}
    readiness_event& owner;
  };

  // 0, or why a file of this kind (S_IFMT of its mode) is refused.
  virtual int check_kind(unsigned kind) noexcept = 0;
  virtual std::uint32_t poll_mask() const noexcept = 0;
  // Whether the poll is begun anew when the kernel has ended it with an answer.
  virtual bool listens_on() const noexcept { return true; }

  int fd() const noexcept { return static_cast<int>(asked_.id.raw[0]); }
  static void answered(operation& self, answer a) noexcept;
  void on_answer(answer a) noexcept;
  std::uint32_t directions() const noexcept;
  std::uint32_t poll_flags() const noexcept;
  bool names_same_file() const noexcept;
  void take_place() noexcept;
  void poll_anew() noexcept;
  void take_over(std::uint32_t owned) noexcept;

  polling poll_;
  std::unique_ptr<listening> place_;  // null: the engine, or the kernel, decides who hears
  std::uint32_t possible_ = 0;        // directions of the open file, with a place
  std::uint32_t owned_ = 0;           // directions that this listener hears, with a place
  bool wanted_ = false;               // start() was called, and stop() was not
};

class socket_event final : public readiness_event {
 public:
  using readiness_event::readiness_event;
  verdict test(short revents) noexcept override;

 private:
  int check_kind(unsigned kind) noexcept override;
  std::uint32_t poll_mask() const noexcept override;
};

class pipe_event final : public readiness_event {
 public:
  using readiness_event::readiness_event;
  verdict test(short revents) noexcept override;

 private:
  int check_kind(unsigned kind) noexcept override;
  std::uint32_t poll_mask() const noexcept override;
};

class poll_event final : public readiness_event {
 public:
  using readiness_event::readiness_event;
  ~poll_event() override;
  verdict test(short revents) noexcept override;
  bool watches_queue() const noexcept override { return watches_queue_; }
  void dropped() noexcept override { listen_again(); }
  void delivered(ukevent&) noexcept override { listen_again(); }

  // How many there are in this process that poll a queue.
  static std::uint32_t watched_queues() noexcept;

 private:
  int check_kind(unsigned kind) noexcept override;
  std::uint32_t poll_mask() const noexcept override;
  bool listens_on() const noexcept override { return !watches_queue_; }
  void listen_again() noexcept;

  bool watches_queue_ = false;
};

}  // namespace keel::kevent_sys
