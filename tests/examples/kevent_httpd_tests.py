"""What clients, hostile ones too, see of examples/kevent/kev_httpd."""

import contextlib
import os
import resource
import shutil
import socket
import struct
import subprocess
import tempfile
import threading

from httpd_harness import Response, Server, is_closed, request_for

BIG = 64 << 20
MANY = 10_000


def make_site(folder):
    files = {"small.txt": b"small\n", "index.html": b"INDEX", "empty": b"", "sub/index.html": b"SUB",
             "sub/a b.txt": b"space", ".hidden": b"SECRET", "one": b"1"}
    for name, data in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)
    with open(os.path.join(folder, "big.bin"), "wb") as file:
        for _ in range(BIG >> 20):
            file.write(os.urandom(1 << 20))
    with open(folder + "_secret", "wb") as file:
        file.write(b"SECRET")
    os.symlink("../site_secret", os.path.join(folder, "leaving"))
    os.symlink(os.path.abspath(folder + "_secret"), os.path.join(folder, "absolute"))
    os.symlink("small.txt", os.path.join(folder, "inside"))
    os.mkfifo(os.path.join(folder, "fifo"))


def test_files(check, server, folder):
    small = server.get("/small.txt")
    check.equal("httpd: status", small.line, "HTTP/1.1 200 OK")
    check.equal("httpd: body", small.body, b"small\n")
    check.equal("httpd: type", small.fields["content-type"], "text/plain; charset=utf-8")
    for path, body in (("/", b"INDEX"), ("/empty", b""), ("/sub/", b"SUB"), ("/sub/a%20b.txt", b"space"),
                       ("/inside", b"small\n"), ("/one?x=/../y", b"1"), ("//one", b"1")):
        answer = server.get(path)
        check.equal(f"httpd: {path}", (answer.status, answer.body), (200, body))
    for path in ("/small.txt", "/nothing", "/big.bin"):
        got, head = server.get(path), server.get(path, method="HEAD")
        check.equal(f"httpd: HEAD {path}", (head.status, head.length), (got.status, got.length))
        raw = server.exchange(request_for(path, "Connection: close", method="HEAD"))
        check.that(f"httpd: HEAD {path} has no body", raw.endswith(b"\r\n\r\n"), raw[-40:])
    check.equal("httpd: 404", server.get("/nothing").status, 404)
    check.equal("httpd: a folder is no file", server.get("/sub").status, 404)
    check.equal("httpd: a FIFO is no file", server.get("/fifo").status, 404)
    if shutil.which("curl"):
        url = f"http://127.0.0.1:{server.port}/big.bin"
        fetched = subprocess.run(["curl", "-sf", url], stdout=subprocess.PIPE, timeout=60, check=False).stdout
        with open(os.path.join(folder, "big.bin"), "rb") as file:
            check.that("httpd: 64 MiB by curl", fetched == file.read(), len(fetched))


def test_walls(check, server, _):
    names = ["site_secret", "etc/passwd"]
    ways = ["/../", "/..//", "/sub/../../", "/%2e%2e/", "/.%2e/", "/%2E%2E%2F", "/..%2f", "/..%5c"]
    ways += ["/%252e%252e/", "/./../", "/\\..\\"]
    targets = [way + name for way in ways for name in names] + ["/leaving", "/absolute", "/.hidden", "/%00"]
    targets += ["/small.txt%00", "/small.txt%", "/%zz", "/%2ehidden", "/sub/../.hidden", "/.", "/..", "/%0a"]
    for target in targets:
        answer = server.exchange(request_for(target, "Connection: close"))
        refused = answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
        check.that(f"httpd: stays inside: {target}", refused and b"SECRET" not in answer, answer)


