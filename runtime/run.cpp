#include <keel/runtime/run.hpp>

#include <keel/runtime/signals.hpp>
#include <keel/runtime/with_timeout.hpp>

#include "dump_signal.hpp"
#include "unhandled.hpp"

#include <csignal>
#include <cstdio>
#include <optional>
#include <string>

namespace keel::detail {
namespace {

runtime_options runtime_options_of(const run_options& options) {
  runtime_options all = options.more;
  all.cpus = options.cpus;
  all.engine = options.engine;
  return all;
}

}  // namespace

void prepare(runtime& rt) noexcept {
  dump_at_signal(rt);
}

program::program(const run_options& options, main_function main, void* fn)
    : options_(options),
      main_(main),
      fn_(fn),
      runtime_(runtime_options_of(options)),
      mains_left_(runtime_.size()) {}

int program::run() {
  std::optional<signals> stop_signals;
  if (options_.stop_on_signals) {
    // Before anything runs: a signal that arrives while the program starts must not kill it.
    stop_signals.emplace(SIGINT, SIGTERM);
    spawn_into(runtime_.at(0).background(), named("stop_on_signals", &program::stop_on_signals), this,
               &*stop_signals);
  }
  for (unsigned i = 0; i < runtime_.size(); ++i)
    spawn_into(runtime_.at(i).tasks(), named("main", main_), this, fn_);
  try {
    runtime_.run();
  } catch (...) {
    // What waits for the signals ends before they go.
    runtime_.at(0).drain();
    throw;
  }
  return exit_code_.load();
}

task<> program::stop_on_signals(program* self, signals* stop_signals) {
  if (!co_await stop_signals->next()) co_return;
  const bool has_grace = self->options_.grace > duration::zero();
  self->runtime_.request_stop(has_grace ? stop_level::graceful : stop_level::hard);
  if (has_grace) {
    const auto second = co_await with_timeout(self->options_.grace, stop_signals->next());
    if (second.error() == errc::operation_canceled) co_return;
  }
  self->runtime_.request_stop(stop_level::hard);
}

void program::main_ended(int exit_code) noexcept {
  int largest = exit_code_.load();
  while (largest < exit_code && !exit_code_.compare_exchange_weak(largest, exit_code)) {
  }
  if (mains_left_.fetch_sub(1) == 1) runtime_.request_stop(stop_level::hard);
}

void program::fail(const char* text) noexcept {
  // The others end because of the first: what they say then is no news.
  if (!failed_.exchange(true)) std::fprintf(stderr, "keel: the program stops: %s\n", text);
  runtime_.request_stop(stop_level::hard);
  main_ended(1);
}

void program::main_failed(std::exception_ptr error) noexcept {
  fail(describe(error).c_str());
}

void program::main_failed(const failure& why) noexcept {
  const std::string text = why.code.message();
  fail(why.doing == nullptr ? text.c_str() : (std::string(why.doing) + ": " + text).c_str());
}

}  // namespace keel::detail
