// Fibers, stopped at every point.
#include "support/sweep.hpp"

#include <keel/runtime/fiber.hpp>
#include <keel/runtime/fiber_local.hpp>
#include <keel/runtime/graceful.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_any.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <stdexcept>

#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::await;
using keel::fiber;
using keel::result;
using keel::runtime;
using keel::task;
using keel::test::sweep;
using keel::test::tracked;
using keel::test::tracked_balance;

namespace {

task<result<int>> nap(int n) {
  const tracked local(n);
  const auto slept = co_await keel::sleep_for(std::chrono::microseconds(n));
  if (!slept) co_return slept.why();
  co_return n;
}

// Blocking style: every error is an exception.
int naps(int count) {
  const tracked local(count);
  if (count == 0) return 0;
  const int rest = naps(count - 1);
  return rest + await(nap(count)).value();
}

int naps_or_none(int count) {
  try {
    return naps(count);
  } catch (const std::system_error&) {
    // Cleaning up takes a wait, too.
    static_cast<void>(await(nap(1)));
    return -1;
  }
}

}  // namespace

TEST_CASE("sweep: fibers that sleep and clean up, beside one another") {
  const tracked_balance objects;
  CHECK(sweep([](runtime& rt) {
          for (int i = 1; i <= 3; ++i) rt.spawn(keel::on_fiber(naps_or_none), i);
        }) > 5);
  CHECK(keel::this_thread_fibers().in_use == 0);
}

TEST_CASE("sweep: fibers in fibers, in combinators and scopes") {
  const tracked_balance objects;
  auto all = [] {
    const auto any = await(keel::when_any(fiber([] { return naps_or_none(3); }), nap(1)));
    const auto late = await(keel::with_timeout(2us, fiber([] { return naps_or_none(3); })));
    auto body = [](keel::scope& s) -> task<> {
      s.spawn(keel::on_fiber(naps_or_none), 2);
      s.spawn(keel::on_fiber(naps_or_none), 1);
      co_return;
    };
    await(keel::scope(body));
    static_cast<void>(await(keel::graceful(keel::sleep_for(1us))));
    return any.index;
  };
  CHECK(sweep([all](runtime& rt) { rt.spawn(keel::on_fiber(all)); }) > 5);
  CHECK(keel::this_thread_fibers().in_use == 0);
}
