#include <doctest/doctest.h>

#include "httpd/descriptors.hpp"

using namespace httpd;

TEST_CASE("descriptors: each client may need two, and some are kept for the runtime") {
  CHECK(connections_within(64, 1) == 20);
  CHECK(connections_within(64, 2) == 18);
  CHECK(connections_within(1024, 1) == 500);
  CHECK(connections_within(10, 1) == 1);
  CHECK(connections_within(0, 64) == 1);
  CHECK(connections_within(~0ul, 1) == 1'000'000);
}

TEST_CASE("descriptors: the places are divided among the CPUs") {
  CHECK(connection_places(10, 1) == 10);
  CHECK(connection_places(10, 2) == 5);
  CHECK(connection_places(1, 2) == 1);
  CHECK(connection_places(0, 1) >= 1);
}
