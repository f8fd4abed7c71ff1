#!/usr/bin/env python3
"""Measures what keel costs its users in compile time: CPU seconds of g++ -std=c++20 -O2, medians.

Items: each public header alone and <keel/keel.hpp> (-fsyntax-only), and examples/echo_server.cpp (-c).
Prints one JSON line per item and exits 1 if an item is over its budget.

  bench/compile_time.py [--build build/release] [--compiler g++] [--rounds 3] [--only SUBSTRING]
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent

BUDGET_HEADER, BUDGET_UMBRELLA, BUDGET_ECHO = 0.55, 0.9, 1.5  # CPU seconds


def public_headers(roots):
    """The include names of what each layer lists as HEADERS in its CMakeLists.txt."""
    names = set()
    for root in roots:
        for lists in (root / "keel").glob("*/CMakeLists.txt"):
            block = re.search(r"\bHEADERS\s+([^)A-Z]*)", lists.read_text())
            if block:
                names.update(f"keel/{lists.parent.name}/{file}" for file in block.group(1).split())
    return sorted(names)


def cpu_seconds(command):
    """Of the command and everything that it starts and waits for."""
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"failed: {' '.join(map(str, command))}")
    return usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build/release")
    parser.add_argument("--compiler", default="g++")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="SUBSTRING")
    options = parser.parse_args()

    roots = sorted((options.build.resolve() / "include_roots").glob("*"))
    if not roots:
        sys.exit(f"no include roots in {options.build}: configure first (cmake --preset release)")
    compiler = [options.compiler, "-std=c++20", "-O2"] + [f"-I{root}" for root in roots]
    over = 0
    with tempfile.TemporaryDirectory(prefix="keel-bench-") as folder:
        folder = pathlib.Path(folder)
        items = []  # (name, budget, arguments)
        headers = [(name, BUDGET_HEADER) for name in public_headers(roots)]
        if any((root / "keel/keel.hpp").exists() for root in roots):
            headers.append(("keel/keel.hpp", BUDGET_UMBRELLA))
        for name, budget in headers:
            source = folder / (name.replace("/", "_") + ".cpp")
            source.write_text(f"#include <{name}>\n")
            items.append((name, budget, ["-fsyntax-only", source]))
        echo = ROOT / "examples/echo_server.cpp"
        if echo.exists():
            arguments = ["-c", echo, "-o", folder / "echo_server.o"]
            items.append(("examples/echo_server.cpp", BUDGET_ECHO, arguments))

        for name, budget, arguments in items:
            if options.only not in name:
                continue
            seconds = statistics.median(cpu_seconds(compiler + arguments) for _ in range(options.rounds))
            over += seconds > budget
            result = {"bench": "compile_time", "item": name, "cpu_s": round(seconds, 3), "budget_s": budget}
            print(json.dumps(result | {"ok": seconds <= budget}), flush=True)
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
