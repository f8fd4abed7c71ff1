"""The rules about sizes, comments and tests. Each yields Findings for a Tree."""

import ast
import re

import cpp
import house
from tree import Finding

RULES = {}


def rule(function):
    RULES[function.__name__] = function
    return function


@rule
def file_lines(tree):
    for file in tree.files:
        if file.is_code and len(file.lines) > house.FILE_LINES:
            yield file.finding(1, "file_lines", f"{len(file.lines)} lines, allowed {house.FILE_LINES}")


@rule
def line_columns(tree):
    for file in tree.files:
        if not file.is_code:
            continue
        for number, line in enumerate(file.lines, 1):
            if len(line) > house.LINE_COLUMNS:
                message = f"{len(line)} columns, allowed {house.LINE_COLUMNS}"
                yield file.finding(number, "line_columns", message)


def functions_of(file):
    """Yields (first line, last line) of each function."""
    if file.is_cpp:
        for scope in file.scopes:
            if scope.kind == "function":
                yield scope.first_line, scope.last_line
    elif file.suffix == ".py" or re.match(r"#!.*python", file.text):
        for node in ast.walk(ast.parse(file.text)):
            if isinstance(node, ast.FunctionDef):
                yield node.lineno, node.end_lineno


@rule
def function_lines(tree):
    for file in tree.files:
        for first, last in functions_of(file):
            if last - first + 1 > house.FUNCTION_LINES:
                message = f"a function of {last - first + 1} lines, allowed {house.FUNCTION_LINES}"
                yield file.finding(first, "function_lines", message)


@rule
def header_code_lines(tree):
    for file in tree.public_headers:
        count = sum(1 for line in file.code.splitlines() if line.strip())
        if count > house.HEADER_CODE_LINES:
            message = f"a public header of {count} code lines, allowed {house.HEADER_CODE_LINES}"
            yield file.finding(1, "header_code_lines", message)


@rule
def example_lines(tree):
    for file in tree.files:
        if file.folder == "examples" and file.is_cpp and len(file.lines) > house.EXAMPLE_LINES:
            message = f"an example in one file of {len(file.lines)} lines, allowed {house.EXAMPLE_LINES}"
            yield file.finding(1, "example_lines", message)


CODE_COMMENT = re.compile(
    r"""^(?:
        \#\s*(?:include|define|if|ifdef|ifndef|endif|pragma)\b .*
      | (?:if|for|while|switch)\s*\(.*\)\s*\{?
      | (?:return|break|continue|co_return|co_await|co_yield|delete|throw|using|namespace)\b [^.]* ;
      | (?:else|do|try)\s*\{ | \}\s*(?:else\s*\{)?;?
      | (?:const|auto|int|bool|void|char|unsigned|long|static|constexpr|std::\w+)\b [^.]* [;{]
      | [\w:.>\-*&\[\]<]+ \s* (?:[-+*/|&^]?=) \s* [^=].* ;
      | [\w:.>\-<]+ \( .* \) \s* [;{]
      )\s*$""",
    re.VERBOSE,
)
COMMENT_LINE = re.compile(r"^(?:\s*(?://[/!]?|/\*+|\*(?!/)))?( *)(.*?)(?:\*/)?\s*$")
EXAMPLE_INDENT = 4


@rule
def commented_out_code(tree):
    """Code in a comment is a usage example only when it is indented, like a quotation, by 4 or more."""
    for file in tree.files:
        if not file.is_cpp:
            continue
        for number, line in enumerate(file.comments.splitlines(), 1):
            match = COMMENT_LINE.match(line)
            if match and len(match[1]) < EXAMPLE_INDENT and CODE_COMMENT.match(match[2].strip()):
                yield file.finding(number, "commented_out_code", f"looks like code: {match[2].strip()}")


@rule
def if_zero(tree):
    for file in tree.files:
        if file.is_cpp:
            for number, line in enumerate(file.code.splitlines(), 1):
                if re.match(r"\s*#\s*(el)?if\s+(0|false)\b", line):
                    yield file.finding(number, "if_zero", "dead code behind the preprocessor")


@rule
def todo_kind(tree):
    unfinished = r"\bTODO\b(?!\([a-z_]+\))|\b(FIXME|XXX|HACK)\b"
    for file in tree.files:
        if file.is_code and file.folder != "tests/tidy":
            for number, line in enumerate(file.lines, 1):
                if re.search(unfinished, line):
                    message = "write TODO(kind), where kind is one word, as in TODO(perf)"
                    yield file.finding(number, "todo_kind", message)


