#include <keel/runtime/signals.hpp>

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>
#include <cerrno>

namespace keel {
namespace {

unique_fd make_event() {
  unique_fd event(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) throw_error(kernel_error(errno), "subscribe to signals");
  return event;
}

}  // namespace

signals::signals(std::span<const int> numbers)
    : event_(make_event()),
      subscription_(kevent_sys::signal_subscription::create(numbers, event_.get(),
                                                            kevent_sys::signal_delivery::only_here)
                        .value()) {}

signals::next_op signals::next() noexcept {
  return next_op(*this);
}

signals::next_op::next_op(signals& from) noexcept
    : operation_awaiter({.code = kevent_sys::opcode::poll, .fd = from.event_.get(), .flags = POLLIN}),
      from_(from) {
  occupy(from.waiting_);
  stop_at(stop_level::graceful);
  steps_with(&look);
}

std::coroutine_handle<> signals::next_op::start(waiter& up, stop_context& context) noexcept {
  signal_ = from_.subscription_.take();
  if (signal_ != 0) answer_now(0);
  return operation_awaiter::start(up, context);
}

// The eventfd says that something came; the subscription says what.
bool signals::next_op::look(operation_awaiter& self) noexcept {
  auto& me = static_cast<next_op&>(self);
  std::uint64_t count = 0;
  [[maybe_unused]] const auto size = ::read(me.from_.event_.get(), &count, sizeof count);
  me.signal_ = me.from_.subscription_.take();
  return me.signal_ == 0 && me.value() >= 0;
}

result<int> signals::next_op::take() noexcept {
  if (signal_ != 0) return signal_;
  return failure(kernel_error(value()), "wait for a signal");
}

}  // namespace keel
