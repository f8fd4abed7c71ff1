#!/usr/bin/env python3
"""Shows each rule a bad sample, which it must find, and a good tree, in which nothing may be found."""

import os
import sys
import tempfile
import textwrap
import unittest

sys.dont_write_bytecode = True

import cpp
import header_cost
import house
import tidy
from rules import RULES
from tree import Tree

GOOD = {
    "net/CMakeLists.txt": "keel_add_layer(net SOURCES tcp.cpp HEADERS tcp.hpp LINKS keel::runtime)\n",
    "net/tcp.hpp": """\
        #pragma once

        #include <cstddef>
        #include <span>

        namespace keel::net {

        template <typename T>
        class task {};

        class tcp_stream {
         public:
          class recv_op {
           public:
            explicit recv_op(int fd);
          };

          // Receives what is there:
          //
          //     auto n = co_await peer.recv(buffer);
          //
          // Errors:    ECONNRESET.
          // Cancelled: no byte is lost.
          [[nodiscard]] recv_op recv(std::span<std::byte> target) noexcept;

         private:
          recv_op again();
        };

        }  // namespace keel::net
        """,
    "net/tcp.cpp": """\
        #include <keel/net/tcp.hpp>

        #include <sys/socket.h>

        namespace keel::net {

        tcp_stream::recv_op::recv_op(int) {}  // io_uring would be a fine word in here

        const char* what_to_write() { return "// TODO(perf): f();"; }

        }  // namespace keel::net
        """,
    "tests/net/CMakeLists.txt": "keel_add_tests(net tcp_test.cpp)\n",
    "tests/net/tcp_test.cpp": 'TEST_CASE("recv: waits") { keel::sleep_for(1); }\n',
    "examples/echo.cpp": "int main() {}\n",
    "scripts/build": "#!/bin/sh\nexit 0\n",
}

LONG_BODY = "  f();\n" * 80


def header(body):
    """Changes of GOOD in which a public header net/a.hpp holds `body`."""
    lists = "keel_add_layer(net SOURCES tcp.cpp HEADERS tcp.hpp a.hpp)\n"
    return {"net/CMakeLists.txt": lists, "net/a.hpp": body}


def c_header(body):
    lists = "keel_add_layer(kevent_sys HEADERS kevent.h)\n"
    return {"kevent_sys/CMakeLists.txt": lists, "kevent_sys/kevent.h": body}


def source(body, layer="net"):
    """Changes of GOOD in which a source a.cpp of a layer, without a header of its own, holds `body`."""
    return {f"{layer}/CMakeLists.txt": "SOURCES tcp.cpp a.cpp HEADERS tcp.hpp\n", f"{layer}/a.cpp": body}


# rule -> changes of GOOD; in each, the rule must find something in the last file.
BAD = {
    "file_lines": [source("\n" * 501), {"scripts/build": "#!/bin/sh\n" + ":\n" * 500}],
    "line_columns": [source("int a" + " " * 110 + ";\n"), {"bench/b.py": "#" * 111}],
    "function_lines": [
        source("void f() {\n" + LONG_BODY + "}\n"),
        source("struct s {\n  s() : a_{1}, b_(2) {\n" + LONG_BODY + "  }\n};\n"),
        source("namespace n {\nint f(options o = {})\n    noexcept {\n" + LONG_BODY + "}\n}\n"),
        source("auto f = [](int a) {\n" + LONG_BODY + "};\n"),
        source('TEST_CASE("a {") {\n' + LONG_BODY + "}\n"),
        {"bench/b.py": "def f():\n" + "    pass\n" * 80},
    ],
    "header_code_lines": [header("extern int a;\n" * 201)],
    "example_lines": [{"examples/echo.cpp": "int main() {}\n" * 121}],
    "commented_out_code": [
        source("// f(a, b);\n"),
        source("int a;  // if (a == 1) {\n"),
        source("//   peer.close();\n"),
        source("/*\n return a + 1;\n*/\n"),
        source("// #include <span>\n"),
        source("// auto x = f();\n"),
        source("// count_ += 2;\n"),
    ],
    "if_zero": [source("#if 0\nint a;\n#endif\n"), source("# if false\n#endif\n")],
    "todo_kind": [source("// TODO: faster\n"), source("// FIXME(perf)\n")],
    "sleep_in_tests": [
        {"tests/net/tcp_test.cpp": "void f() { std::this_thread::sleep_for(1ms); }\n"},
        {"tests/net/tcp_test.cpp": "void f() { ::usleep(5); }\n"},
        {"tests/support/wait.hpp": "inline void f() { sleep(1); }\n"},
    ],
    "unit_tests": [
        {"net/a.hpp": "", "net/a.cpp": ""},
        {**c_header(""), "kevent_sys/kevent.cpp": ""},
    ],
    "listed_in_cmake": [
        {"net/a.cpp": ""},
        {"net/a.hpp": ""},
        {"tests/net/a_test.cpp": ""},
    ],
    "machine_paths": [
        {"README.md": "see /" + "home/me/keel\n"},
        {"scripts/build": "#!/bin/sh\ncd /" + "work/main\n"},
        {"README.md": "see ../sha" + "red/a.md\n"},
    ],
    "awaitable_contract": [
        header("class s {\n public:\n  class read_op {};\n  // Reads.\n  read_op read();\n};\n"),
        header("// Errors: none.\ntask<result<int>> f();\n"),
        header("// Cancelled: stops.\n\ntask<> f();\n"),
        header("struct s {\n  // Waits.\n  template <typename T>\n  [[nodiscard]] a::b_op f(T a) &;\n};\n"),
        header("// Waits.\nauto f(int a) -> task<>;\n"),
        header("struct s {\n private:\n  int a_;\n public:\n  task<> f();\n};\n"),
    ],
    "layer_table": [
        source("#include <keel/fs/file.hpp>\n"),
        source("#include <keel/keel.hpp>\n"),
        source('#include "../fs/file.hpp"\n'),
        source("#  include <keel/runtime/task.hpp>\n", layer="base"),
        source("#include <keel/unknown/a.hpp>\n"),
    ],
    "public_header_includes": [
        *[header(f"#include <{name}>\n") for name in sorted(house.BANNED_IN_PUBLIC_HEADERS)],
        header("#include <sys/types.h>\n"),
        header("#include <unistd.h>\n"),
        header("#include <bits/chrono.h>\n"),
        c_header("#include <cstdint>\n"),
    ],
    "c_header_stands_alone": [c_header("#include <keel/base/bytes.hpp>\n")],
    "system_header_homes": [
        source("#include <liburing.h>\n"),
        source("#include <sys/epoll.h>\n", layer="fs"),
        source("#include <sys/socket.h>\n", layer="fs"),
        source("#include <netdb.h>\n", layer="runtime"),
        source("#include <fcntl.h>\n"),
        source("#include <sys/stat.h>\n", layer="runtime"),
        header("#include <sys/socket.h>\n"),
    ],
    "kernel_interface_words": [
        source("int a = IORING_NOP;\nint b = io_uring_setup();\n"),
        source('const char* a = "io_uring";\n'),
        source("int a = epoll_create1(0);\n", layer="runtime"),
    ],
    "header_cost": [header("#include <span>\n"), header("#include <there_is_no_such_header>\n")],
}


