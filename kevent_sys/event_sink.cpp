#include <keel/kevent_sys/event_sink.hpp>

#include <bit>
#include <cstring>
#include <new>

namespace keel::kevent_sys {
namespace {

struct event_kind {
  std::uint32_t type;
  std::uint32_t event;
};

// By opcode: what an operation's events say they are.
constexpr event_kind kinds[] = {
    /* nop */ {KEVENT_UNOTIFY, KEVENT_MASK_ALL},
    /* wake */ {KEVENT_UNOTIFY, KEVENT_MASK_ALL},
    /* timer */ {KEVENT_TIMER, KEVENT_TIMER_FIRED},
    /* poll */ {KEVENT_POLL, KEVENT_MASK_ALL},
    /* accept */ {KEVENT_NAIO, KEVENT_SOCKET_ACCEPT},
    /* connect */ {KEVENT_NAIO, KEVENT_SOCKET_SEND},
    /* recv */ {KEVENT_NAIO, KEVENT_SOCKET_RECV},
    /* receive */ {KEVENT_NAIO, KEVENT_SOCKET_RECV},
    /* drain */ {KEVENT_NAIO, KEVENT_SOCKET_RECV},
    /* send */ {KEVENT_NAIO, KEVENT_SOCKET_SEND},
    /* sendfile */ {KEVENT_NAIO, KEVENT_SOCKET_SEND},
    /* open */ {KEVENT_AIO, KEVENT_MASK_ALL},
    /* read */ {KEVENT_AIO, KEVENT_MASK_ALL},
    /* write */ {KEVENT_AIO, KEVENT_MASK_ALL},
    /* close */ {KEVENT_AIO, KEVENT_MASK_ALL},
    /* call */ {KEVENT_AIO, KEVENT_MASK_ALL},
    /* futex */ {KEVENT_FUTEX, KEVENT_FUTEX_WAKE},
};
static_assert(sizeof(kinds) / sizeof(kinds[0]) == static_cast<std::size_t>(opcode::futex) + 1);

constexpr std::align_val_t ring_alignment{64};

}  // namespace

event_sink::event_sink(std::uint32_t events, std::uint32_t start)
    : mask_(std::bit_ceil(events) - 1), produced_(start), consumed_(start) {
  KEEL_ASSERT(events >= 2 && events <= (1u << 20), "a ring holds 2 to 1,048,576 events");
  KEEL_ASSERT((start & mask_) == 0);
  const std::size_t bytes = sizeof(kevent_ring) + std::size_t{size()} * sizeof(ukevent);
  void* memory = ::operator new(bytes, ring_alignment);
  std::memset(memory, 0, bytes);
  ring_ = ::new (memory) kevent_ring();
  events_ = reinterpret_cast<ukevent*>(ring_ + 1);
}

event_sink::~event_sink() {
  KEEL_ASSERT(empty(), "a queue was destroyed with events in it");
  ::operator delete(ring_, ring_alignment);
}

void event_sink::write(operation& op, answer a) noexcept {
  ukevent* slot = event(produced_);
  const event_kind kind = kinds[static_cast<std::size_t>(op.asked.code)];
  slot->id.raw[0] = static_cast<std::uint32_t>(op.asked.fd);
  slot->id.raw[1] = op.generation_;
  slot->type = kind.type;
  slot->event = kind.event;
  slot->req_flags = op.asked.multishot ? 0 : KEVENT_REQ_ONESHOT;
  slot->ret_flags = a.value < 0 ? KEVENT_RET_DONE | KEVENT_RET_BROKEN : KEVENT_RET_DONE;
  slot->ret_data[0] = static_cast<std::uint32_t>(a.value);
  slot->ret_data[1] = a.flags;
  slot->ptr = &op;
  op.slot_ = produced_;
  op.in_ring_ = true;
  ++produced_;
  ++published_;
  // The entry first, then the index: whoever reads the ring's memory sees whole events only.
  __atomic_store_n(&ring_->ring_kidx, produced_ & mask_, __ATOMIC_RELEASE);
}

void event_sink::publish(operation& op, answer a) noexcept {
  KEEL_ASSERT(op.state_ == operation::state::in_flight, "an answer for an operation that is not in flight");
  if (!a.more()) op.state_ = operation::state::finished;
  if (room() > 0 && late_.empty()) {
    write(op, a);
    return;
  }
  KEEL_ASSERT(!a.more() && !a.has_buffer(), "engines look at room() before they publish what repeats");
  op.late_answer_ = a.value;
  late_.push_back(op);
}

void event_sink::settle() noexcept {
  while (!late_.empty() && room() > 0) {
    operation& op = late_.pop_front();
    write(op, answer{op.late_answer_, 0});
  }
}

void event_sink::withdraw(operation& op) noexcept {
  KEEL_ASSERT(op.state_ == operation::state::finished);
  if (op.in_ring_) {
    event(op.slot_)->ptr = nullptr;
    op.in_ring_ = false;
  } else {
    op.unlink();
  }
  op.state_ = operation::state::idle;
  op.canceling_ = false;
}

void event_sink::consume_one() noexcept {
  KEEL_ASSERT(waiting() > 0);
  const ukevent* slot = event(consumed_);
  if (waiting() > 2) __builtin_prefetch(event(consumed_ + 2)->ptr, 1);
  auto* op = static_cast<operation*>(slot->ptr);
  const answer a{static_cast<std::int32_t>(slot->ret_data[0]), slot->ret_data[1]};
  const std::uint32_t index = consumed_++;
  // Committed at once, event by event: `slot` may be written again from here on.
  if ((consumed_ & mask_) == 0) ring_->ring_over += 1;
  if (op == nullptr) return;
  if (op->slot_ == index) op->in_ring_ = false;
  if (!a.more()) {
    KEEL_ASSERT(op->state_ == operation::state::finished, "an operation got a second last event");
    op->state_ = operation::state::idle;
    op->canceling_ = false;
  }
  op->done_(*op, a);
}

}  // namespace keel::kevent_sys
