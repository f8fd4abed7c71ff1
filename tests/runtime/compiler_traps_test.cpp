// What g++ 12 gets wrong in expressions with co_await, and the forms that we promise to be fine with every
// compiler. tests/compile_fail/ has the forms that our functions refuse.
#include <keel/runtime/graceful.hpp>
#include <keel/runtime/run.hpp>
#include <keel/runtime/scope.hpp>
#include <keel/runtime/signals.hpp>
#include <keel/runtime/sleep.hpp>
#include <keel/runtime/when_all.hpp>
#include <keel/runtime/when_any.hpp>
#include <keel/runtime/with_timeout.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include "support/death_test.hpp"
#include "support/frame_balance.hpp"
#include "support/tracked.hpp"

using namespace std::chrono_literals;
using keel::or_return;
using keel::result;
using keel::scope;
using keel::task;
using keel::test::frame_balance;
using keel::test::tracked;
using keel::test::tracked_balance;

// A temporary of an aggregate type that has a destructor is destroyed twice: what users name in an expression
// with co_await is not one.
template <class T>
inline constexpr bool safe_temporary = std::is_trivially_destructible_v<T> || !std::is_aggregate_v<T>;
template <class T>
inline constexpr bool safe_options = std::is_trivially_destructible_v<T>;

static_assert(safe_options<keel::run_options> && safe_options<keel::runtime_options>);
static_assert(safe_options<keel::stop_options> && safe_options<keel::cpu_list>);
static_assert(safe_temporary<task<>> && safe_temporary<task<std::string>>);
static_assert(safe_temporary<result<std::string>> && safe_temporary<keel::failure>);
static_assert(safe_temporary<keel::or_return_request<task<result<int>>>>);
static_assert(safe_temporary<keel::sleep_op> && safe_temporary<scope>);
static_assert(safe_temporary<keel::timeout_op<task<>>> && safe_temporary<keel::graceful_op<task<>>>);
static_assert(safe_temporary<keel::when_all_op<task<>, task<int>>>);
static_assert(safe_temporary<keel::when_any_op<task<>, task<int>>>);
static_assert(safe_temporary<keel::any_result<std::string>>);
static_assert(safe_temporary<keel::join_handle<int>>);
static_assert(safe_temporary<keel::named_callable<std::string>>);
static_assert(safe_temporary<keel::signals> && safe_temporary<keel::signals::next_op>);

// The compiler and what the concept says about closures belong together.
namespace {
[[maybe_unused]] auto capturing = [object = std::string()](scope&) -> task<> {
  static_cast<void>(object);
  co_return;
};
[[maybe_unused]] auto capturing_nothing_to_destroy = [n = 1](scope&) -> task<> {
  static_cast<void>(n);
  co_return;
};
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
constexpr bool any_closure_is_safe = false;
constexpr bool compiler_breaks_conditions = true;
#else
constexpr bool any_closure_is_safe = true;
constexpr bool compiler_breaks_conditions = false;
#endif
static_assert(keel::detail::safe_in_await<decltype(capturing)> == any_closure_is_safe);
static_assert(keel::detail::safe_in_await<decltype(capturing)&>);
static_assert(keel::detail::safe_in_await<decltype(capturing_nothing_to_destroy)>);

task<int> value_of(tracked object) { co_return object.value; }

task<int> value_late(tracked object) {
  static_cast<void>(co_await keel::sleep_for(1us));
  co_return object.value;
}

task<result<int>> result_of(tracked object) {
  static_cast<void>(co_await keel::sleep_for(1us));
  co_return object.value;
}

task<int> length(std::string text) { co_return static_cast<int>(text.size()); }
task<int> pointed(std::shared_ptr<tracked> object) { co_return object->value; }

struct options {
  int factor = 1;
  std::string_view name = {};
};
task<int> scaled(tracked object, options o) { co_return object.value * o.factor; }

// Runs what `make` returns and checks that every object and frame has gone as it should.
template <class Make>
int balanced(Make make) {
  const tracked_balance objects;
  const frame_balance frames;
  return keel::run(make());
}

}  // namespace

