#!/usr/bin/env python3
"""kevent.h in front of every compiler that may meet it: each C and C++ standard, all warnings on.

    kevent_header.py --include build/include_roots/kevent_sys --c cc --cxx c++

Prints one line per standard. Ends with 1 if one of them complains, with 77 if a compiler is not there.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys

SOURCE = pathlib.Path(__file__).resolve().parent / "kevent_header.c"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
C_STANDARDS = ["c11", "gnu99", "gnu17"]
CXX_STANDARDS = ["c++17", "c++20"]


def complaint(compiler, language, standard, includes):
    """What the compiler says about the header, or None."""
    command = [compiler, "-x", language, f"-std={standard}", "-fsyntax-only", *WARNINGS]
    command += [f"-I{folder}" for folder in includes]
    done = subprocess.run([*command, str(SOURCE)], check=False, capture_output=True, text=True)
    return None if done.returncode == 0 else done.stdout + done.stderr


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--include", action="append", required=True, help="a folder with keel/ in it")
    parser.add_argument("--c", default="cc", help="a C compiler")
    parser.add_argument("--cxx", default="c++", help="a C++ compiler")
    arguments = parser.parse_args()

    tasks = [(arguments.c, "c", standard) for standard in C_STANDARDS]
    tasks += [(arguments.cxx, "c++", standard) for standard in CXX_STANDARDS]
    failed = missing = 0
    for compiler, language, standard in tasks:
        if shutil.which(compiler) is None:
            missing += 1
            print(f"skip   {compiler} {standard}: not installed")
            continue
        said = complaint(compiler, language, standard, arguments.include)
        print(f"{'FAILED' if said else 'ok':6} {compiler} -std={standard}")
        if said:
            failed += 1
            print(said)
    if failed:
        return 1
    return 77 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
