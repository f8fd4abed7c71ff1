#!/usr/bin/env python3
"""The C code of docs/guide compiles, and the echo server of its chapter about kevent echoes.

    guide.py --include DIR ... [--compiler cc] [--library FILE_OR_FLAG ...]

A block that begins with # is a program of its own. Every other block must stand, line by line, in the last
program of its chapter, which is built and tried. Prints what is wrong; ends with 1 if anything is.
"""

import argparse
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading

sys.dont_write_bytecode = True

from example import Compiler

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "docs/guide"
PATIENCE_S = 60


def blocks(chapter):
    return re.findall(r"^```c\n(.*?)^```$", chapter.read_text(), re.M | re.S)


def check_blocks(chapter, compiler):
    programs = [block for block in blocks(chapter) if block.startswith("#")]
    for block in blocks(chapter):
        if block.startswith("#"):
            said = compiler.complaint(block)
            if said:
                yield f"{chapter.name}: a program does not compile:\n{said}"
        elif not programs or block not in programs[-1]:
            yield f"{chapter.name}: this is not in the last program of the chapter:\n{block}"


def connect(port):
    """A connection that takes little at a time."""
    peer = socket.socket()
    peer.settimeout(PATIENCE_S)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    peer.connect(("127.0.0.1", port))
    return peer


def talk(port):
    """Sends more than all buffers hold on two connections at once; says whether it came back."""
    text = b"".join(b"line %d\n" % number for number in range(200000))
    peers = [connect(port), connect(port)]
    senders = [threading.Thread(target=peer.sendall, args=(text,), daemon=True) for peer in peers]
    for sender in senders:
        sender.start()
    answers = [bytearray(), bytearray()]
    while unfinished := [at for at in range(2) if len(answers[at]) < len(text)]:
        for at in unfinished:
            more = peers[at].recv(65536)
            if not more:
                return False
            answers[at] += more
    peers[0].shutdown(socket.SHUT_WR)
    ended = peers[0].recv(1) == b""  # the other one stays: the server must end with it, too
    return ended and answers == [text, text]


def check_echo_server(program, engine):
    environment = dict(os.environ, KEEL_ENGINE=engine)
    server = subprocess.Popen([program, "0"], stdout=subprocess.PIPE, text=True, env=environment)
    try:
        said = server.stdout.readline()
        port = re.search(r":(\d+)$", said)
        if port is None:
            yield f"{engine}: the echo server does not say its port, but: {said!r}"
            return
        if not talk(int(port[1])):
            yield f"{engine}: the echo server does not send back what it gets"
        server.send_signal(signal.SIGINT)
        if server.wait(timeout=PATIENCE_S) != 0:
            yield f"{engine}: the echo server ends with {server.returncode} after SIGINT"
    finally:
        server.kill()
        server.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--include", action="append", required=True, help="a folder with keel/ in it")
    parser.add_argument("--compiler", default="cc")
    parser.add_argument("--library", action="append", default=[], help="for the linker; else nothing is run")
    arguments = parser.parse_args()

    compiler = Compiler(arguments.compiler, arguments.include, arguments.library)
    chapters = [chapter for chapter in sorted(FOLDER.glob("*.md")) if blocks(chapter)]
    findings = [finding for chapter in chapters for finding in check_blocks(chapter, compiler)]
    if arguments.library and not findings:
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "echo_server")
            # A part of such a buffer is more than a socket takes at once: sends are cut short.
            code, changed = re.subn(r"\bbuffer\[4096\]", "buffer[1 << 20]", blocks(FOLDER / "kevent.md")[-1])
            assert changed == 1, "the echo server has another buffer than this test knows"
            said = compiler.build(code, program)
            for engine in ["auto", "epoll"] if not said else []:
                findings += check_echo_server(program, engine)
            findings += [said] if said else []
    for finding in findings:
        print(finding)
    count = sum(len(blocks(chapter)) for chapter in chapters)
    print(f"guide: {count} pieces of C, {len(findings)} findings")
    return 1 if findings or not count else 0


if __name__ == "__main__":
    sys.exit(main())
