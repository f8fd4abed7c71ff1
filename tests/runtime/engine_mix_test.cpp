// Schedulers whose engines differ, because io_uring was to be had for some of them only.

#include <keel/runtime/runtime.hpp>

#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <atomic>
#include <cerrno>
#include <cstdlib>
#include <optional>
#include <ostream>
#include <string_view>
#include <thread>

#include "support/engines.hpp"
#include "support/environment.hpp"
#include "support/forbid_io_uring.hpp"
#include "support/skip.hpp"

using namespace std::chrono_literals;
using keel::message;
using keel::runtime;
using keel::runtime_options;
using keel::scheduler;
using keel::stop_level;
using keel::task;
using keel::kevent_sys::engine;
using keel::kevent_sys::engine_choice;
using keel::kevent_sys::event_sink;

namespace {

constexpr unsigned hops_wanted = 2000;

// Goes back and forth between two schedulers; both sleep in between. After the last hop it stops both.
struct ball : message {
  ball() noexcept
      : message([](message& self, scheduler& to) noexcept {
          auto& me = static_cast<ball&>(self);
          scheduler& other = &to == me.one ? *me.two : *me.one;
          if (++me.hops < hops_wanted) {
            other.post(me);
          } else {
            me.one->owner().request_stop();
            me.two->owner().request_stop();
          }
        }) {}

  scheduler* one = nullptr;
  scheduler* two = nullptr;
  unsigned hops = 0;
};

// Until it is stopped; if nothing does that, the test fails instead of hanging.
task<> wait_for_stop(std::atomic<int>& in_vain) {
  const auto slept = co_await keel::sleep_for(20s);
  if (slept) ++in_vain;
}

bool runs_on(scheduler& s, std::string_view engine) {
  return s.engine_info().name == engine && *s.engine_info().reason != 0;
}

}  // namespace

TEST_CASE("A9: schedulers of one runtime exchange messages, one on io_uring and one on epoll") {
  if (keel::test::missing<keel::test::on_uring>()) return;
  int made = 0;
  const auto make = [](event_sink& sink, void* count) -> engine* {
    const auto choice = (*static_cast<int*>(count))++ == 0 ? engine_choice::uring : engine_choice::epoll;
    return keel::kevent_sys::make_engine(sink, {.choice = choice}).value();
  };
  runtime_options options;
  options.cpus = 2;
  options.factory = {.make = make, .context = &made};
  std::atomic<int> in_vain{0};
  ball b;
  {
    runtime rt(options);
    REQUIRE(runs_on(rt.at(0), "uring"));
    REQUIRE(runs_on(rt.at(1), "epoll"));
    b.one = &rt.at(0);
    b.two = &rt.at(1);
    rt.spawn(wait_for_stop, std::ref(in_vain));
    rt.at(1).post(b);
    rt.run();
  }
  CHECK(b.hops == hops_wanted);
  CHECK(in_vain == 0);
}

TEST_CASE("A9: io_uring refused in one thread only: its scheduler exchanges messages with that of another") {
  if (keel::test::missing<keel::test::on_uring>()) return;
  const keel::test::environment_variable nothing("KEEL_ENGINE", nullptr);
  std::atomic<int> in_vain{0};
  std::atomic<bool> filtered{true};
  std::atomic<runtime*> other{nullptr};
  ball b;
  runtime here;
  // A filter belongs to the thread that installs it, and ends with it.
  std::thread t([&] {
    filtered = keel::test::forbid_io_uring(keel::test::all_of_io_uring, EPERM);
    runtime there;
    if (filtered) CHECK_UNARY(runs_on(there.at(0), "epoll"));
    there.spawn(wait_for_stop, std::ref(in_vain));
    other = &there;
    other.notify_one();
    there.run();
    // Who stops it may still be inside request_stop().
    other.wait(&there);
  });
  other.wait(nullptr);
  CHECK(runs_on(here.at(0), "uring"));
  b.one = &here.at(0);
  b.two = &other.load()->at(0);
  here.spawn(wait_for_stop, std::ref(in_vain));
  b.one->post(b);
  here.run();
  other = nullptr;
  other.notify_one();
  t.join();
  if (!filtered) return keel::test::skip("no seccomp filter can be set here");
  CHECK(b.hops == hops_wanted);
  CHECK(in_vain == 0);
}
