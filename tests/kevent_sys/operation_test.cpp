#include <keel/kevent_sys/operation.hpp>

#include <doctest/doctest.h>

#include <cctype>
#include <set>
#include <string>

using keel::kevent_sys::opcode;
using keel::kevent_sys::to_text;

TEST_CASE("operation: each opcode has a name of its own") {
  std::set<std::string> names;
  for (int code = 0; code <= static_cast<int>(opcode::futex); ++code) {
    const std::string name = to_text(static_cast<opcode>(code));
    CHECK(!name.empty());
    for (const char c : name) CHECK(std::islower(static_cast<unsigned char>(c)) != 0);
    CHECK(names.insert(name).second);
  }
  CHECK(to_text(opcode::nop) == std::string("nop"));
  CHECK(to_text(opcode::sendfile) == std::string("sendfile"));
  CHECK(to_text(opcode::futex) == std::string("futex"));
}
