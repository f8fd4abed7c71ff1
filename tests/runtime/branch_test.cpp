// What when_all and when_any share; their own tests have the rest.
#include <keel/runtime/branch.hpp>

#include <keel/runtime/run.hpp>
#include <keel/runtime/sleep.hpp>

#include <doctest/doctest.h>

#include <functional>
#include <ostream>
#include <string>

#include "support/virtual_time.hpp"

using namespace std::chrono_literals;
using keel::stop_context;
using keel::task;
using keel::detail::branch;
using keel::detail::branch_base;
using keel::detail::join_point;
using keel::test::run_simulated;

namespace {

// Two tasks under a join_point.
struct pair_of_tasks {
  pair_of_tasks(join_point::policy policy, task<> a, task<> b)
      : join(policy), one(std::move(a)), other(std::move(b)) {}

  join_point join;
  branch<task<>> one;
  branch<task<>> other;
  branch_base* list[2] = {&one, &other};
};

// Awaits them; gives which of them was decisive.
class all_of {
 public:
  explicit all_of(pair_of_tasks& tasks) noexcept : tasks_(tasks) {}

  std::coroutine_handle<> start(keel::waiter& up, stop_context& context) noexcept {
    return tasks_.join.start(tasks_.list, 2, up, context);
  }
  std::size_t take() noexcept { return tasks_.join.decisive(); }

 private:
  pair_of_tasks& tasks_;
};

// Notes its letter when it starts and when it ends.
task<> noting(std::string& notes, char letter, keel::duration d, bool fails = false) {
  notes.push_back(letter);
  static_cast<void>(co_await keel::sleep_for(d));
  notes.push_back(static_cast<char>(letter - 'a' + 'A'));
  if (fails) throw 1;
}

struct outcome {
  std::string notes;
  std::size_t decisive = 0;
};

outcome run_both(join_point::policy policy, keel::duration one, keel::duration other, bool one_fails) {
  outcome seen;
  pair_of_tasks tasks(policy, noting(seen.notes, 'a', one, one_fails), noting(seen.notes, 'b', other));
  auto main = [](pair_of_tasks& both) -> task<std::size_t> { co_return co_await all_of(both); };
  seen.decisive = run_simulated(main(tasks));
  return seen;
}

}  // namespace

TEST_CASE("join_point: branches start in order, and the waiter goes on after the last end") {
  const outcome seen = run_both(join_point::policy::wait_for_all, 2s, 1s, false);
  CHECK(seen.notes == "abBA");
  CHECK(seen.decisive == 2);
}

TEST_CASE("join_point: wait_for_all waits after a failure") {
  const outcome seen = run_both(join_point::policy::wait_for_all, 1s, 2s, true);
  CHECK(seen.notes == "abAB");
  CHECK(seen.decisive == 2);
}

TEST_CASE("join_point: stop_on_failure tells who failed first") {
  CHECK(run_both(join_point::policy::stop_on_failure, 1s, 1h, true).decisive == 0);
  CHECK(run_both(join_point::policy::stop_on_failure, 1s, 1h, false).decisive == 2);
}

TEST_CASE("join_point: stop_on_success tells who ended first, also by a failure") {
  CHECK(run_both(join_point::policy::stop_on_success, 1h, 1s, false).decisive == 1);
  CHECK(run_both(join_point::policy::stop_on_success, 1s, 1h, true).decisive == 0);
}

TEST_CASE("branch: knows whether its operand succeeded") {
  using keel::result;
  branch<task<result<int>>> with_error([]() -> task<result<int>> { co_return 1; }());
  with_error.slot.emplace(keel::errc::closed);
  CHECK(!with_error.succeeded());
  branch<task<result<int>>> with_value([]() -> task<result<int>> { co_return 1; }());
  with_value.slot.emplace(1);
  CHECK(with_value.succeeded());
  branch<task<int>> thrown([]() -> task<int> { co_return 1; }());
  thrown.slot.fail(std::make_exception_ptr(1));
  CHECK(!thrown.succeeded());
}
