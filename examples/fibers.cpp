// Code that blocks, unchanged, on a scheduler that never does: a line parser that wants a read function gets
// one that awaits a socket.
//
//     build/release/examples/fibers --port 7000
//     listening on 0.0.0.0:7000
//
// then `nc 127.0.0.1 7000` in some terminals, and in each: add 1 2, mul 3 4, quit. Ctrl-C stops it.

#include "server_options.hpp"

#include <keel/keel.hpp>

#include <cstddef>
#include <cstdio>
#include <span>
#include <string>

using namespace keel;

namespace {

// The old code: it calls, and its callee blocks. It knows nothing of keel.

// Reads lines by way of `read(buffer, size)`, which gives the number of bytes, 0 at the end.
template <class Read>
class line_reader {
 public:
  explicit line_reader(Read read) : read_(read) {}

  bool next(std::string& line) {
    line.clear();
    for (;;) {
      for (; at_ < size_; ++at_) {
        if (buffer_[at_] == '\n') {
          ++at_;
          return true;
        }
        line += buffer_[at_];
      }
      at_ = 0;
      size_ = read_(buffer_, sizeof buffer_);
      if (size_ == 0) return false;
    }
  }

 private:
  Read read_;
  char buffer_[512];
  std::size_t at_ = 0;
  std::size_t size_ = 0;
};

std::string answer_to(const std::string& line) {
  char verb[8];
  long a = 0;
  long b = 0;
  if (std::sscanf(line.c_str(), "%7s %ld %ld", verb, &a, &b) != 3) return "what?\n";
  if (verb == std::string("add")) return std::to_string(a + b) + "\n";
  if (verb == std::string("mul")) return std::to_string(a * b) + "\n";
  return "I can add and mul\n";
}

template <class Read, class Write>
unsigned calculate(Read read, Write write) {
  line_reader<Read> lines(read);
  unsigned answered = 0;
  for (std::string line; lines.next(line) && line != "quit"; ++answered) write(answer_to(line));
  return answered;
}

// Where both meet: each connection is a fiber, and its reads and writes are awaits.

task<> session(net::tcp_stream peer) {
  auto talk = [&] {
    return calculate(
        [&](char* buffer, std::size_t size) {
          return await(peer.recv(std::as_writable_bytes(std::span(buffer, size)))).value();
        },
        [&](const std::string& text) {
          await(peer.send_all(std::as_bytes(std::span(text.data(), text.size())))).value();
        });
  };
  try {
    const unsigned answered = co_await fiber(talk);
    std::printf("answered %u, with %zu bytes of stack\n", answered, fiber_high_water_bytes());
  } catch (const std::system_error& e) {
    std::printf("%s\n", e.what());  // a reset; or our own stop
  }
  std::fflush(stdout);
}

task<result<void>> serve(net::endpoint at) {
  auto listener = net::tcp_listener::listen(at);
  if (!listener) co_return listener.why();
  std::printf("listening on %s\n", listener->local().to_string().c_str());
  std::fflush(stdout);
  co_return co_await net::serve(*std::move(listener), session);
}

}  // namespace

int main(int argc, char** argv) {
  const server_options chosen = parse_server_options(argc, argv, "Calculates, line by line.", 7000);
  report_fiber_overflows();
  const net::endpoint at(net::address::v4_any(), chosen.port);
  return run({.stop_on_signals = true, .engine = chosen.engine}, [&] { return serve(at); });
}
