#include "dump_signal.hpp"

#include <keel/runtime/signals.hpp>
#include <keel/runtime/sleep.hpp>

#include "snapshot.hpp"

#include <signal.h>
#include <unistd.h>
#include <string.h>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <exception>

namespace keel {
namespace {

// Asks, and lets its own scheduler run until the others have answered.
task<std::string> inspect_politely(runtime* of) {
  const dump_options options;
  inspection asked(*of, options);
  const time_point until = scheduler::current()->now() + options.patience;
  while (!asked.answered() && scheduler::current()->now() < until) {
    const auto slept = co_await sleep_for(std::chrono::milliseconds(1));
    if (!slept) break;
  }
  co_return tree_of(asked.collect(), options);
}

task<> dump_at_each(runtime* of, signals wanted) {
  for (;;) {
    const auto number = co_await wanted.next();
    if (!number) co_return;
    const std::string text = co_await inspect_politely(of);
    static_cast<void>(write_all(STDERR_FILENO, text));
  }
}

}  // namespace

int signal_number(std::string_view text) noexcept {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) {
    number = 0;
    if (text.starts_with("SIG")) text.remove_prefix(3);
    for (int i = 1; i < SIGRTMIN; ++i) {
      const char* name = ::sigabbrev_np(i);
      if (name != nullptr && text == name) number = i;
    }
  }
  return number > 0 && number <= SIGRTMAX && number != SIGKILL && number != SIGSTOP ? number : 0;
}

void dump_at_signal(runtime& of) noexcept {
  const char* text = ::secure_getenv("KEEL_DUMP_SIGNAL");
  if (text == nullptr || *text == '\0') return;
  // Nothing of the real world reaches a simulation.
  if (std::string_view(of.at(0).engine_info().name) == "sim") return;
  const int number = signal_number(text);
  if (number == 0) {
    std::fprintf(stderr, "keel: KEEL_DUMP_SIGNAL=%s is no signal that can be caught: try USR1\n", text);
    return;
  }
  try {
    detail::spawn_into(of.at(0).background(), named("dump_at_signal", &dump_at_each), &of, signals(number));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "keel: KEEL_DUMP_SIGNAL=%s cannot be obeyed: %s\n", text, e.what());
  }
}

}  // namespace keel
