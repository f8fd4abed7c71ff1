// Private to kevent_sys: one registration on a shared queue, of whatever type.
#pragma once

#include <keel/kevent_sys/kevent.h>
#include <keel/base/intrusive_list.hpp>

#include <cstdint>

namespace keel::kevent_sys {

class registry;
class shared_queue;

// What an object says about a registration: nothing (flags == 0), or that it is ready.
struct verdict {
  std::uint32_t flags = 0;  // KEVENT_RET_*
  std::uint32_t data[2] = {0, 0};

  bool ready() const noexcept { return flags != 0; }
  static verdict done(std::uint32_t data0 = 0) noexcept { return {KEVENT_RET_DONE, {data0, 0}}; }
  static verdict failed(int error) noexcept {
    return {KEVENT_RET_DONE | KEVENT_RET_BROKEN, {0, static_cast<std::uint32_t>(error)}};
  }
};

// What poll(2) is to be asked about an object; fd -1: nothing.
struct probe {
  int fd = -1;
  short events = 0;
};

// One registration. A resource of its queue, on the heap; each type derives its own.
//
// Life cycle: made -> open() -> in the registry -> start() -> ... -> stop() -> deleted once it is not busy().
//   As a list element it stands in the queue's ready list.
// Thread safety: its queue's lock.
class registration : public list_hook {
 public:
  registration(shared_queue& home, const ukevent& asked) noexcept : asked_(asked), home_(home) {}
  registration(const registration&) = delete;
  registration& operator=(const registration&) = delete;
  virtual ~registration() = default;

  // ADD: looks whether the object can be watched. 0 or a negative errno.
  virtual int open() noexcept { return 0; }
  // What poll(2) has to say before test() is asked.
  virtual probe to_poll() const noexcept { return {}; }
  // Whether it is ready now; `revents`: the answer for to_poll().
  virtual verdict test(short /*revents*/) noexcept { return {}; }
  // Begins to watch.
  virtual void start() noexcept {}
  // MODIFY has changed event or req_flags.
  virtual void change() noexcept {}
  // Ends the watch: nothing becomes ready any more. Twice is once.
  virtual void stop() noexcept {}
  // The engine still has an operation of it; shared_queue::release() is told when that has ended.
  virtual bool busy() const noexcept { return false; }
  // It polls the descriptor of another queue.
  virtual bool watches_queue() const noexcept { return false; }
  // MODIFY tests anew, and takes an event back that the new test does not confirm.
  virtual bool tests_again() const noexcept { return false; }
  // Its event was dropped, since it was not true any more.
  virtual void dropped() noexcept {}
  // Its event is delivered: may complete `out`.
  virtual void delivered(ukevent& /*out*/) noexcept {}

  const ukevent& asked() const noexcept { return asked_; }
  bool has(std::uint32_t flag) const noexcept { return (asked_.req_flags & flag) != 0; }
  bool one_shot() const noexcept { return has(KEVENT_REQ_ONESHOT); }
  // Looks before each delivery whether it is still true: POLL always does.
  bool checks_last() const noexcept { return has(KEVENT_REQ_LAST_CHECK) || asked_.type == KEVENT_POLL; }
  shared_queue& home() const noexcept { return home_; }

 protected:
  ukevent asked_;  // id, type, event, req_flags and user as registered; ret_*: of the event that waits

 private:
  friend class shared_queue;
  friend class registry;

  shared_queue& home_;
  registry* listed_in_ = nullptr;
  registration* next_ = nullptr;  // in its bucket there
  std::uint32_t further_ = 0;     // events that wait behind the one in the ready list
  bool stopped_ = false;
  bool check_counted_ = false;  // in the ready list, and checks_last() was true then
};

}  // namespace keel::kevent_sys
