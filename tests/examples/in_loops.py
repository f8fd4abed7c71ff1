#!/usr/bin/env python3
"""Drives the examples that run keel inside another loop, as a user would.

    in_loops.py FOLDER_OF_THE_EXAMPLES

Prints each failed check and, as its last line, `N passed, N failed`. KEEL_ENGINE chooses the engine, as
always. Without GLib there is one example less.
"""

import os
import re
import signal
import socket
import subprocess
import sys

sys.dont_write_bytecode = True

from httpd_harness import Checks

LIMIT_S = 60


def test_epoll_loop(check, folder):
    command = [os.path.join(folder, "in_epoll_loop"), "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        said = server.stdout.readline()
        found = re.fullmatch(r"listening on 0\.0\.0\.0:(\d+)\n", said)
        check.that("epoll: says its port", found is not None, said)
        port = int(found.group(1))
        peers = [socket.create_connection(("127.0.0.1", port), LIMIT_S) for _ in range(3)]
        text = b"".join(b"line %d\n" % number for number in range(1000))
        for peer in peers:
            peer.sendall(text)
        for peer in peers:
            got = b""
            while len(got) < len(text) and (more := peer.recv(65536)):
                got += more
            check.that("epoll: echoes", got == text, len(got))
        # The program's own timer goes on beside it, and a silent server does not wake up for nothing.
        for line in server.stdout:
            if line.endswith(": 3 connections so far\n"):
                break
        tick = server.stdout.readline()
        check.that("epoll: ticks", re.fullmatch(r"tick \d+: 3 connections so far\n", tick) is not None, tick)
        server.send_signal(signal.SIGINT)
        rest = server.stdout.read()
        check.that("epoll: says goodbye", rest.endswith("bye\n"), rest)
        check.equal("epoll: exit code", server.wait(LIMIT_S), 0)
        for peer in peers:
            peer.close()
    finally:
        server.kill()
        server.wait()


def test_glib_loop(check, folder):
    command = [os.path.join(folder, "in_glib_loop")]
    if not os.path.exists(command[0]):
        return
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=LIMIT_S)
    lines = [line for line in done.stdout.splitlines() if line != "glib: tick"]
    check.equal("glib: exit code", done.returncode, 0)
    check.equal(
        "glib: what it says",
        lines,
        [
            "glib: asks keel for the answer",
            "keel: has slept 250 ms, a thread has computed 42",
            "keel: 3 bytes came through a socket that GLib writes to: yes",
            "bye",
        ],
    )
    check.that("glib: its own timer ticked", done.stdout.count("glib: tick") >= 2, done.stdout)


def main():
    check = Checks()
    test_epoll_loop(check, sys.argv[1])
    test_glib_loop(check, sys.argv[1])
    print(f"{check.passed} passed, {check.failed} failed")
    return 0 if check.failed == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
