#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/spawn.hpp>

#include <array>
#include <ostream>
#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "support/descriptors.hpp"
#include "support/in_runtime.hpp"
#include "support/scripted_engine.hpp"
#include "support/sockets.hpp"

using namespace keel;
using namespace std::chrono_literals;
using kevent_sys::opcode;

namespace {

// A listener whose accept is answered by the test.
class scripted_listener {
 public:
  scripted_listener() : runtime_(options(engine_)) {
    runtime_.spawn([](scripted_listener* self) -> task<> {
      auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
      self->where = listener.local();
      while (self->error == std::error_code()) {
        auto peer = co_await listener.accept();
        self->error = peer.error();
        if (peer) ++self->accepted;
      }
    }, this);
    turns();
  }

  void turns(int n = 4) {
    for (int i = 0; i < n; ++i) runtime_.run_ready();
  }
  bool armed() { return engine_->waiting(opcode::accept) != nullptr; }
  void answer(int value, bool more = false) {
    engine_->answer(opcode::accept, value, more);
    turns();
  }
  void answer_with_descriptor(bool more) { answer(::dup(STDERR_FILENO), more); }
  void move_time(std::uint64_t ns) {
    engine_->move_time(ns);
    turns();
  }
  scheduler& home() { return runtime_.at(0); }

  int accepted = 0;
  std::error_code error;
  net::endpoint where;

 private:
  static runtime_options options(test::scripted_engine*& engine) {
    runtime_options all;
    all.factory = test::scripted_engine::factory(engine);
    return all;
  }

  test::scripted_engine* engine_ = nullptr;
  runtime runtime_;
};

constexpr std::uint64_t ms = 1'000'000;

}  // namespace

TEST_CASE("accept: errors of a single connection are passed over, a thousand times and more") {
  scripted_listener listener;
  for (const int error : {ECONNABORTED, EINTR}) {
    for (int i = 0; i < 1000; ++i) {
      REQUIRE(listener.armed());
      listener.answer(-error);
    }
  }
  CHECK(listener.armed());
  CHECK(!listener.error);
  listener.answer_with_descriptor(true);
  CHECK(listener.accepted == 1);
}

TEST_CASE("accept: a shortage pauses it, for 5 to 100 ms, longer each time, until it ends") {
  for (const int error :
       {EMFILE, ENFILE, ENOBUFS, ENOMEM, EPROTO, EPERM, ENETDOWN, EHOSTUNREACH, EOPNOTSUPP + 1000}) {
    CAPTURE(error);
    scripted_listener listener;
    for (int round = 0; round < 2; ++round) {
      for (const std::uint64_t pause : {5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 100 * ms, 100 * ms}) {
        REQUIRE(listener.armed());
        listener.answer(-error);
        CHECK(!listener.armed());
        listener.move_time(pause - ms / 10);
        CHECK(!listener.armed());
        listener.move_time(ms / 5);
        CHECK(listener.armed());
      }
      listener.answer_with_descriptor(false);
      CHECK(listener.accepted == round + 1);
    }
    CHECK(!listener.error);
  }
}