TEST_CASE("traps: temporaries of classes with constructors are destroyed once") {
  CHECK(balanced([]() -> task<int> {
          int n = co_await value_of(tracked(1));
          n += co_await value_late(tracked(2));
          n += co_await length(std::string("four"));
          n += co_await length("a text that is long enough not to fit into the string itself");
          n += co_await pointed(std::make_shared<tracked>(3));
          co_return n;
        }) == 1 + 2 + 4 + 60 + 3);
}

TEST_CASE("traps: several co_awaits in one expression, as operands and as arguments") {
  CHECK(balanced([]() -> task<int> {
          const int sum = co_await value_of(tracked(1)) + co_await value_late(tracked(2));
          const int larger = std::max(co_await value_late(tracked(3)), co_await value_of(tracked(4)));
          const tracked made(co_await value_late(tracked(5)));
          const int nested = co_await value_of(tracked(co_await value_late(tracked(6))));
          co_return sum + larger + made.value + nested + co_await value_late(tracked(7));
        }) == 3 + 4 + 5 + 6 + 7);
}

TEST_CASE("traps: co_await in conditions, loops, returns and between exceptions") {
  CHECK(balanced([]() -> task<int> {
          int n = 0;
          if (const auto got = co_await result_of(tracked(1)); got) n += *got;
          while (co_await value_late(tracked(n)) < 4) ++n;
          for (int i = co_await value_of(tracked(0)); i < co_await value_of(tracked(2)); ++i) ++n;
          switch (co_await value_of(tracked(1))) {
            case 1: ++n; break;
            default: break;
          }
          try {
            n += co_await value_late(tracked(1));
            throw std::string("an exception with a destructor");
          } catch (const std::string&) {
            ++n;
          }
          co_return n > 0 && co_await value_of(tracked(1)) == 1 ? n : 0;
        }) == 4 + 2 + 1 + 1 + 1);
}

TEST_CASE("traps: a conditional expression chooses between two awaits") {
  auto choose = [](bool which) {
    return balanced([which]() {
      return [](bool w) -> task<int> {
        co_return w ? co_await value_late(tracked(1)) : co_await value_of(tracked(2));
      }(which);
    });
  };
  CHECK(choose(true) == 1);
  CHECK(choose(false) == 2);
}

namespace {

// No variable is declared around the condition.
task<> no_variable(int& n) {
  if (co_await value_late(tracked(1)) == 1) ++n;
}
task<> no_variable_in_a_loop(int& n) {
  for (;;) {
    if (co_await value_late(tracked(1)) == 1) break;
  }
  ++n;
}
task<> a_variable_anywhere(int& n) {
  while (co_await value_late(tracked(n)) < 1) ++n;
  for (;;) {
    if (co_await value_late(tracked(1)) == 1) break;
  }
  [[maybe_unused]] const int variable = 1;
}

// The count that `counting` leaves.
task<int> counted(task<> (*counting)(int& n)) {
  int n = 0;
  co_await counting(n);
  co_return n;
}

}  // namespace

TEST_CASE(
    "traps: an await in a condition works with a variable around it; without one it works, or says so") {
  CHECK(balanced([] { return counted(&a_variable_anywhere); }) == 1);
  if (compiler_breaks_conditions) {
    CHECK_DEATH(keel::run(counted(&no_variable)), "or declare any variable");
    CHECK_DEATH(keel::run(counted(&no_variable_in_a_loop)), "or declare any variable");
  } else {
    CHECK(balanced([] { return counted(&no_variable); }) == 1);
    CHECK(balanced([] { return counted(&no_variable_in_a_loop); }) == 1);
  }
}

TEST_CASE("traps: option structs without a destructor are made in the expression that awaits") {
  CHECK(balanced([]() -> task<int> {
          co_return co_await scaled(tracked(2), {.factor = 3, .name = "triple"}) +
              co_await scaled(tracked(2), {});
        }) == 8);
}

