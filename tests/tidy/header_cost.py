"""Keeps what each public header makes the compiler read, in lines of other people's headers.

Our own lines are not counted: another rule limits them, and counting them would change many figures
with each edit. The figures depend on the standard library, so they hold for one version of g++.
"""

import os
import re
import shutil
import subprocess
import tempfile

import house
from rules import rule
from tree import Finding

BUDGETS = "tests/tidy/budgets.txt"
COMPILER = "g++"
COMPILER_MAJOR = "12"
NEW_HEADER_LINES = 30_000  # <chrono> alone is 31,000

LINE_MARKER = re.compile(r'^# \d+ "([^"]*)"')


def can_measure():
    if shutil.which(COMPILER) is None:
        return False
    version = subprocess.run([COMPILER, "-dumpversion"], capture_output=True, text=True, check=True)
    return version.stdout.split(".")[0].strip() == COMPILER_MAJOR


def make_include_root(tree, root):
    os.mkdir(f"{root}/keel")
    for layer in house.LAYERS:
        if layer != "umbrella":
            os.symlink(os.path.abspath(f"{tree.root}/{layer}"), f"{root}/keel/{layer}")
    for file in tree.files:
        if file.folder == "umbrella" and file.is_cpp:
            os.symlink(os.path.abspath(f"{tree.root}/{file.path}"), f"{root}/keel/{file.name}")


def foreign_lines(tree, header, root):
    """The preprocessed lines of `header` that come from outside of keel; None if it does not compile."""
    path = os.path.join(tree.root, header)
    command = [COMPILER, "-std=c++20", "-E", "-x", "c++", f"-I{root}", path]
    output = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if output.returncode != 0:
        return None
    count, foreign = 0, False
    for line in output.stdout.splitlines():
        marker = LINE_MARKER.match(line)
        if marker:
            foreign = not marker[1].startswith((root, tree.root))
        elif foreign and line.strip():
            count += 1
    return count


def measure(tree):
    with tempfile.TemporaryDirectory() as root:
        make_include_root(tree, root)
        return {file.path: foreign_lines(tree, file.path, root) for file in tree.public_headers}


def read_budgets(tree):
    file = tree.by_path.get(BUDGETS)
    rows = [line.split() for line in file.lines if line and not line.startswith("#")] if file else []
    return {path: int(lines) for path, lines in rows}


@rule
def header_cost(tree):
    if not can_measure():
        print(f"[skipped] header_cost: the figures are those of {COMPILER} {COMPILER_MAJOR}")
        return
    budgets = read_budgets(tree)
    for path, lines in measure(tree).items():
        if lines is None:
            yield Finding(path, 1, "header_cost", "the preprocessor fails on this header alone")
        elif path not in budgets:
            yield Finding(path, 1, "header_cost", f"no budget ({lines} lines): tests/tidy/tidy.py --record")
        elif lines > budgets[path]:
            message = f"{lines} foreign lines, budget {budgets[path]}: include less, or raise it by hand"
            yield Finding(path, 1, "header_cost", message)
    for path in budgets.keys() - {file.path for file in tree.public_headers}:
        yield Finding(BUDGETS, 1, "header_cost", f"{path} is no public header: tests/tidy/tidy.py --record")


HEADING = """\
# Lines of other people's headers that each public header of keel makes g++ 12 read (g++ -std=c++20 -E).
# tests/tidy/tidy.py --record adds headers and lowers figures. Raising one is a decision, made by hand.
"""


def record(tree):
    """Writes the budgets: new headers are added, gone ones removed, figures only ever go down."""
    budgets = read_budgets(tree)
    os.makedirs(os.path.dirname(os.path.join(tree.root, BUDGETS)), exist_ok=True)
    with open(os.path.join(tree.root, BUDGETS), "w", encoding="utf-8") as stream:
        stream.write(HEADING)
        for path, lines in sorted(measure(tree).items()):
            if lines is not None:
                stream.write(f"{path} {min(lines, budgets.get(path, NEW_HEADER_LINES))}\n")
