#include <keel/runtime/place.hpp>

#include <doctest/doctest.h>

#include <ostream>
#include <string>

using keel::short_function;
using keel::short_path;

TEST_CASE("short_path: the last two components") {
  CHECK(short_path("/srv/app/net/tcp.cpp") == "net/tcp.cpp");
  CHECK(short_path("net/tcp.cpp") == "net/tcp.cpp");
  CHECK(short_path("tcp.cpp") == "tcp.cpp");
  CHECK(short_path("/tcp.cpp") == "/tcp.cpp");
  CHECK(short_path("") == "");
}

TEST_CASE("short_function: what g++ says of coroutines") {
  CHECK(short_function("void app::in::read(read(int, const char*)::_ZN3app2in4readEiPKc.Frame*)") == "read");
  CHECK(short_function("void app::server::handle(app::server::handle<double>(double)::_ZN3.Frame*)") ==
        "handle");
  CHECK(short_function("void app::server::operator()(app::server::operator()(int) const::_ZNK3.Frame*)") ==
        "server::operator()");
  CHECK(short_function("void {anonymous}::main_task(main_task<int (*)(int)>(void*)::_ZN12.Frame*)") ==
        "main_task");
  CHECK(short_function("void main()::<lambda(int, task<int>)>::operator()(main()::<lambda(int, "
                       "task<int>)>::_ZZ4mainENKUli4taskIiEE_clEiS0_.Frame*)") == "lambda in main");
  CHECK(short_function("void f()::<lambda(auto:11)>::<lambda(int)>::operator()(f()::<lambda(auto:11)>::"
                       "<lambda(int)>::_ZZZ4.Frame*)") == "lambda in f");
}

TEST_CASE("short_function: what clang says of coroutines") {
  CHECK(short_function("task<int> app::inner::read_request(int, const char *)") == "read_request");
  CHECK(short_function("task<X> app::inner::server::handle(X) [X = double]") == "handle");
  CHECK(short_function("task<int> app::inner::server::operator()(int) const") == "server::operator()");
  CHECK(short_function("task<int> (anonymous namespace)::hidden()") == "hidden");
  CHECK(short_function("task<int> (anonymous namespace)::main_task(void *) [Fn = int (*)(int)]") ==
        "main_task");
  CHECK(short_function("auto main()::(anonymous class)::operator()(auto) const [x:auto = int]") ==
        "lambda in main");
}

TEST_CASE("short_function: what it does not understand does not break it") {
  for (const char* text :
       {"", " ", "f", "()", "))))", "((((", "operator()", "<>::<>", "a<b", "int operator<(a, b)"})
    CHECK(short_function(text).size() <= std::string(text).size());
}

TEST_CASE("describe: a place of the source, or nothing for none") {
  const auto here = std::source_location::current();
  CHECK(keel::describe(here).starts_with("runtime/place_test.cpp:" + std::to_string(here.line()) + " in "));
  CHECK(keel::describe(std::source_location()).empty());
}