def test_refusals(check, server, _):
    def status_of(request):
        answer = server.exchange(request)
        return int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else answer

    for name, status, request in (
        ("no host", 400, b"GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", 400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("no version", 400, b"GET /\r\n\r\n"),
        ("another version", 400, b"GET / HTTP/3.0\r\nHost: a\r\n\r\n"),
        ("no colon", 400, b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n"),
        ("a folded line", 400, b"GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n"),
        ("a space in a name", 400, b"GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        ("NUL", 400, b"GET / HTTP/1.1\r\nHost: a\0\r\n\r\n"),
        ("no slash", 400, b"GET small.txt HTTP/1.1\r\nHost: a\r\n\r\n"),
        ("bytes", 400, bytes(range(255, 127, -1)) + b"\r\n\r\n"),
        ("POST", 405, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
        ("lower case", 405, b"get / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        ("a head without end", 431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 2000),
    ):  # fmt: skip
        check.equal(f"httpd: {name}", status_of(request), status)
    check.that("httpd: 405 says what goes", b"Allow: GET, HEAD" in server.exchange(
        request_for("/", "Connection: close", method="PUT")))
    smuggled = request_for("/one", "Content-Length: 40") + request_for("/small.txt")
    check.equal("httpd: a body is no request", server.exchange(smuggled).count(b"HTTP/1.1 "), 1)


def test_connections(check, server, _):
    with server.connect() as client:
        stream = client.makefile("rb")
        bodies = {"/one": b"1", "/small.txt": b"small\n", "/nothing": b"Not Found\n"}
        for path, body in [*bodies.items(), ("/one", b"1")]:
            client.sendall(request_for(path))
            check.equal(f"httpd: keep-alive, {path}", Response(stream).body, body)
        client.sendall(request_for("/one") * 50 + request_for("/small.txt", "Connection: close"))
        bodies = [Response(stream).body for _ in range(51)]
        check.equal("httpd: pipelined, in order", bodies, [b"1"] * 50 + [b"small\n"])
        check.that("httpd: closed when asked to", is_closed(client))
    with server.connect() as client:
        for byte in request_for("/one"):
            client.sendall(bytes([byte]))
        check.equal("httpd: byte by byte", Response(client.makefile("rb")).body, b"1")
    old = server.exchange(b"GET /one HTTP/1.0\r\n\r\n")
    check.that("httpd: HTTP/1.0 is closed", old.endswith(b"\r\n\r\n1"), old)
    with server.connect() as client:
        client.sendall(b"GET /one HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
        stream = client.makefile("rb")
        check.equal("httpd: HTTP/1.0 may be kept", [Response(stream).body for _ in range(2)], [b"1", b"1"])


def abort(client):
    """Closes with a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_aborts(check, server, _):
    big = request_for("/big.bin")
    for sent, read in ((b"", 0), (b"GET /bi", 0), (big, 0), (big, 1 << 20), (big * 3, 100)):
        for _ in range(10):
            client = server.connect()
            client.sendall(sent)
            while read > 0 and (part := client.recv(min(read, 1 << 16))):
                read -= len(part)
            abort(client)
    check.equal("httpd: served after aborts", server.get("/one").body, b"1")


def test_idle(check, binary, folder):
    with Server(binary, folder, "--idle", "1") as server:
        before = server.descriptors()
        with server.connect() as stalled:
            stalled.sendall(request_for("/big.bin"))
            stalled.recv(1)
            count = server.settled_descriptors(before, 10)
            check.equal("httpd: who does not read is closed, and the file too", count, before)
        with server.connect() as silent, server.connect() as slow:
            slow.sendall(b"GET / HT")
            check.that("httpd: who says nothing is closed", is_closed(silent, 10))
            check.that("httpd: who does not finish is closed", is_closed(slow, 10))
        with server.connect() as client:
            client.sendall(request_for("/one"))
            check.equal("httpd: others are served", Response(client.makefile("rb")).body, b"1")


def test_many(check, binary, folder):
    """Far more connections than files may be open: the sends take turns."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    many = min(MANY, (hard - 200) * 3 // 4 - 200)
    if many < MANY:
        print(f"httpd: {many} connections instead of {MANY}: ulimit -n")
    with Server(binary, folder) as server, contextlib.ExitStack() as stack:
        before = server.descriptors()
        clients = [stack.enter_context(server.connect(60)) for _ in range(many)]
        for client in clients:
            client.sendall(request_for("/small.txt"))
        answers = [Response(client.makefile("rb")).body for client in clients]
        check.equal(f"httpd: {many} connections at once", answers.count(b"small\n"), many)
        check.equal("httpd: none was closed", server.descriptors() - before, many)
        stack.close()
        check.equal("httpd: all are gone", server.settled_descriptors(before, 30), before)
        server.signal()
        check.equal("httpd: exit code after many", server.exit_code(20), 0)
    with Server(binary, folder, "--connections", "2") as server:
        with server.connect() as first, server.connect(), server.connect(60) as third:
            third.sendall(request_for("/one"))
            first.close()
            check.equal("httpd: beyond its limit they wait", Response(third.makefile("rb")).body, b"1")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_end_under_load(check, binary, folder):
    for number in (2, 15):
        with Server(binary, folder) as server, contextlib.ExitStack() as stack:
            stalled = [stack.enter_context(server.connect()) for _ in range(20)]
            for client in stalled:
                client.sendall(request_for("/big.bin"))
                client.recv(1)

            def keep_asking():
                with contextlib.suppress(OSError, ValueError, IndexError):
                    while server.get("/big.bin").status == 200:
                        pass

            threads = [threading.Thread(target=keep_asking) for _ in range(2)]
            for thread in threads:
                thread.start()
            check.equal("httpd: serves under load", server.get("/one").body, b"1")
            server.signal(number)
            check.equal(f"httpd: exit code, signal {number} under load", server.exit_code(10), 0)
            for thread in threads:
                thread.join()


def test_end_with_many(check, binary, folder):
    """More requests on their way than a queue has room for events."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for _ in range(3):
        with Server(binary, folder) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect(60)) for _ in range(min(3000, hard // 3))]
            for client in clients:
                client.sendall(request_for("/small.txt") * 20)
            server.signal()
            check.equal("httpd: exit code with many on their way", server.exit_code(20), 0)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def run_all(check, binary):
    with tempfile.TemporaryDirectory(prefix="keel_kev_httpd_") as parent:
        folder = os.path.join(parent, "site")
        os.makedirs(folder)
        make_site(folder)
        with Server(binary, folder) as server:
            before = server.descriptors()
            for test in (test_files, test_walls, test_refusals, test_connections, test_aborts):
                test(check, server, folder)
            check.equal("httpd: no descriptor is left", server.settled_descriptors(before, 10), before)
            server.signal()
            check.equal("httpd: exit code", server.exit_code(10), 0)
            check.equal("httpd: nothing on standard error", server.process.stderr.read(), b"")
        for test in (test_idle, test_many, test_end_under_load, test_end_with_many):
            test(check, binary, folder)
