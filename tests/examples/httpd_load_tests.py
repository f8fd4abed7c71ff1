"""The second half of httpd_blackbox.py: many clients, large files, full tables, and the end."""

import os
import re
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time

from httpd_harness import Response, Server, is_closed, read_to_end, request_for

HUGE_MARKS = {0: b"begin", (1 << 31) - 3: b"middle", (3 << 30) - 3: b"end"}


def test_huge_file(check, server, _):
    """3 GiB, holes but for three marks: compared in pieces, as they come."""
    zeros = bytes(1 << 20)
    with server.connect(30) as client:
        client.sendall(request_for("/huge"))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        stream = client.makefile("rb", buffering=0)
        text = b""
        while not text.endswith(b"\r\n\r\n"):
            text += stream.read(1)
        check.that("length", b"Content-Length: %d\r\n" % (3 << 30) in text, text)
        at, wrong, buffer = 0, [], bytearray(1 << 20)
        while at < 3 << 30 and (size := client.recv_into(buffer)):
            marks = [mark for mark in HUGE_MARKS if mark < at + size and mark + 6 > at]
            for mark in marks:
                for i, byte in enumerate(HUGE_MARKS[mark]):
                    if at <= mark + i < at + size:
                        wrong += [mark] if buffer[mark + i - at] != byte else []
                        buffer[mark + i - at] = 0
            if memoryview(buffer)[:size] != memoryview(zeros)[:size]:
                wrong.append(at)
            at += size
        check.equal("all bytes came", at, 3 << 30)
        check.equal("and they are right", wrong, [])
    part = server.get("/huge", f"Range: bytes={(1 << 31) - 3}-{(1 << 31) + 2}")
    check.equal("a part beyond 2 GiB", part.body, b"middle")


def latencies(server, count):
    times = []
    with server.connect() as client:
        stream = client.makefile("rb")
        for _ in range(count):
            begin = time.perf_counter()
            client.sendall(request_for("/small.txt"))
            Response(stream)
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def test_slowloris(check, server, _):
    quiet = latencies(server, 300)
    clients = [server.connect() for _ in range(500)]
    try:
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: ")
        for client in clients:
            client.sendall(b"y")
        busy = latencies(server, 300)
        check.that("500 slow clients slow nobody", busy < 2 * quiet + 0.001, (quiet, busy))
    finally:
        for client in clients:
            client.close()


def test_killed_clients(check, server, _):
    latencies(server, 1)
    before = server.settled_descriptors(-1, 0.3)
    code = (
        "import socket,time,sys\n"
        f"s = socket.create_connection(('127.0.0.1', {server.port}))\n"
        "s.sendall(b'GET /huge HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')\n"
        "s.recv(100000); print(flush=True); time.sleep(60)\n"
    )
    for _ in range(2):
        downloads = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) for _ in range(8)]
        for process in downloads:
            process.stdout.readline()
        check.that("downloads hold descriptors", server.descriptors() >= before + 16, server.descriptors())
        for process in downloads:
            process.kill()
            process.communicate()
        check.equal("killed clients leave none", server.settled_descriptors(before), before)


def test_truncated_file(check, server, folder):
    path = os.path.join(folder, "shrinking")
    with open(path, "wb") as file:
        file.truncate(64 << 20)
    with server.connect() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        client.sendall(request_for("/shrinking"))
        received = len(client.recv(1 << 16))
        os.truncate(path, 1000)
        try:
            received += len(read_to_end(client))
        except OSError:
            pass
        check.that("a truncated download breaks off", received < 64 << 20, received)
    check.equal("and the server lives", server.get("/shrinking").length, 1000)


def burst(server, count):
    """That many clients at once, each with one request that keeps the connection: how many get an answer?"""
    clients = [server.connect() for _ in range(count)]
    for client in clients:
        client.sendall(request_for("/small.txt"))
        client.setblocking(False)
    answered, waiting, end = 0, set(clients), time.monotonic() + 15
    while waiting and time.monotonic() < end:
        for client in select.select(list(waiting), [], [], 0.2)[0]:
            try:
                answered += client.recv(4096).startswith(b"HTTP/1.1 200 ")
            except OSError:
                pass
            waiting.discard(client)
            client.close()
    for client in waiting:
        client.close()
    return answered


