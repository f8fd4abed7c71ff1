#include <keel/runtime/resume.hpp>

#include <doctest/doctest.h>

#include <coroutine>
#include <exception>
#include <vector>

using keel::resume_waiter;
using keel::waiter;

namespace {

// The least that a coroutine can be.
struct plain {
  struct promise_type {
    plain get_return_object() { return {std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    void return_void() {}
    void unhandled_exception() { std::terminate(); }
  };
  std::coroutine_handle<> handle;
};

// Hands control to another coroutine.
struct hand_over {
  std::coroutine_handle<> to;
  bool await_ready() const noexcept { return false; }
  KEEL_TRANSFERS keel::detail::transfer_result await_suspend(std::coroutine_handle<>) const noexcept {
    return keel::detail::transfer(to);
  }
  void await_resume() const noexcept {}
};

plain note_and_go(std::vector<int>& notes, int note, std::coroutine_handle<> next) {
  notes.push_back(note);
  co_await hand_over{next};
  notes.push_back(-note);
}

// Two coroutines that hand control to each other, `left` times.
plain ping(long& left, std::coroutine_handle<>& other) {
  for (;;) {
    const std::coroutine_handle<> next = --left > 0 ? other : std::noop_coroutine();
    co_await hand_over{next};
  }
}

// Somebody who ends when what he waits for has ended; counts how many do so inside one another.
struct ending : waiter {
  ending() noexcept : waiter([](waiter* self) noexcept { return static_cast<ending*>(self)->told(); }) {}

  std::coroutine_handle<> told() noexcept {
    ++inside;
    deepest = inside > deepest ? inside : deepest;
    const auto then = up == nullptr ? std::noop_coroutine() : keel::detail::end_early({&finish, this});
    --inside;
    return then;
  }
  static waiter* finish(void* self) noexcept {
    ++finished;
    return static_cast<ending*>(self)->up;
  }

  static inline int inside = 0;
  static inline int deepest = 0;
  static inline int finished = 0;
  waiter* up = nullptr;
};

}  // namespace

TEST_CASE("resume: runs one coroutine and those to whom it hands control, until all of them wait") {
  std::vector<int> notes;
  const plain last = note_and_go(notes, 3, std::noop_coroutine());
  const plain second = note_and_go(notes, 2, last.handle);
  const plain first = note_and_go(notes, 1, second.handle);
  keel::detail::resume(first.handle);
  CHECK(notes == std::vector<int>{1, 2, 3});
  keel::detail::resume(second.handle);
  CHECK(notes == std::vector<int>{1, 2, 3, -2});
  for (const plain& one : {first, second, last}) one.handle.destroy();
}

TEST_CASE("resume: nobody to resume is nothing to do") { keel::detail::resume(std::noop_coroutine()); }

TEST_CASE("resume: a million hand-overs need no stack") {
  long left = 1'000'000;
  std::coroutine_handle<> one;
  std::coroutine_handle<> other;
  one = ping(left, other).handle;
  other = ping(left, one).handle;
  keel::detail::resume(one);
  CHECK(left == 0);
  one.destroy();
  other.destroy();
}

TEST_CASE("resume_waiter: says which coroutine goes on") {
  const plain suspended = []() -> plain { co_return; }();
  resume_waiter up;
  up.coroutine = suspended.handle;
  CHECK(up.next(&up) == suspended.handle);
  suspended.handle.destroy();
}

TEST_CASE("end_early: those who end for the same reason end one after the other") {
  std::vector<ending> chain(100);
  for (std::size_t i = 0; i + 1 < chain.size(); ++i) chain[i].up = &chain[i + 1];
  keel::detail::end_early({&ending::finish, &chain[0]});
  CHECK(ending::finished == 99);
  CHECK(ending::deepest == 1);
}
