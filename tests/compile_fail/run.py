#!/usr/bin/env python3
"""Code that must not compile, and the message that its author must see.

Each *.cpp file of this folder holds, between `#ifdef OFFENDING` and `#endif`, the lines that are wrong, and
says

    // EXPECT: a text that the compiler's message must contain
    // EXPECT: one text | or another, where compilers differ
    // ONLY: a preprocessor condition, where only some compilers are asked

With the offending lines the file must not compile, and must give all these messages; without them it must
compile, so that it cannot fail for another reason.

    run.py --compiler g++ --include build/include_roots/base [--include DIR ...] [--flag=-Wall ...] [name ...]

Prints one line per file; ends with 1 if one of them broke its promise.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys

FOLDER = pathlib.Path(__file__).resolve().parent
EXPECT = re.compile(r"^// EXPECT: (.+)$", re.MULTILINE)
ONLY = re.compile(r"^// ONLY: (.+)$", re.MULTILINE)


def compile_file(arguments, source, offending):
    """Returns (whether it compiled, what the compiler said)."""
    command = [*arguments.compiler.split(), "-std=c++20", "-fsyntax-only"]
    command += ["-Wall", "-Wextra", "-Werror"]
    command += [f"-I{folder}" for folder in arguments.include] + arguments.flag
    command += ["-DOFFENDING"] if offending else []
    # Messages in English, whatever the user speaks.
    environment = dict(os.environ, LC_ALL="C")
    done = subprocess.run([*command, str(source)], env=environment, check=False,
                          capture_output=True, text=True)
    return done.returncode == 0, done.stdout + done.stderr


def concerns_this_compiler(arguments, source):
    only = ONLY.search(source.read_text())
    if only is None:
        return True
    command = [*arguments.compiler.split(), "-std=c++20", "-E", "-P", "-x", "c++", "-"]
    question = f"#if {only[1]}\nyes\n#endif\n"
    done = subprocess.run(command, input=question, check=True, capture_output=True, text=True)
    return "yes" in done.stdout.split()


def complaint_about(arguments, source):
    """Returns what is wrong with `source`, or None."""
    text = source.read_text()
    expected = EXPECT.findall(text)
    if not expected or "#ifdef OFFENDING" not in text:
        return "the file needs an `// EXPECT: text` line and an `#ifdef OFFENDING` block"

    compiled, said = compile_file(arguments, source, offending=False)
    if not compiled:
        return f"it does not even compile without the offending lines:\n{said}"
    compiled, said = compile_file(arguments, source, offending=True)
    if compiled:
        return "it compiles, and must not"
    for line in expected:
        if not any(choice.strip() in said for choice in line.split(" | ")):
            return f"it fails as it should, but nobody says '{line}':\n{said}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--compiler", default=os.environ.get("CXX", "c++"), help="may begin with a launcher")
    parser.add_argument("--include", action="append", default=[], help="a folder with keel/<layer>/ in it")
    parser.add_argument("--flag", action="append", default=[], help="for the compiler, as in --flag=-O2")
    parser.add_argument("names", nargs="*", help="files of this folder, without .cpp; else all")
    arguments = parser.parse_args()

    sources = [FOLDER / f"{name}.cpp" for name in arguments.names] or sorted(FOLDER.glob("*.cpp"))
    failed = 0
    for source in sources.copy():
        if not concerns_this_compiler(arguments, source):
            print(f"other  {source.stem}")
            sources.remove(source)
            continue
        complaint = complaint_about(arguments, source)
        print(f"{'FAILED' if complaint else 'ok':6} {source.stem}")
        if complaint:
            failed += 1
            print(complaint)
    print(f"{len(sources) - failed} of {len(sources)} pieces of wrong code are refused as they should be")
    return 1 if failed or not sources else 0


if __name__ == "__main__":
    sys.exit(main())
