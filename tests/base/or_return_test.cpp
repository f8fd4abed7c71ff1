#include <doctest/doctest.h>
#include <keel/base/or_return.hpp>

#include <memory>
#include <type_traits>
#include <utility>

// What the coroutines of task.hpp make of a request is tested with them.

namespace {

struct awaitable {
  explicit awaitable(int given) : value(std::make_unique<int>(given)) {}
  std::unique_ptr<int> value;
};

struct may_throw {
  may_throw() = default;
  may_throw(may_throw&&) noexcept(false) {}
};

}  // namespace

static_assert(std::is_same_v<decltype(keel::or_return(awaitable(1))), keel::or_return_request<awaitable>>);
static_assert(std::is_nothrow_constructible_v<keel::or_return_request<awaitable>, awaitable>);
static_assert(!std::is_nothrow_constructible_v<keel::or_return_request<may_throw>, may_throw>);
// g++ 12 destroys temporaries of aggregates twice when they are awaited.
static_assert(!std::is_aggregate_v<keel::or_return_request<awaitable>>);

TEST_CASE("or_return: the request owns the awaitable that it was given") {
  const auto request = keel::or_return(awaitable(7));
  CHECK(*request.awaitable.value == 7);
}

TEST_CASE("or_return: a named awaitable is given away with std::move") {
  awaitable named(8);
  const auto request = keel::or_return(std::move(named));
  CHECK(*request.awaitable.value == 8);
}