class TemporaryTree:
    def __init__(self, changes):
        self.files = {**GOOD, **changes}

    def __enter__(self):
        self.folder = tempfile.TemporaryDirectory()
        for path, text in self.files.items():
            full = os.path.join(self.folder.name, path)
            os.makedirs(os.path.dirname(full), exist_ok=True)
            with open(full, "w", encoding="utf-8") as stream:
                stream.write(textwrap.dedent(text))
        return Tree(os.path.realpath(self.folder.name))

    def __exit__(self, *_):
        self.folder.cleanup()


def paths_found(rule, tree):
    return [finding.path for finding in RULES[rule](tree)]


class TidyTest(unittest.TestCase):
    def setUp(self):
        # What the house exempts is not in the sample trees.
        for exemptions in (house.EXEMPT, house.TESTED_ELSEWHERE):
            kept = dict(exemptions)
            exemptions.clear()
            self.addCleanup(exemptions.update, kept)

    def test_every_rule_has_a_bad_sample(self):
        self.assertEqual(set(RULES), set(BAD))

    def test_bad_samples_are_found(self):
        for rule, samples in BAD.items():
            if rule == "header_cost" and not header_cost.can_measure():
                continue
            for changes in samples:
                with self.subTest(rule=rule, changes=changes), TemporaryTree(changes) as tree:
                    self.assertIn(list(changes)[-1], paths_found(rule, tree))

    def test_nothing_is_found_in_a_good_tree(self):
        with TemporaryTree({}) as tree:
            header_cost.record(tree)
            self.assertEqual([str(finding) for finding in tidy.check(Tree(tree.root))], [])

    def test_prose_is_no_code(self):
        prose = ["Thread safety: none; see above.", "INVARIANT: size() <= capacity();", "returns at once;"]
        with TemporaryTree(source("".join(f"// {line}\n" for line in prose))) as tree:
            self.assertEqual(paths_found("commented_out_code", tree), [])

    def test_a_budget_is_never_raised_by_recording(self):
        if not header_cost.can_measure():
            self.skipTest("the figures are those of another compiler")
        for budget, recorded in (("1", "1"), ("999999", None)):
            with TemporaryTree({header_cost.BUDGETS: f"net/tcp.hpp {budget}\n"}) as tree:
                header_cost.record(tree)
                after = header_cost.read_budgets(Tree(tree.root))["net/tcp.hpp"]
                if recorded is not None:
                    self.assertEqual(after, int(recorded))
                    self.assertIn("net/tcp.hpp", paths_found("header_cost", Tree(tree.root)))
                else:
                    self.assertLess(after, int(budget))

    def test_an_exemption_that_is_not_needed_is_found(self):
        house.EXEMPT[("if_zero", "net/tcp.cpp")] = "once upon a time"
        self.addCleanup(house.EXEMPT.clear)
        with TemporaryTree({}) as tree:
            header_cost.record(tree)
            self.assertEqual([finding.rule for finding in tidy.check(Tree(tree.root))], ["exempt"])


class CppTest(unittest.TestCase):
    def test_comments_and_strings_are_told_from_code(self):
        code, comments, quoted = cpp.split('a("// b", \'"\') /* c\n d */ 1\'000; R"x(")x" // e\n')
        self.assertEqual(code.split(), ['a("', '",', '"', '")', "1'000;", '"', '"'])
        self.assertEqual(comments.split(), ["/*", "c", "d", "*/", "//", "e"])
        self.assertIn('"// b"', quoted)

    def test_scopes(self):
        text = """\
            namespace a {
            class b : c {
              b() : d_{1} {
              }
              int e = {1};
            };
            int f(g h = {}) {
              {
              }
            }
            }
            """
        found = [(scope.kind, scope.first_line, scope.last_line) for scope in cpp.scopes(text)]
        nested = [("function", 3, 4), ("class", 2, 6), ("block", 8, 9), ("function", 7, 10)]
        self.assertEqual(found, nested + [("namespace", 1, 11)])


if __name__ == "__main__":
    unittest.main()
