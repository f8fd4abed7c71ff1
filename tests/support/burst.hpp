// Operations without effect that note the order of their answers.
#pragma once

#include <keel/kevent_sys/queue.hpp>

#include <cstddef>
#include <deque>
#include <vector>

namespace keel::test {

class burst {
 public:
  burst(kevent_sys::queue& q, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) q.submit(ops_.emplace_back(*this, i));
  }
  bool done() const { return order_.size() == ops_.size(); }
  bool in_order() const {
    for (std::size_t i = 0; i < order_.size(); ++i)
      if (order_[i] != i) return false;
    return true;
  }

 private:
  struct member : kevent_sys::operation {
    member(burst& its_burst, std::size_t its_number)
        : operation({.code = kevent_sys::opcode::nop}, &note), all(its_burst), number(its_number) {}
    static void note(operation& self, kevent_sys::answer) noexcept {
      auto& me = static_cast<member&>(self);
      me.all.order_.push_back(me.number);
    }
    burst& all;
    std::size_t number;
  };
  std::deque<member> ops_;
  std::vector<std::size_t> order_;
};

}  // namespace keel::test