TEST_CASE("traps: temporaries as arguments of what our combinators take") {
  CHECK(balanced([]() -> task<int> {
          const auto in_time = co_await keel::with_timeout(1h, value_late(tracked(1)));
          const auto both = co_await keel::when_all(value_of(tracked(2)), value_late(tracked(3)));
          auto [one, other] = co_await keel::when_all(keel::cancel_on_failure, value_late(tracked(4)),
                                                      result_of(tracked(5)));
          const auto first = co_await keel::when_any(value_of(tracked(6)), value_late(tracked(7)));
          const auto nested = co_await keel::with_timeout(
              1h, keel::when_all(value_late(tracked(8)), keel::with_timeout(1h, result_of(tracked(9)))));
          const auto polite = co_await keel::graceful(result_of(tracked(10)));
          int n = *in_time + std::get<0>(both) + std::get<1>(both) + one + *other + *polite;
          n += std::get<0>(first.values).value_or(0);
          co_return n + std::get<0>(*nested) + *std::get<1>(*nested);
        }) == 1 + 2 + 3 + 4 + 5 + 6 + 8 + 9 + 10);
}

TEST_CASE("traps: temporaries inside or_return, with values and with errors") {
  auto failing = [](tracked object) -> task<result<int>> {
    if (object.value > 0) co_return keel::errc::closed;
    co_return 0;
  };
  CHECK(balanced([&] {
          return [](auto fail) -> task<int> {
            auto inner = [](auto f) -> task<result<int>> {
              const tracked local(1);
              const int n = co_await or_return(result_of(tracked(1))) +
                            co_await or_return(keel::with_timeout(1h, result_of(tracked(2))));
              co_return n + co_await or_return(f(tracked(local.value)));
            };
            const auto got = co_await inner(fail);
            co_return got.error() == keel::errc::closed ? 1 : 0;
          }(failing);
        }) == 1);
}

TEST_CASE("traps: spawn stores its arguments, also in the expression that joins") {
  CHECK(balanced([]() -> task<int> {
          auto handle = keel::spawn(value_late, tracked(1));
          int n = co_await keel::spawn(value_late, tracked(2));
          n += co_await keel::spawn(keel::named("with a name", value_of), tracked(3));
          n += (co_await keel::with_timeout(1h, keel::spawn(result_of, tracked(4)))).value();
          co_return n + co_await std::move(handle);
        }) == 1 + 2 + 3 + 4);
}

TEST_CASE("traps: spawn takes a closure with a destructor where nothing is awaited") {
  CHECK(balanced([]() -> task<int> {
          const auto shared = std::make_shared<tracked>(5);
          auto handle = keel::spawn([shared]() -> task<int> {
            static_cast<void>(co_await keel::sleep_for(1us));
            co_return shared->value;
          });
          keel::spawn([object = tracked(1)]() -> task<> {
            static_cast<void>(object);
            static_cast<void>(co_await keel::sleep_for(1us));
          });
          co_return co_await std::move(handle);
        }) == 5);
}

TEST_CASE("traps: closures without a destructor stand in the expression, others have a name") {
  struct caller {
    int seen = 0;
    task<> all() {
      int local = 0;
      std::string_view text = "view";
      co_await scope([&](scope&) -> task<> {
        local += co_await value_late(tracked(1));
      });
      co_await scope([this, text](scope& children) -> task<> {
        seen += static_cast<int>(text.size());
        children.spawn([this]() -> task<> {
          seen += co_await value_late(tracked(10));
        });
        co_return;
      });
      auto named = [object = tracked(100), shared = std::make_shared<tracked>(1000), this](scope&) -> task<> {
        seen += object.value + shared->value + co_await value_late(tracked(0));
      };
      co_await scope(named);
      seen += local;
    }
  };
  caller one;
  CHECK(balanced([&] {
          return [](caller& c) -> task<int> {
            co_await c.all();
            co_return c.seen;
          }(one);
        }) == 1 + 4 + 10 + 100 + 1000);
}
