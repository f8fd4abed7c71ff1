#include "engine_decision.hpp"

#include <sys/auxv.h>
#include <cstdlib>
#include <string_view>

namespace keel::kevent_sys {

result<engine_decision> decide(engine_choice asked) noexcept {
  if (asked != engine_choice::automatic)
    return engine_decision{asked, "asked for by the program", "the program"};
  // Whoever starts a program that has more rights than himself may neither choose for it, nor reach through
  // it what is newest in the kernel.
  if (::getauxval(AT_SECURE) != 0)
    return engine_decision{engine_choice::epoll, "the program runs with more rights than its user", nullptr};
  const char* text = ::secure_getenv("KEEL_ENGINE");
  const std::string_view named = text != nullptr ? text : "";
  if (named.empty() || named == "auto")
    return engine_decision{engine_choice::automatic, "the best that works here", nullptr};
  constexpr const char* by_environment = "asked for by KEEL_ENGINE";
  if (named == "uring") return engine_decision{engine_choice::uring, by_environment, "KEEL_ENGINE=uring"};
  if (named == "epoll") return engine_decision{engine_choice::epoll, by_environment, "KEEL_ENGINE=epoll"};
  return failure(errc::not_supported, "KEEL_ENGINE");
}

}  // namespace keel::kevent_sys