def test_few_descriptors(check, binary, folder):
    with Server(binary, folder, "--cpus", "1", descriptors=64) as server:
        before = server.descriptors()
        clients = []
        for _ in range(200):
            client = server.connect()
            client.sendall(b"GET /large.bin HTTP/1.1\r\nHost: x\r\n")
            clients.append(client)
        time.sleep(0.5)
        used = server.cpu_seconds()
        time.sleep(2)
        used = server.cpu_seconds() - used
        check.that("full: does not spin", used < 0.05 * 2, used)
        check.that("full: within its limit", server.descriptors() <= 64, server.descriptors())
        for client in clients[:100]:
            client.sendall(b"\r\n")
        statuses = []
        for client in clients[:10]:
            answer = Response(client.makefile("rb"))
            statuses.append((answer.status, len(answer.body)))
        check.equal("full: who is in is served", statuses, [(200, 3 << 20)] * 10)
        for client in clients:
            client.close()
        begin = time.monotonic()
        check.equal("recovers", server.get("/large.bin").status, 200)
        check.that("recovers soon", time.monotonic() - begin < 3, time.monotonic() - begin)
        check.equal("200 clients get their turn", burst(server, 200), 200)
        check.equal("no descriptor is left", server.settled_descriptors(before), before)
        server.signal()
        check.equal("exit code", server.exit_code(10), 0)


def test_connection_cap(check, binary, folder):
    with Server(binary, folder, "--cpus", "1", "--max-connections", "3") as server:
        first = [server.connect() for _ in range(3)]
        for client in first:
            client.sendall(b"GET /one HTTP/1.1\r\n")
        time.sleep(0.2)
        with server.connect(0.5) as fourth:
            fourth.sendall(request_for("/one"))
            try:
                waited = fourth.recv(100) == b""
            except TimeoutError:
                waited = True
            check.that("the fourth of three waits", waited)
            first[0].close()
            fourth.settimeout(5)
            check.that("until there is a place", fourth.recv(100).startswith(b"HTTP/1.1 200 "))
        for client in first:
            client.close()


def load(server, stop, failures):
    """Requests on keep-alive connections until the server ends them, between two answers."""
    while not stop.is_set():
        try:
            with server.connect(5) as client:
                stream = client.makefile("rb")
                while True:
                    client.sendall(request_for("/small.txt"))
                    if not stream.peek(1):
                        break
                    if (answer := Response(stream)).status != 200 or len(answer.body) != 700:
                        failures.append(answer.line)
                    if answer.fields.get("connection") == "close":
                        break
        except OSError:
            time.sleep(0.01)


def test_stop_under_load(check, binary, folder):
    for number in (signal.SIGTERM, signal.SIGINT):
        with Server(binary, folder, "--cpus", "2") as server:
            stop, failures = threading.Event(), []
            threads = [threading.Thread(target=load, args=(server, stop, failures)) for _ in range(8)]
            for thread in threads:
                thread.start()
            time.sleep(1)
            begin = time.monotonic()
            server.signal(number)
            check.equal(f"exit code after {number.name}", server.exit_code(10), 0)
            check.that("busy clients do not delay it", time.monotonic() - begin < 3, time.monotonic() - begin)
            stop.set()
            for thread in threads:
                thread.join()
            check.equal("no answer was damaged", failures, [])


def start_download(server, path="/huge"):
    client = server.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
    client.sendall(request_for(path))
    return client, client.recv(1 << 16)


def test_graceful_stop(check, binary, folder):
    with Server(binary, folder, "--cpus", "1") as server:
        idle = server.connect()
        idle.sendall(request_for("/one"))
        Response(idle.makefile("rb"))
        client, received = start_download(server, "/large.bin")
        server.signal()
        check.that("idle connections close at once", is_closed(idle, 2))
        received += read_to_end(client)
        body = received.split(b"\r\n\r\n", 1)[1]
        check.equal("what is in flight is finished", len(body), 3 << 20)
        check.equal("then it ends", server.exit_code(3), 0)
        client.close()

    with Server(binary, folder, "--cpus", "1") as server:
        client, _ = start_download(server)
        server.signal()
        time.sleep(0.3)
        check.that("a stalled download holds it", server.alive())
        try:
            server.connect(1).close()
            check.that("nobody is let in any more", False)
        except OSError:
            check.that("nobody is let in any more", True)
        begin = time.monotonic()
        server.signal()
        check.equal("a second signal ends it", server.exit_code(3), 0)
        check.that("now", time.monotonic() - begin < 1, time.monotonic() - begin)
        client.close()

    with Server(binary, folder, "--cpus", "1") as server:
        client, _ = start_download(server)
        begin = time.monotonic()
        server.signal()
        check.equal("the grace ends", server.exit_code(13), 0)
        check.that("after 10 s", 8 < time.monotonic() - begin < 12, time.monotonic() - begin)
        client.close()


