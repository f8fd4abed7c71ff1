// A scheduler as others see it: messages go in, and it sleeps while there are none. What the inbox does in
// several steps, this does in one; inbox_model_test.cpp is about those.
#pragma once

#include "models/memory.hpp"

namespace keel::test {

class mailbox;

struct mail {
  unsigned kind = 0;
  void* about = nullptr;
  bool on_the_way = false;
};

class mailbox {
 public:
  // Any thread.
  void post(mail& m) {
    step("posts to", this);
    expect(!m.on_the_way, "a message is posted that is on the way");
    m.on_the_way = true;
    all_[last_++ % room] = &m;
    released_.join(detail::known());
    detail::tick();
  }

  // The owner: sleeps until there is one.
  mail& take() {
    const auto some = [](const void* self) {
      const auto& box = *static_cast<const mailbox*>(self);
      return box.first_ != box.last_;
    };
    step("waits for a message in", this, {some, this});
    detail::known().join(released_);
    mail& m = *all_[first_++ % room];
    m.on_the_way = false;
    return m;
  }

  bool empty() const noexcept { return first_ == last_; }

 private:
  static constexpr unsigned room = 16;
  mail* all_[room] = {};
  unsigned first_ = 0;
  unsigned last_ = 0;
  detail::view released_;
};

}  // namespace keel::test
