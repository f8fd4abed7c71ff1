// How values go from senders to receivers: what channel and sync_channel share.
#pragma once

#include <keel/base/result.hpp>
#include <keel/runtime/choice.hpp>
#include <keel/runtime/fifo.hpp>
#include <keel/runtime/result_slot.hpp>

#include <cstddef>
#include <cstdint>
#include <exception>

namespace keel {

// The capacity of a channel whose senders never wait.
inline constexpr std::size_t unbounded = ~std::size_t{0};

namespace detail {

// A sender and its value, which stays where the caller has it until it is taken. Place: what of it stands in
// a queue, with `how` and settle().
template <class T, class Place>
struct sending : Place {
  explicit sending(T& what) noexcept : value(&what) {}

  // Throws what the move of the value threw.
  result<void> answer() {
    if (error) std::rethrow_exception(std::exchange(error, nullptr));
    if (this->how == outcome::done) return {};
    return failure(this->how == outcome::closed ? errc::closed : errc::operation_canceled, "send");
  }

  T* value;
  std::exception_ptr error;
};

// A receiver, and the room for its value.
template <class T, class Place>
struct receiving : Place {
  result<T> answer() {
    if (this->how == outcome::done) return slot.take();
    return failure(this->how == outcome::closed ? errc::end_of_stream : errc::operation_canceled, "receive");
  }

  result_slot<T> slot;
};

// The values on their way and the queues of those who wait. Knows no threads and no scheduler.
//
// INVARIANT: receivers wait only while there is no value, senders only while there is no room.
template <class T, class Place>
class exchange {
  static_assert(std::is_object_v<T> && std::is_move_constructible_v<T>,
                "a channel carries what can be moved");

 public:
  using sender = sending<T, Place>;
  using receiver = receiving<T, Place>;

  explicit exchange(std::size_t capacity) : capacity_(capacity) {
    if (capacity != unbounded) values_.reserve(capacity);
  }
  ~exchange() {
    KEEL_ASSERT(senders_.empty() && receivers_.empty(),
                "a channel was destroyed while somebody waits at it: close it, and await those who use it");
  }

  std::size_t size() const noexcept { return values_.size(); }
  std::size_t capacity() const noexcept { return capacity_; }
  bool closed() const noexcept { return closed_; }

  // False when there is neither a receiver nor room: then `s` may wait. A move that throws is the sender's
  // failure; the receiver waits on.
  bool send(sender& s) noexcept {
    if (closed_) {
      s.how = outcome::closed;
      return true;
    }
    if (receivers_.empty() && values_.size() >= capacity_) return false;
    hand_over(s);
    return true;
  }

  // False when there is nothing to receive yet: then `r` may wait. A move that throws is the receiver's
  // failure; the value stays where it is.
  bool receive(receiver& r) noexcept {
    if (!values_.empty()) {
      if (collect(r, values_.front())) {
        values_.pop();
        if (!senders_.empty()) refill();
      }
      return true;
    }
    if (!senders_.empty()) {
      auto& s = static_cast<sender&>(senders_.front());
      if (collect(r, *s.value)) s.settle(outcome::done);
      return true;
    }
    if (closed_) r.how = outcome::closed;
    return closed_;
  }

  void wait(sender& s) noexcept { senders_.push_back(s); }
  void wait(receiver& r) noexcept { receivers_.push_back(r); }

  // What is on its way can still be received; those who wait have nothing to wait for.
  void close() noexcept {
    closed_ = true;
    while (!receivers_.empty()) receivers_.front().settle(outcome::closed);
    while (!senders_.empty()) senders_.front().settle(outcome::closed);
  }

  // A number that differs from call to call, in the same way in each run.
  std::uint32_t draw() noexcept {
    random_ = random_ * 1664525 + 1013904223;
    return random_ >> 16;
  }

 private:
  void hand_over(sender& s) noexcept {
    s.how = outcome::done;
    try {
      if (receivers_.empty()) {
        values_.push(std::move(*s.value));
      } else {
        auto& r = static_cast<receiver&>(receivers_.front());
        r.slot.emplace(std::move(*s.value));
        r.settle(outcome::done);
      }
    } catch (...) {
      s.error = std::current_exception();
    }
  }
  bool collect(receiver& r, T& value) noexcept {
    r.how = outcome::done;
    try {
      r.slot.emplace(std::move(value));
      return true;
    } catch (...) {
      r.slot.fail(std::current_exception());
      return false;
    }
  }
  // There is room again for those who wait; one whose value throws leaves its room to the next.
  [[gnu::noinline]] void refill() noexcept {
    while (!senders_.empty() && values_.size() < capacity_) {
      auto& s = static_cast<sender&>(senders_.front());
      try {
        values_.push(std::move(*s.value));
      } catch (...) {
        s.error = std::current_exception();
      }
      s.settle(outcome::done);
    }
  }

  fifo<T> values_;
  intrusive_list<Place> senders_;
  intrusive_list<Place> receivers_;
  std::size_t capacity_;
  std::uint32_t random_ = 1;
  bool closed_ = false;
};

}  // namespace detail
}  // namespace keel