def complaint(binary, *arguments):
    done = subprocess.run([binary, *arguments], capture_output=True, timeout=20, check=False)
    return done.returncode, done.stderr.decode(), done.stdout


def test_complaints(check, binary, folder):
    with Server(binary, folder, "--cpus", "2") as server:
        for cpus in ("1", "2"):
            code, text, output = complaint(binary, "--port", str(server.port), "--cpus", cpus, folder)
            check.equal("port in use", (code, output, text.count("\n")), (1, b"", 1))
            wanted = f"httpd: cannot listen on 127.0.0.1:{server.port}: Address already in use\n"
            check.equal("one clear line", text, wanted)
    code, text, _ = complaint(binary, folder + "/nothing")
    check.that("no folder", code == 1 and text.count("\n") == 1 and "No such file" in text, (code, text))
    code, text, _ = complaint(binary, "--address", "nowhere", folder)
    check.that("no address", code == 1 and "'nowhere'" in text, (code, text))
    for wrong in (["--cpus", "0", folder], ["--cpus", "x", folder], ["--port", "70000", folder], []):
        code, text, _ = complaint(binary, *wrong)
        check.that(f"options: {wrong}", code == 1 and text, (code, text))


def test_log(check, binary, folder):
    with Server(binary, folder, "--cpus", "1", "--log", "--hidden") as server:
        server.get("/one")
        server.get("/one")
        check.equal("--hidden", server.get("/.git/config").body, b"SECRET")
        server.exchange(b"GET /\x1b[31m\r\n\r\n")
        server.get("/large.bin", "Range: bytes=0-9")
        server.signal()
        server.exit_code(10)
        lines = server.process.stderr.read().decode().splitlines()
        ends = [line.split('"', 1)[1] for line in lines]
        wanted = ['GET /one HTTP/1.1" 200 1'] * 2 + ['GET /.git/config HTTP/1.1" 200 6']
        wanted += ['GET /\\x1b[31m" 400 0', 'GET /large.bin HTTP/1.1" 206 10']
        check.equal("access log", ends, wanted)
        check.that("client and date", all(line.startswith("127.0.0.1 - - [") for line in lines), lines)


def test_dump_signal(check, binary, folder):
    with Server(binary, folder, "--cpus", "2", environment={"KEEL_DUMP_SIGNAL": "USR1"}) as server:
        stop, failures = threading.Event(), []
        threads = [threading.Thread(target=load, args=(server, stop, failures)) for _ in range(4)]
        for thread in threads:
            thread.start()
        silent = [server.connect() for _ in range(20)]
        time.sleep(1)
        server.signal(signal.SIGUSR1)
        time.sleep(1)
        check.that("it goes on serving", server.get("/small.txt").status == 200)
        server.signal(signal.SIGTERM)
        check.equal("exit code", server.exit_code(15), 0)
        stop.set()
        for thread in threads:
            thread.join()
        for client in silent:
            client.close()
        tree = server.process.stderr.read().decode()
        patterns = {
            "each scheduler": (r"^scheduler [01] on \w+: ", 2),
            "the main tasks": (r"^[├└]─ main #\d+ waits for the children of a scope, .* in serve_on", 2),
            "who accepts": (r"client #\d+ waits for a connection, .*, at httpd/server.cpp:\d+ in accept", 1),
            "clients": (r"client #\d+ waits for bytes, .*, at httpd/connection.cpp:\d+ in \w+ < .*", 2),
            "the silent ones": (r"\.\.\. and \d+ more in the same place", 1),
            "run times": (r"^  client: \d+ tasks, [\d,]+ runs of ", 1),
        }
        for name, (pattern, at_least) in patterns.items():
            check.that(f"the dump: {name}", len(re.findall(pattern, tree, re.M)) >= at_least, tree)
        check.that("a person can read it", len(tree.splitlines()) < 60, tree)


def run_all(check, binary, folder, wanted):
    def run(test, *arguments):
        if not wanted or test.__name__[5:] in wanted:
            begin = time.monotonic()
            test(check, *arguments)
            print(f"{test.__name__[5:]}: {time.monotonic() - begin:.1f} s", flush=True)

    with Server(binary, folder, "--cpus", "2") as server:
        for test in (test_huge_file, test_slowloris, test_killed_clients, test_truncated_file):
            run(test, server, folder)
    for test in (test_few_descriptors, test_connection_cap, test_stop_under_load, test_graceful_stop):
        run(test, binary, folder)
    for test in (test_dump_signal, test_complaints, test_log):
        run(test, binary, folder)
