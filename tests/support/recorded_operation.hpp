// An operation that remembers its answers, and a loop around a queue that fails instead of hanging.
#pragma once

#include <doctest/doctest.h>
#include <keel/kevent_sys/queue.hpp>

#include <cstdint>
#include <vector>

namespace keel::test {

class recorded : public kevent_sys::operation {
 public:
  explicit recorded(const kevent_sys::request& what) : operation(what, &note) {}

  std::vector<kevent_sys::answer> answers;

  bool ended() const { return !answers.empty() && !in_flight(); }
  // The last answer. REQUIRES: ended()
  int value() const {
    REQUIRE(ended());
    return answers.back().value;
  }

 private:
  static void note(operation& self, kevent_sys::answer a) noexcept {
    static_cast<recorded&>(self).answers.push_back(a);
  }
};

// Turns `queue` until `done()`. False when that has not come in 20 seconds of the queue's clock.
template <class Done>
bool turn_until(kevent_sys::queue& queue, Done done) {
  const std::uint64_t limit_ns = queue.fresh_now_ns() + 20'000'000'000;
  while (!done()) {
    if (queue.fresh_now_ns() >= limit_ns) return false;
    queue.wait(limit_ns);
    queue.consume();
  }
  return true;
}

// Submits `op`, turns until it has ended, and gives its last answer.
inline int answer_of(kevent_sys::queue& queue, recorded& op) {
  queue.submit(op);
  REQUIRE(turn_until(queue, [&] { return op.ended(); }));
  return op.value();
}
inline int answer_of(kevent_sys::queue& queue, const kevent_sys::request& what) {
  recorded op(what);
  return answer_of(queue, op);
}

}  // namespace keel::test
