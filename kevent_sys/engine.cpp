#include <keel/kevent_sys/engine.hpp>

#include "engine_decision.hpp"
#include "epoll_engine.hpp"
#include "refusal.hpp"
#include "uring_engine.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>

namespace keel::kevent_sys {
namespace {

// A ring that got smaller is told of; so is why.
void note_size(engine& made, const engine_options& options, const char* reason) noexcept {
  const std::uint32_t asked = std::bit_ceil(std::clamp(options.entries, 1u, uring_entries_ceiling));
  const std::uint32_t got = made.info().entries;
  if (got >= asked) return;
  say_small_ring(asked, got);
  char text[engine::reason_size];
  std::snprintf(text, sizeof text, "%s, with %u entries for want of lockable memory", reason, got);
  made.set_reason(text);
}

// That is no refusal of an engine: another one would want some, too.
bool wants_descriptors(const failure& why) noexcept {
  return why.code == std::errc::too_many_files_open || why.code == std::errc::too_many_files_open_in_system;
}

result<engine*> make_epoll(event_sink& sink, const engine_options& options, const char* reason) {
  auto made = make_epoll_engine(sink, options, reason);
  if (made || wants_descriptors(made.why())) return made;
  say_epoll_unavailable(made.why());
  return failure(errc::engine_unavailable, made.why().doing);
}

// Whatever the refusal of io_uring is, it is no reason not to work.
result<engine*> make_second_best(event_sink& sink, const engine_options& options, const failure& why) {
  char refusal[engine::reason_size / 2];
  print_refusal(refusal, sizeof refusal, why);
  char reason[engine::reason_size];
  std::snprintf(reason, sizeof reason, "io_uring is refused: %s; %s", refusal, cost_of_epoll);
  auto made = make_epoll(sink, options, reason);
  if (!made) return made;
  (*made)->set_refused(why.doing, errno_of(why.code));
  say_falls_back(why, options.entries);
  return made;
}

}  // namespace

engine::~engine() = default;

result<int> engine::do_pollable() noexcept {
  KEEL_ASSERT(false, "this engine has no descriptor for another loop to wait for: the time of a simulation "
                     "passes only in its own waits; run it with run() or run_once()");
  return failure(errc::not_supported, "watch an engine");
}
void engine::do_rest(std::uint64_t) noexcept {
  KEEL_ASSERT(false, "nobody asked for pollable()");
}
void engine::do_block(std::uint64_t) noexcept {
  KEEL_ASSERT(false, "this engine serves one thread");
}
void engine::do_ring() noexcept {
  KEEL_ASSERT(false, "this engine serves one thread");
}
void engine::do_set_alarm(std::uint64_t) noexcept {
  KEEL_ASSERT(false, "this engine serves one thread");
}

void engine::set_reason(const char* reason) noexcept {
  std::snprintf(reason_, sizeof reason_, "%s", reason);
  info_.reason = reason_;
}

void engine::set_refused(const char* call, int error_number) noexcept {
  info_.refused_call = call;
  info_.refused_errno = error_number;
}

result<engine*> make_engine(event_sink& sink, const engine_options& options) {
  const auto decided = decide(options.choice);
  if (!decided) {
    say_unknown_engine();
    return decided.why();
  }
  if (decided->choice == engine_choice::epoll) {
    auto made = make_epoll(sink, options, decided->reason);
    if (made && decided->insisting == nullptr) say_left_alone();
    return made;
  }
  auto made = make_uring_engine(sink, options, decided->reason);
  if (made) {
    note_size(**made, options, decided->reason);
    return made;
  }
  const failure why = made.why();
  if (wants_descriptors(why)) return why;
  if (decided->choice == engine_choice::automatic) return make_second_best(sink, options, why);
  say_uring_unavailable(why, options.entries, decided->insisting);
  return failure(errc::engine_unavailable, why.doing);
}

}  // namespace keel::kevent_sys
