// Child processes: whether there are any, and what they say.
#pragma once

#include <keel/runtime/process.hpp>
#include <keel/runtime/task.hpp>

#include <doctest/doctest.h>

#include <sys/wait.h>
#include <array>
#include <cerrno>
#include <fstream>
#include <string>

#include "support/in_runtime.hpp"

namespace keel::test {

// Without children, dead or alive.
inline bool childless() {
  return ::waitpid(-1, nullptr, WNOHANG) == -1 && errno == ECHILD;
}

// An orphan may stay a zombie until init looks.
inline bool lives(int pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(status, text);
  return !text.empty() && text.find(") Z ") == std::string::npos;
}

inline task<> death_of_process(int pid) {
  while (lives(pid)) co_await pause(std::chrono::milliseconds(1));
}

inline task<std::string> read_all(pipe_reader& from) {
  std::string all;
  std::array<std::byte, 4096> buffer;
  for (;;) {
    const auto n = co_await from.read(buffer);
    if (!n || *n == 0) co_return all;
    all += as_text(const_byte_span(buffer).first(*n));
  }
}

inline task<result<exit_status>> wait_for(process& child) {
  const auto status = co_await child.wait();
  co_return status;
}

struct started_child {
  started_child(process made, std::string text) : child(std::move(made)), said(std::move(text)) {}
  process child;
  std::string said;
};

// A child that has said something.
inline task<started_child> started(command what, process_options options = {}) {
  options.out = stdio::pipe();
  auto child = process::spawn(what, options).value();
  std::array<std::byte, 64> buffer;
  const auto n = co_await child.stdout_pipe().read(buffer);
  REQUIRE(n);
  co_return started_child(std::move(child), std::string(as_text(const_byte_span(buffer).first(*n))));
}

}  // namespace keel::test
