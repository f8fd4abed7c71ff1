#include <keel/runtime/graceful.hpp>

namespace keel::detail {

// The callback sits in the inner context, which hears of both levels through its own link to the outer one.
eager_stop::eager_stop() noexcept
    : stop_callback([](stop_callback& self, stop_level) noexcept {
        static_cast<eager_stop&>(self).context_.request_stop(stop_level::hard);
      }) {
  threshold = stop_level::graceful;
}

stop_context& eager_stop::begin(stop_context& outer) noexcept {
  context_.attach(outer);
  if (context_.stopped(stop_level::graceful)) {
    context_.request_stop(stop_level::hard);
  } else {
    context_.add(*this);
  }
  return context_;
}

void eager_stop::end() noexcept {
  static_cast<stop_callback&>(*this).unlink();
  context_.detach();
}

}  // namespace keel::detail
