// Objects of net that outlive what they belong to: never a hang, never a silent use after the end.
#include <doctest/doctest.h>
#include <keel/net/tcp.hpp>
#include <keel/runtime/spawn.hpp>

#include <optional>
#include <ostream>

#include "support/death_test.hpp"
#include "support/in_runtime.hpp"
#include "support/sockets.hpp"

using namespace keel;

namespace {

constexpr const char* outlives = "outlives its runtime: close it, or let go of it, before";

}  // namespace

TEST_CASE("C12: a stream that receives and outlives its runtime is a bug that is found") {
  const auto outliving = [](bool closed_first) {
    return [closed_first] {
      std::optional<decltype(test::connected_to_raw())> pair;
      test::in_runtime([&]() -> task<> {
        pair.emplace(test::connected_to_raw());
        CHECK(pair->theirs.send("one"));
        {
          const auto lease = co_await pair->ours.receive();
          CHECK(lease->text() == "one");
        }
        if (closed_first) co_await pair->ours.close();
      });
    };
  };
  CHECK_DEATH(outliving(false)(), outlives);
  // After its close nothing is in flight.
  outliving(true)();
}

TEST_CASE("C12: a listener that has accepted and outlives its runtime is a bug that is found") {
  const auto outliving = [] {
    std::optional<net::tcp_listener> listener;
    test::in_runtime([&]() -> task<> {
      listener = net::tcp_listener::listen("127.0.0.1:0").value();
      auto peer = test::raw_socket::connected_to(listener->local().port());
      const auto accepted = co_await listener->accept();
      CHECK(accepted);
    });
  };
  CHECK_DEATH(outliving(), outlives);
}
