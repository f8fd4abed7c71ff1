#!/usr/bin/env python3
"""Drives examples/run_command as a user would, and checks that its chapter shows it as it is.

    run_command_test.py PROGRAM

Prints what is wrong; ends with 1 if anything is.
"""

import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

LIMIT_S = 60
ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(program, *commands):
    done = subprocess.run(
        [program, *commands], check=False, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S
    )
    return done.returncode, re.sub(r"after \d+ ms", "after N ms", done.stdout).splitlines()


def check_commands(program):
    code, lines = run(program, "echo one; echo two >&2; printf three", "exit 3", "kill -9 $$")
    first = [line for line in lines if line.startswith("1")]
    if first != ["1: one", "1: two", "1: three", "1. exited with 0 after N ms"]:
        yield f"the first command is shown as {first}"
    for line in ("2. exited with 3 after N ms", "3. killed by SIGKILL after N ms"):
        if line not in lines:
            yield f"no line {line!r} in {lines}"
    if code != 1:
        yield f"ends with {code} when a command has failed"
    if run(program, "true", "true")[0] != 0:
        yield "does not end with 0 when all commands have"


def check_side_by_side(program, folder):
    """Each command waits for what the other one makes."""
    one, other = f"{folder}/one", f"{folder}/other"
    wait = "while [ ! -e {} ]; do sleep 0.01; done"
    code, _ = run(program, f"touch {one}; {wait.format(other)}", f"{wait.format(one)}; touch {other}")
    if code != 0:
        yield f"two commands that wait for each other end with {code}"


def check_interrupt(program):
    polite = "echo up; trap 'echo down; exit' TERM; while :; do sleep 0.01; done"
    commands = [polite, "sleep 1000 & echo $!; wait"]
    running = subprocess.Popen([program, *commands], stdout=subprocess.PIPE, text=True)
    try:
        lines = [running.stdout.readline().strip() for _ in commands]
        running.send_signal(signal.SIGINT)
        if running.wait(timeout=LIMIT_S) < 0:
            yield f"ends with {running.returncode} after SIGINT"
    finally:
        running.kill()
        running.wait()
    orphan = next(line[3:] for line in lines if line.startswith("2: "))
    # It was killed; that takes effect when the kernel gets to it.
    deadline = time.monotonic() + LIMIT_S
    while lives(orphan):
        if time.monotonic() > deadline:
            yield "a grandchild lives on after SIGINT"
            return
        time.sleep(0.01)


def lives(pid):
    try:
        return ") Z " not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def check_chapter():
    blocks = re.findall(r"^```cpp\n(.*?)^```$", (ROOT / "docs/guide/processes.md").read_text(), re.M | re.S)
    example = (ROOT / "examples/run_command.cpp").read_text()
    if not blocks or blocks[-1] != example:
        yield "the last program of docs/guide/processes.md is not examples/run_command.cpp"


def main():
    program = sys.argv[1]
    with tempfile.TemporaryDirectory() as folder:
        findings = [*check_commands(program), *check_side_by_side(program, folder), *check_interrupt(program),
                    *check_chapter()]  # fmt: skip
    for finding in findings:
        print(finding)
    print(f"run_command: {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
