#include <keel/kevent_sys/engine.hpp>

#include "epoll_engine.hpp"
#include "uring_engine.hpp"

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace keel::kevent_sys {
namespace {

struct decision {
  engine_choice choice;
  const char* reason;
};

result<decision> decide(engine_choice asked) {
  if (asked != engine_choice::automatic) return decision{asked, "asked for by the program"};
  const char* text = ::secure_getenv("KEEL_ENGINE");
  if (text == nullptr || *text == '\0' || std::strcmp(text, "auto") == 0)
    return decision{engine_choice::automatic, "the best that works here"};
  if (std::strcmp(text, "uring") == 0) return decision{engine_choice::uring, "asked for by KEEL_ENGINE"};
  if (std::strcmp(text, "epoll") == 0) return decision{engine_choice::epoll, "asked for by KEEL_ENGINE"};
  std::fprintf(stderr,
               "keel: KEEL_ENGINE=%s is not an engine of this version\n"
               "      use KEEL_ENGINE=auto, KEEL_ENGINE=uring or KEEL_ENGINE=epoll\n",
               text);
  return failure(errc::not_supported, "choose an engine");
}

}  // namespace

engine::~engine() = default;

void engine::do_block(std::uint64_t) noexcept {
  KEEL_ASSERT(false, "this engine serves one thread");
}
void engine::do_ring() noexcept {
  KEEL_ASSERT(false, "this engine serves one thread");
}
void engine::do_set_alarm(std::uint64_t) noexcept {
  KEEL_ASSERT(false, "this engine serves one thread");
}

result<engine*> make_engine(event_sink& sink, const engine_options& options) {
  const auto decided = decide(options.choice);
  if (!decided) return decided.why();
  if (decided->choice == engine_choice::epoll) return make_epoll_engine(sink, options, decided->reason);
  return make_uring_engine(sink, options, decided->reason);
}

}  // namespace keel::kevent_sys