SLEEP = re.compile(r"this_thread::sleep_|\b(?:sleep|usleep|nanosleep|clock_nanosleep)\s*\(")


@rule
def sleep_in_tests(tree):
    for file in tree.files:
        if file.top == "tests" and file.is_cpp:
            for number, line in enumerate(file.code.splitlines(), 1):
                if SLEEP.search(line):
                    yield file.finding(number, "sleep_in_tests", "wait for the event, or use virtual time")


@rule
def unit_tests(tree):
    """Every .hpp/.cpp pair of a layer has tests/<layer>/<unit>_test.cpp."""
    for file in tree.layer_files:
        unit = file.path[: -len(file.suffix)]
        if file.suffix != ".cpp" or not ({unit + ".hpp", unit + ".h"} & tree.by_path.keys()):
            continue
        test, _ = house.TESTED_ELSEWHERE.get(unit, (f"tests/{unit}_test.cpp", ""))
        if test not in tree.by_path:
            yield file.finding(1, "unit_tests", f"{test} is missing")
    for unit in house.TESTED_ELSEWHERE:
        if unit + ".cpp" not in tree.by_path:
            yield Finding(house.PATH, 1, "unit_tests", f"{unit} is TESTED_ELSEWHERE, but does not exist")


@rule
def listed_in_cmake(tree):
    """A source or test that no CMakeLists.txt lists is dead."""
    folders_of_tests = {f"tests/{layer}" for layer in house.LAYERS} | {"tests/regression", "tests/support"}
    for file in tree.files:
        is_source = file.top in house.LAYERS and file.is_cpp
        is_test = file.folder in folders_of_tests and file.suffix == ".cpp"
        if not (is_source or is_test):
            continue
        folder = file.top if is_source else file.folder
        if file.path[len(folder) + 1 :] not in tree.listed(folder):
            yield file.finding(1, "listed_in_cmake", f"{folder}/CMakeLists.txt does not list it")


@rule
def machine_paths(tree):
    """Nothing in the tree knows the machine that it was written on."""
    own = r"(?<![\w.~$}/-])/(?:" + "|".join(["wo" + "rk", "ro" + "ot", "ho" + "me"]) + r")/\w"
    outside = r"\.\./sha" + "red/"
    for file in tree.files:
        for number, line in enumerate(file.lines, 1):
            if re.search(f"{own}|{outside}", line):
                yield file.finding(number, "machine_paths", "a path that exists on one machine only")


AWAITABLE = re.compile(
    r"""^\s*(?:\[\[[^\]]*\]\]\s*)*
        (?:(?:static|virtual|inline|constexpr|friend|explicit)\s+)*
        (?:(?:[\w:]+_op|(?:keel::)?task<.*>)\s+(?:\w+::)*(?P<name>\w+|operator\(\))\s*\(
         | auto\s+(?P<arrow>\w+)\s*\(.*->\s*(?:[\w:]+_op\b|(?:keel::)?task<))""",
    re.VERBOSE,
)
DECLARATION_PREFIX = re.compile(r"^\s*(template\b|requires\b|\[\[)")


def comment_above(file, line):
    """The comment in front of a declaration; declarations that follow each other share one."""
    comments, code = file.comments.splitlines(), file.code.splitlines()
    at = line - 2
    while at >= 0 and code[at].strip() and not re.search(r"[{}:]\s*$", code[at]):
        at -= 1
    lines = []
    while at >= 0 and comments[at].strip() and not code[at].strip():
        lines.append(comments[at])
        at -= 1
    return "\n".join(lines)


@rule
def awaitable_contract(tree):
    """A public function to be awaited says how it fails and what a cancellation does."""
    for file in tree.public_headers:
        for number, line in enumerate(file.code.splitlines(), 1):
            match = AWAITABLE.match(line)
            name = match and (match["name"] or match["arrow"])
            if not match or name == "get_return_object":
                continue
            chain = cpp.chain_at(file.scopes, number)
            if any(scope.kind in ("function", "block") or "detail" in scope.head for scope in chain):
                continue
            if any(scope.kind == "class" and scope.access_at(number) != "public" for scope in chain):
                continue
            above = comment_above(file, number)
            for word in ("Errors:", "Cancelled:"):
                if word not in above:
                    message = f"{name}: no `{word}` in the comment above"
                    yield file.finding(number, "awaitable_contract", message)
