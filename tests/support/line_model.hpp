// check_line<Subject>(): thousands of random waits, stops and grants of something that is handed out in line,
// against a reference that does the same with a deque.
//
// A Subject holds the object under test and says what the reference needs:
//     std::size_t pick(random)                  the weight of the next wait: what the subject takes it for
//     std::unique_ptr<any_wait> wait(weight)    the wait
//     void arrives(weight)                      what a start changes in any case
//     bool fits(weight), void took(weight)      whether it can be had, and that it was
//     void give_back(any_wait&, weight)         the end of what was granted, for the object and the reference
//     void other(random, nobody_waits)          any other call, for both
#pragma once

#include <doctest/doctest.h>

#include <deque>
#include <memory>
#include <ostream>
#include <random>
#include <vector>

#include "support/hand_wait.hpp"
#include "support/in_runtime.hpp"
#include "support/seed.hpp"
#include "support/virtual_time.hpp"

namespace keel::test {

template <class Subject>
class line_check {
 public:
  explicit line_check(std::uint64_t seed) : random_(seed) {}

  task<> run(int steps) {
    for (int i = 0; i < steps; ++i) {
      switch (random_() % 8) {
        case 0:
        case 1:
        case 2: begin(); break;
        case 3: stop(random_entry()); break;
        case 4:
        case 5: give_back(random_entry()); break;
        case 6: subject_.other(random_, line_.empty()); break;
        default: co_await compare();
      }
      grant();
    }
    for (auto& e : entries_) stop(e.get());
    while (!entries_.empty()) {
      co_await compare();
      for (auto& e : entries_) give_back(e.get());
      grant();
    }
  }

  // How often the two interesting ends were seen.
  int granted = 0;
  int canceled = 0;

 private:
  enum class state { waits, granted, canceled, over };
  struct entry {
    std::unique_ptr<any_wait> wait;
    std::size_t weight;
    state is = state::waits;
  };

  entry* random_entry() { return entries_.empty() ? nullptr : entries_[random_() % entries_.size()].get(); }

  void begin() {
    if (entries_.size() > 20) return;
    const std::size_t weight = subject_.pick(random_);
    auto made = std::make_unique<entry>(entry{subject_.wait(weight), weight});
    const bool stopped = random_() % 8 == 0;
    if (stopped) made->wait->stop();
    made->wait->start();
    subject_.arrives(weight);
    grant();
    if (line_.empty() && subject_.fits(weight)) {
      subject_.took(weight);
      made->is = state::granted;
    } else if (stopped) {
      made->is = state::canceled;
    } else {
      line_.push_back(made.get());
    }
    entries_.push_back(std::move(made));
  }
  void stop(entry* e) {
    if (e == nullptr) return;
    e->wait->stop();
    if (std::erase(line_, e) != 0) e->is = state::canceled;
    grant();
  }
  void give_back(entry* e) {
    if (e == nullptr || e->is != state::granted || !e->wait->done()) return;
    e->is = state::over;
    subject_.give_back(*e->wait, e->weight);
    grant();
  }
  void grant() {
    while (!line_.empty() && subject_.fits(line_.front()->weight)) {
      subject_.took(line_.front()->weight);
      line_.front()->is = state::granted;
      line_.pop_front();
    }
  }
  task<> compare() {
    co_await some_turns(2);
    for (const auto& e : entries_) {
      if (e->is == state::over) continue;
      REQUIRE(e->wait->done() == (e->is != state::waits));
      REQUIRE(e->wait->granted() == (e->is == state::granted));
      if (e->is == state::granted) ++granted;
      if (e->is == state::canceled) {
        ++canceled;
        e->is = state::over;
      }
    }
    std::erase_if(entries_, [](const auto& e) { return e->is == state::over; });
  }

  std::mt19937_64 random_;
  Subject subject_;
  std::deque<entry*> line_;
  std::vector<std::unique_ptr<entry>> entries_;
};

template <class Subject>
void check_line(int rounds = 20, int steps = 1000) {
  const std::uint64_t seed = chosen_seed();
  INFO("KEEL_SEED=", seed);
  int granted = 0;
  int canceled = 0;
  for (int i = 0; i < rounds; ++i) {
    line_check<Subject> check(seed + static_cast<std::uint64_t>(i));
    run_simulated(check.run(steps));
    granted += check.granted;
    canceled += check.canceled;
  }
  CHECK(granted > rounds);
  CHECK(canceled > rounds);
}

}  // namespace keel::test
