// Runs commands side by side, and tells which of them says what.
//
//     build/release/examples/run_command 'make -C docs' 'ping -c 2 localhost'
//     1: make: Nothing to be done for 'all'.
//     1. exited with 0 after 12 ms
//     2: PING localhost (127.0.0.1) 56(84) bytes of data.
//     ...
//
// Ends with 0 when all of them do. Ctrl-C ends all of them.

#include <keel/keel.hpp>

#include <array>
#include <cstdio>
#include <string>
#include <vector>

using namespace keel;
using namespace std::chrono_literals;

namespace {

void say(int number, char sign, const std::string& text) {
  std::printf("%d%c %s\n", number, sign, text.c_str());
  std::fflush(stdout);
}

task<> show_lines(pipe_reader& from, int number) {
  std::string line;
  std::array<std::byte, 4096> buffer;
  for (;;) {
    const auto n = co_await from.read(buffer);
    if (!n || *n == 0) break;  // 0: nobody holds the other end any more
    for (const char c : as_text(const_byte_span(buffer).first(*n))) {
      if (c != '\n') {
        line += c;
      } else {
        say(number, ':', std::exchange(line, {}));
      }
    }
  }
  if (!line.empty()) say(number, ':', line);
}

task<bool> show(std::string line, int number) {
  const time_point begin = scheduler::current()->now();
  auto child = process::spawn(
      command::shell(line),
      {.out = stdio::pipe(), .err = stdio::as_output(), .on_drop = drop_policy::terminate, .grace = 2s});
  if (!child) {
    say(number, '!', std::string(child.why().doing) + ": " + child.error().message());
    co_return false;
  }
  // A stop ends these waits; then the child goes out of scope, and is asked to end.
  co_await show_lines(child->stdout_pipe(), number);
  const auto status = co_await child->wait();
  if (!status) co_return false;
  const auto took = std::chrono::duration_cast<milliseconds>(scheduler::current()->now() - begin);
  say(number, '.', status->text() + " after " + std::to_string(took.count()) + " ms");
  co_return status->success();
}

task<int> show_all(std::vector<std::string> lines) {
  std::vector<join_handle<bool>> running;
  for (const std::string& line : lines) running.push_back(spawn(show, line, int(running.size()) + 1));
  int failed = 0;
  for (auto& each : running) {
    const bool good = co_await std::move(each);
    if (!good) failed = 1;
  }
  co_return failed;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> lines(argv + 1, argv + argc);
  if (lines.empty()) {
    std::fprintf(stderr, "usage: run_command COMMAND...\n");
    return 2;
  }
  return run({.stop_on_signals = true}, [&] { return show_all(lines); });
}