TEST_CASE("accept: for 1,000 errors of each kind, no more attempts than the pauses allow") {
  for (const int error : {EMFILE, ENFILE, ENOBUFS, ENOMEM}) {
    scripted_listener listener;
    int attempts = 0;
    for (int millisecond = 0; millisecond < 10'000; ++millisecond) {
      if (listener.armed()) {
        ++attempts;
        listener.answer(-error);
      }
      listener.move_time(ms);
    }
    CHECK(attempts <= 6 + 10'000 / 100);
    CHECK(attempts >= 90);
  }
}

TEST_CASE("accept: a descriptor that this scheduler closes ends the pause") {
  scripted_listener listener;
  auto pair = test::connected_to_raw();
  listener.answer(-EMFILE);
  CHECK(!listener.armed());
  CHECK(listener.home().queue().timers() == 1);
  listener.home().note_descriptor_freed();
  listener.turns();
  CHECK(listener.armed());
  CHECK(listener.home().queue().timers() == 0);
}

TEST_CASE("accept: a second shortage that comes before the first is over changes nothing") {
  scripted_listener listener;
  listener.answer(-EMFILE, true);
  listener.answer(-EMFILE, true);
  CHECK(listener.armed());
  listener.move_time(5 * ms);
  CHECK(listener.armed());
  listener.answer_with_descriptor(true);
  CHECK(listener.accepted == 1);
}

TEST_CASE("accept: fatal errors end it, and the listener is not asked again") {
  for (const int error : {EBADF, EINVAL, ENOTSOCK, EOPNOTSUPP, EFAULT}) {
    scripted_listener listener;
    listener.answer(-error);
    CHECK(listener.error == std::error_code(error, std::system_category()));
    CHECK(!listener.armed());
    CHECK(listener.home().queue().timers() == 0);
  }
}

TEST_CASE("accept: armed again exactly when its last answer has come") {
  scripted_listener listener;
  for (int i = 0; i < 100; ++i) {
    REQUIRE(listener.armed());
    listener.answer_with_descriptor(i % 3 != 0);
  }
  CHECK(listener.accepted == 100);
  CHECK(listener.armed());
}

TEST_CASE("tcp_listener: destroyed, it closes the connections that nobody took") {
  const std::size_t before = test::open_descriptors();
  test::in_runtime([&]() -> task<> {
    for (const int clients : {1, 5, 100}) {
      std::vector<test::raw_socket> theirs;
      {
        auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
        // Armed, and then left alone.
        const auto nothing = co_await with_timeout(1ms, listener.accept());
        CHECK(nothing.error() == errc::timed_out);
        for (int i = 0; i < clients; ++i)
          theirs.push_back(test::raw_socket::connected_to(listener.local().port()));
        co_await test::some_turns(10);
      }
      co_await test::some_turns(10);
      for (auto& client : theirs) {
        const int error = client.receive_error();
        CHECK((error == 0 || error == ECONNRESET));
      }
    }
    CHECK(scheduler::current()->detached() == 0);
    CHECK(scheduler::current()->queue().in_flight() == 1);
  });
  CHECK(test::open_descriptors() == before);
}

TEST_CASE("tcp_listener: destroyed during its pause") {
  test::in_runtime([]() -> task<> {
    co_await test::some_turns();
    const std::size_t timers = scheduler::current()->queue().timers();
    {
      auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
      auto client = test::raw_socket::connected_to(listener.local().port());
      const test::descriptor_limit limit(0);
      const auto nothing = co_await with_timeout(20ms, listener.accept());
      CHECK(nothing.error() == errc::timed_out);
    }
    CHECK(scheduler::current()->queue().timers() == timers);
    co_await test::some_turns();
    CHECK(scheduler::current()->queue().in_flight() == 1);
  });
}

TEST_CASE("accept: out of descriptors, a stream that is closed, with or without a receiver, ends the pause") {
  test::in_runtime([]() -> task<> {
    for (const int way : {0, 1, 2, 3}) {
      CAPTURE(way);
      auto pair = test::connected_to_raw();
      auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
      auto client = test::raw_socket::connected_to(listener.local().port());
      std::optional<net::tcp_stream> stream(std::move(pair.ours));
      if (way >= 2) {
        const auto nothing = co_await with_timeout(1ms, stream->receive());
        CHECK(nothing.error() == errc::timed_out);
      }
      const test::descriptor_limit limit(0);
      auto accepting = spawn([](net::tcp_listener& from) -> task<> {
        const auto peer = co_await from.accept();
        CHECK(peer);
      }, std::ref(listener));
      // Until the pauses are long and one has just begun: then it shows whether it was ended, or was over.
      scheduler& here = *scheduler::current();
      co_await test::some_turns(1);
      const std::size_t timers = here.queue().timers();
      const auto start = here.now();
      while (here.now() - start < 200ms) co_await test::pause(10ms);
      const auto attempts = here.queue().counters().submitted;
      while (here.queue().counters().submitted == attempts) co_await test::some_turns(1);
      while (here.queue().timers() == timers) co_await test::some_turns(1);
      CHECK(!accepting.done());
      const auto closed = here.now();
      if (way % 2 == 0) {
        stream.reset();
      } else {
        co_await stream->close();
      }
      co_await std::move(accepting);
      CHECK(here.now() - closed < 50ms);
      // The next round counts descriptors.
      { const auto gone = std::move(listener); }
      while (here.detached() != 0) co_await test::some_turns(1);
    }
  });
}

namespace {

task<> serve_byte_by_byte(net::tcp_stream peer) {
  for (;;) {
    const auto chunk = co_await peer.receive();
    if (!chunk || chunk->empty()) co_return;
    const auto sent = co_await peer.send_all(*chunk);
    if (!sent) co_return;
  }
}

// The child: connects `count` times, waits for a word on `go`, then uses and closes one connection after the
// other.
int many_clients(std::uint16_t port, int count, int go) {
  std::vector<test::raw_socket> clients;
  for (int i = 0; i < count; ++i) clients.push_back(test::raw_socket::connected_to(port));
  char byte = 0;
  if (::read(go, &byte, 1) != 1) return 2;
  for (auto& client : clients) {
    if (!client.send("?") || client.receive(1) != "?") return 3;
    client.close();
  }
  return 0;
}

}  // namespace

TEST_CASE("out of descriptors with 200 clients at the door: no spin, and all are served in the end") {
  constexpr int count = 200;
  std::array<int, 2> go{};
  REQUIRE(::pipe2(go.data(), O_CLOEXEC) == 0);
  // The listener's port, before the runtime: the child is to have none of that.
  test::raw_listener reserved(count);
  const std::uint16_t port = reserved.port();
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    ::close(go[1]);
    ::_exit(many_clients(port, count, go[0]));
  }
  ::close(go[0]);

  test::in_runtime([&]() -> task<> {
    auto listener = net::tcp_listener::listen("127.0.0.1:0").value();
    // The clients' listening socket takes the place of ours.
    REQUIRE(::dup2(reserved.fd(), listener.fd()) >= 0);
    reserved.close();
    const test::descriptor_limit limit(6);
    auto serve_all = [&](scope& connections) -> task<> {
      int accepted = 0;
      auto accept_all = [&](scope&) -> task<> {
        while (accepted < count) {
          auto peer = co_await listener.accept();
          CHECK(peer);
          ++accepted;
          connections.spawn(serve_byte_by_byte, *std::move(peer));
        }
      };
      auto acceptor =
          connections.spawn([](auto* body, scope* children) -> task<> { co_await (*body)(*children); },
                            &accept_all, &connections);
      while (accepted < 6) co_await test::pause(1ms);
      // Full: the engine has next to nothing to do.
      const auto enters = scheduler::current()->queue().counters().enters;
      const auto submitted = scheduler::current()->queue().counters().submitted;
      co_await test::pause(500ms);
      CHECK(accepted == 6);
      CHECK(scheduler::current()->queue().counters().enters - enters < 60);
      CHECK(scheduler::current()->queue().counters().submitted - submitted < 40);
      CHECK(::write(go[1], "!", 1) == 1);
      co_await std::move(acceptor);
      CHECK(accepted == count);
    };
    co_await scope(serve_all);
  });
  ::close(go[1]);
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}
