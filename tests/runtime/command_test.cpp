#include <keel/runtime/command.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

#include "support/death_test.hpp"
#include "support/environment.hpp"

using keel::command;

namespace {

std::vector<std::string> unpack(const std::string& packed) {
  std::vector<std::string> all;
  for (std::size_t at = 0; at != packed.size(); at += all.back().size() + 1)
    all.emplace_back(packed.c_str() + at);
  return all;
}

std::vector<std::string> words_of(const command& c) {
  return unpack(c.words());
}

bool has(const command& c, const std::string& variable) {
  const auto all = unpack(c.environment());
  return std::count(all.begin(), all.end(), variable) == 1;
}

}  // namespace

TEST_CASE("command: takes words of any kind, as they are") {
  const std::string path = "a path with spaces";
  const std::string_view dollar = "$HOME";
  CHECK(words_of(command("cat", path, dollar)) == std::vector<std::string>{"cat", path, "$HOME"});
  const std::vector<std::string> words = {"cat", "-n"};
  CHECK(words_of(command(words)) == words);
  CHECK(words_of(command("cat").with_argument("-n")) == words);
  CHECK(words_of(command::shell("echo a | cat")) ==
        std::vector<std::string>{"/bin/sh", "-c", "echo a | cat"});
}

TEST_CASE("command: a copy is a command of its own") {
  command first("cat");
  command second = first;
  second.with_argument("-n").in_folder("/");
  CHECK(words_of(first).size() == 1);
  CHECK(first.folder().empty());
  first = second;
  CHECK(words_of(first).size() == 2);
  CHECK(first.folder() == "/");
}

TEST_CASE("command: the environment is this one with changes") {
  const keel::test::environment_variable outer("KEEL_OUTER", "1");
  CHECK(has(command("x"), "KEEL_OUTER=1"));
  CHECK(has(command("x").with_variable("KEEL_OUTER", "2"), "KEEL_OUTER=2"));
  CHECK_FALSE(has(command("x").with_variable("KEEL_OUTER", "2"), "KEEL_OUTER=1"));
  CHECK_FALSE(has(command("x").without_variable("KEEL_OUTER"), "KEEL_OUTER=1"));
  CHECK(has(command("x").without_variable("KEEL_OUT"), "KEEL_OUTER=1"));
  CHECK(has(command("x").with_variable("KEEL_EMPTY", ""), "KEEL_EMPTY="));
  CHECK(command("x").with_empty_environment().environment().empty());
  const command one = command("x").with_empty_environment().with_variable("A", "b=c");
  CHECK(unpack(one.environment()) == std::vector<std::string>{"A=b=c"});
}

TEST_CASE("command: knows that a word has a zero byte inside") {
  const std::string_view bad("a\0b", 3);
  CHECK_FALSE(command("x").has_zero_inside());
  CHECK(command("x", bad).has_zero_inside());
  CHECK(command("x").in_folder(bad).has_zero_inside());
  const command variable = command("x").with_variable("A", bad);
  CHECK(variable.has_zero_inside());
  CHECK(command(variable).has_zero_inside());
}

TEST_CASE("command: one without a program, and a variable without a name, are bugs") {
  const std::vector<std::string> none;
  CHECK_DEATH(command{std::span<const std::string>(none)}, "a command begins with its program");
  CHECK_DEATH(command("x").with_variable("", "1"), "the name of a variable");
  CHECK_DEATH(command("x").without_variable("A=1"), "the name of a variable");
}
