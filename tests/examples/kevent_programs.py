#!/usr/bin/env python3
"""Drives the programs of examples/kevent as a user would.

    kevent_programs.py FOLDER_OF_THE_PROGRAMS [NAME_OF_A_TEST ...]

Prints each failed check and, as its last line, `N passed, N failed`. KEEL_ENGINE chooses the engine, as
always. Ends with 77 when the machine does not let the engine work.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import kevent_httpd_tests
from httpd_harness import Checks, NoServer

LIMIT_S = 60


def run(folder, program, *arguments, stdin=""):
    """(exit code, standard output); what goes to standard error is shown.

    The pipe at standard input holds all of it, and its end, before the program starts.
    """
    command = [os.path.join(folder, program), *arguments]
    reading, writing = os.pipe()
    os.write(writing, stdin.encode())
    os.close(writing)
    try:
        done = subprocess.run(command, stdin=reading, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
    finally:
        os.close(reading)
    return done.returncode, done.stdout


RING_LINE = re.compile(r"index (\d+) over (\d+) consumer (\d+): timer (\d+) ms, ret_data (\d+)")


def test_ring(check, folder):
    code, out = run(folder, "kev_ring", "-n", "4", "-e", "11", "3")
    rows = [[int(word) for word in RING_LINE.fullmatch(line).groups()] for line in out.splitlines()]
    check.equal("ring: exit code", code, 0)
    places = [(row[1], row[0]) for row in rows]
    check.equal("ring: wraps and indices", places, [divmod(i, 4) for i in range(11)])
    check.equal("ring: the timer", {row[3] for row in rows}, {3})
    times = [row[4] for row in rows]
    check.that("ring: time goes forward", times == sorted(times), times)
    check.that("ring: never early", times[-1] - times[0] >= 10 * 3 - 2, times)

    for consumers, entries in (("2", "2"), ("4", "3"), ("3", "64")):
        code, out = run(folder, "kev_ring", "-k", consumers, "-n", entries, "-e", "90", "1", "2", "3")
        rows = [[int(word) for word in RING_LINE.fullmatch(line).groups()] for line in out.splitlines()]
        name = f"ring: {consumers} consumers of {entries} entries"
        check.equal(f"{name}: exit code", code, 0)
        got = sorted((row[1], row[0]) for row in rows)
        check.equal(f"{name}: each event once", got, [divmod(i, int(entries)) for i in range(90)])


SIGNALS = """\
SIGUSR1: event with value 7, sent 1 times; handler has run 1 times
SIGUSR2: event with value 8, sent 1 times; handler has run 0 times
"""


def test_signal(check, folder):
    check.equal("signal: golden", run(folder, "kev_signal"), (0, SIGNALS))
    command = [os.path.join(folder, "kev_signal"), "--wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        check.equal("signal: its pid", process.stdout.readline(), f"waiting for signals as {process.pid}\n")
        for number, name, handled in ((signal.SIGUSR2, "SIGUSR2", 0), (signal.SIGUSR1, "SIGUSR1", 1),
                                      (signal.SIGUSR1, "SIGUSR1", 2)):
            process.send_signal(number)
            line = f"{name}: event with value 0, sent 1 times; handler has run {handled} times\n"
            check.equal(f"signal: {name} from outside", process.stdout.readline(), line)
        process.terminate()
        check.equal("signal: SIGTERM ends it", process.wait(LIMIT_S), 0)


def test_posix_timer(check, folder):
    code, out = run(folder, "kev_posix_timer", "4")
    check.equal("posix timer: exit code", code, 0)
    lines = out.splitlines()
    last = re.fullmatch(r"monotonic expired while nobody looked, overruns (\d+)", lines.pop())
    check.that("posix timer: overruns are counted", last and int(last[1]) >= 4, out)
    rows = [re.fullmatch(r"(\w+) expired, overruns (\d+)", line).groups() for line in lines]
    for once in ("realtime", "boottime"):
        check.equal(f"posix timer: {once}", [n for name, n in rows if name == once], ["0"])
    monotonic = sum(1 + int(n) for name, n in rows if name == "monotonic")
    check.that("posix timer: a period", monotonic >= 4, out)


# What is typed, what is on standard input, what is printed, the exit code.
GOLDEN = [
    ("user:7@et user:8 --ready 2 --ready 1 --count 2", "",
     "user:8: event DONE, ret_data 0 0\nuser:7@et: event DONE, ret_data 0 0\n", 0),
    ("user:1@ready", "", "user:1@ready: event DONE, ret_data 0 0\n", 0),
    ("user:1 user:1 --timeout 0.05", "", "user:1: handed back DONE BROKEN, File exists\n", 1),
    ("pipe:stdin --timeout 0.05", "hello\n", "pipe:stdin: handed back DONE BROKEN, ret_data 17 0\n", 1),
    ("pipe:stdin@always_queue --drain", "hello\n",
     "pipe:stdin@always_queue: event DONE BROKEN, ret_data 17 0\n"
     "pipe:stdin@always_queue: drained 6 bytes\n", 0),
    ("timer:0.02@oneshot timer:0.04@oneshot --stable --count 2", "",
     "timer:0.02@oneshot: event DONE\ntimer:0.04@oneshot: event DONE\n", 0),
    ("timer:0.01@et --ring 3 --stable --count 5", "", "timer:0.01@et: event DONE\n" * 5, 0),
    ("timer:0.01@oneshot --stable --count 2 --timeout 0.1", "", "timer:0.01@oneshot: event DONE\n", 1),
    ("clock:realtime:0.02 clock:monotonic:0.04 --stable --count 2", "",
     "clock:realtime:0.02: event DONE\nclock:monotonic:0.04: event DONE\n", 0),
    ("poll:/dev/null:in+out@always_queue", "",
     "poll:/dev/null:in+out@always_queue: event DONE, ret_data 5 0\n", 0),
    ("raw:77:1:0:1 raw:4:0:0:1 raw:2:0:0:1 raw:2:1:0:0 raw:0:999:0:1 --timeout 0.05", "",
     "raw:77:1:0:1: handed back DONE BROKEN, Function not implemented\n"
     "raw:4:0:0:1: handed back DONE BROKEN, Function not implemented\n"
     "raw:2:0:0:1: handed back DONE BROKEN, Invalid argument\n"
     "raw:2:1:0:0: handed back DONE BROKEN, Invalid argument\n"
     "raw:0:999:0:1: handed back DONE BROKEN, Bad file descriptor\n", 1),
    ("user:1@0x4000 --timeout 0.05", "", "user:1@0x4000: handed back DONE BROKEN, Invalid argument\n", 1),
    ("nonsense:1", "", "", 2),
    ("timer:soon", "", "", 2),
    ("--count x timer:1", "", "", 2),
]


def test_probe(check, folder):
    for arguments, stdin, expected, code in GOLDEN:
        answer = run(folder, "kev_probe", *arguments.split(), stdin=stdin)
        check.equal(f"kev_probe {arguments}", answer, (code, expected))
    child = "run:exit 3@always_queue"  # it may have ended when it is added
    wanted = f"{child}: event DONE, ret_data {3 << 8} 0\n"
    check.equal("kev_probe run", run(folder, "kev_probe", child), (0, wanted))
    with tempfile.TemporaryDirectory(prefix="keel_kevent_") as place:
        path = os.path.join(place, "file")
        with open(path, "w", encoding="ascii") as file:
            file.write("some text\n")
        wanted = f'file:{path}: event DONE, ret_data 10 0\nfile:{path}: bytes "some text"\n'
        check.equal("kev_probe file", run(folder, "kev_probe", f"file:{path}"), (0, wanted))
        command = [os.path.join(folder, "kev_probe"), f"dir:{place}@et", "user:1@ready", "--count", "2"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            first = process.stdout.readline()
            check.equal("kev_probe is ready", first, "user:1@ready: event DONE, ret_data 0 0\n")
            os.mkdir(os.path.join(place, "new"))
            line = process.stdout.readline()
            check.that("kev_probe dir", line.startswith(f"dir:{place}@et: event DONE,"), line)
            check.equal("kev_probe dir: exit code", process.wait(LIMIT_S), 0)


def test_epoll(check, folder):
    code, out = run(folder, "kev_epoll")
    check.equal("epoll shim: exit code", code, 0)
    check.that("epoll shim: like epoll", re.fullmatch(r"\d{2,} lines alike\n", out), out)


def test_httpd(check, folder):
    kevent_httpd_tests.run_all(check, os.path.join(folder, "kev_httpd"))


def engine_is_missing(folder):
    command = [os.path.join(folder, "kev_probe"), "user:1@ready"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    if done.returncode == 3:
        print(f"skipped: {done.stderr.strip()}")
    return done.returncode == 3


def main():
    folder, wanted = sys.argv[1], sys.argv[2:]
    if engine_is_missing(folder):
        return 77
    check = Checks()
    for test in (test_ring, test_signal, test_posix_timer, test_probe, test_epoll, test_httpd):
        if not wanted or test.__name__[5:] in wanted:
            begin = time.monotonic()
            test(check, folder)
            print(f"{test.__name__[5:]}: {time.monotonic() - begin:.1f} s", flush=True)
    print(f"{check.passed} passed, {check.failed} failed")
    return 0 if check.failed == 0 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoServer as problem:
        print(problem)
        sys.exit(1)
