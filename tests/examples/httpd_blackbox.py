#!/usr/bin/env python3
"""Black-box tests of httpd: what a client, a hostile one too, sees of the program.

    httpd_blackbox.py PATH_OF_HTTPD [NAME_OF_A_TEST ...]

Prints each failed check and, as its last line, `N passed, N failed`. Takes about 40 seconds.
"""

import email.utils
import os
import sys
import tempfile
import time

import httpd_load_tests
from httpd_harness import Checks, NoServer, Response, Server, is_closed, request_for

SMALL = b"".join(b"%06d\n" % i for i in range(100))  # 700 bytes
LARGE_SIZE = 3 << 20


def make_site(folder):
    def write(name, data):
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)

    outside = folder + "_outside"
    os.makedirs(outside)
    with open(os.path.join(outside, "secret"), "wb") as file:
        file.write(b"SECRET")
    write("small.txt", SMALL)
    write("one", b"1")
    write("empty", b"")
    write("large.bin", os.urandom(LARGE_SIZE))
    write("with space & more.html", b"<p>")
    write("sub/index.html", b"INDEX")
    write("sub/page.html", b"PAGE")
    write("list/<b>&'\".txt", b"x")
    write("list/b.txt", b"xx")
    write("list/a.txt", b"xxx")
    write("list/.hidden", b"hidden")
    write(".git/config", b"SECRET")
    os.makedirs(os.path.join(folder, "list", "z"))
    os.symlink("small.txt", os.path.join(folder, "inside"))
    os.symlink(os.path.join(outside, "secret"), os.path.join(folder, "absolute"))
    os.symlink(outside, os.path.join(folder, "leaving"))
    os.symlink("../" + os.path.basename(outside) + "/secret", os.path.join(folder, "relative"))
    os.mkfifo(os.path.join(folder, "fifo"))
    for i in range(20):
        write(f"n/{i}", b"%d" % i * 10)
    with open(os.path.join(folder, "huge"), "wb") as file:
        file.truncate(3 << 30)
        for at, mark in httpd_load_tests.HUGE_MARKS.items():
            file.seek(at)
            file.write(mark)


def test_files(check, server, folder):
    check.equal("listening line", server.line, f"listening on 127.0.0.1:{server.port}\n")
    small = server.get("/small.txt")
    check.equal("status line", small.line, "HTTP/1.1 200 OK")
    check.equal("body", small.body, SMALL)
    check.equal("content type", small.fields["content-type"], "text/plain; charset=utf-8")
    check.equal("from the cache", server.get("/small.txt").body, SMALL)
    check.equal("one byte", server.get("/one").body, b"1")
    check.equal("no byte", (server.get("/empty").status, server.get("/empty").length), (200, 0))
    with open(os.path.join(folder, "large.bin"), "rb") as file:
        check.equal("large file", server.get("/large.bin").body, file.read())
    check.equal("space in a name", server.get("/with%20space%20&%20more.html").body, b"<p>")
    check.equal("query", server.get("/one?x=/../y").body, b"1")
    check.equal("absolute form", server.get("http://localhost/one").body, b"1")
    check.equal("404", server.get("/nothing").status, 404)
    check.equal("file as directory", server.get("/one/").status, 404)
    check.equal("404 keeps the connection", "connection" in server.get("/nothing").fields, False)
    date = email.utils.parsedate_to_datetime(small.fields["date"]).timestamp()
    check.that("date", abs(date - time.time()) < 3, small.fields["date"])
    for path in ("/small.txt", "/large.bin", "/list/", "/nothing"):
        got, head = server.get(path), server.get(path, method="HEAD")
        check.equal(f"HEAD {path}", (head.status, head.length, head.body), (got.status, got.length, b""))


def test_walls(check, server, _):
    def body_and_status(path):
        answer = server.exchange(request_for(path, "Connection: close"))
        return answer, int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0

    up = ["/../", "/..", "/sub/../../", "/%2e%2e/", "/.%2e/", "/%2E%2E%2F", "/..%2f", "/..%5c"]
    names = ["", "site_outside/secret", "etc/passwd", "%2e%2e/etc/passwd"]
    targets = [way + name for way in [*up, "/%252e%252e/"] for name in names]
    targets += ["//etc/passwd", "/%2fetc/passwd", "/sub/%2e%2e/%2e%2e/etc/passwd", "/.git/config"]
    targets += ["/sub//../../etc/passwd", "/leaving/secret", "/leaving/", "/leaving", "/absolute"]
    targets += ["/one%00.txt", "/%00", "/list/.hidden", "/./.git/config", "http://h/../etc/passwd"]
    targets += ["/relative", "/%2egit/config", "/\\..\\..\\x"]
    for target in targets:
        body, status = body_and_status(target)
        is_refused = status in (400, 403, 404) and b"SECRET" not in body and b"root:" not in body
        check.that(f"stays inside: {target}", is_refused, body)
    check.equal("NUL", body_and_status("/one%00")[1], 400)
    check.equal("link that leaves", body_and_status("/absolute")[1], 403)
    check.equal("link inside", server.get("/inside").body, SMALL)
    check.equal("dots inside", server.get("/sub/../n/./7").body, b"7" * 10)
    check.equal("FIFO", server.get("/fifo").status, 403)
    check.equal("hidden", server.get("/.git/config").status, 404)


def test_directories(check, server, _):
    check.equal("index.html", server.get("/sub/").body, b"INDEX")
    moved = server.get("/sub?a=b")
    check.equal("slash is added", (moved.status, moved.fields.get("location")), (301, "/sub/?a=b"))
    check.equal("no way to another host", server.get("//list").fields.get("location"), "/list/")
    page = server.get("/list/")
    check.equal("listing", (page.status, page.fields["content-type"]), (200, "text/html; charset=utf-8"))
    text = page.body.decode()
    order = [text.find(f'href="{name}"') for name in ("../", "z/", "%3Cb%3E%26%27%22.txt", "a.txt", "b.txt")]
    check.that("listing is sorted, links are encoded", -1 not in order and order == sorted(order), text)
    check.that("names are escaped", "&lt;b&gt;&amp;&#39;&quot;.txt</a>" in text and "<b>" not in text, text)
    check.that("hidden names are not listed", "hidden" not in text, text)
    check.that("root", b"list/" in server.get("/").body and b".git" not in server.get("/").body)


def test_conditions(check, server, folder):
    for path in ("/small.txt", "/large.bin"):
        with open(folder + path, "rb") as file:
            data = file.read()
        plain = server.get(path)
        etag, modified = plain.fields["etag"], plain.fields["last-modified"]
        check.equal("If-None-Match", server.get(path, f'If-None-Match: "x", {etag}').status, 304)
        check.equal("If-None-Match *", server.get(path, "If-None-Match: *", method="HEAD").status, 304)
        check.equal("other tag", server.get(path, 'If-None-Match: "x"').body, data)
        check.equal("If-Modified-Since", server.get(path, f"If-Modified-Since: {modified}").status, 304)
        old = server.get(path, "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT")
        check.equal("modified since", old.status, 200)
        check.equal("If-Match", server.get(path, 'If-Match: "x"').status, 412)

        part = server.get(path, "Range: bytes=100-199")
        check.equal("range", (part.status, part.body), (206, data[100:200]))
        check.equal("Content-Range", part.fields["content-range"], f"bytes 100-199/{len(data)}")
        check.equal("suffix", server.get(path, "Range: bytes=-7").body, data[-7:])
        check.equal("to the end", server.get(path, "Range: bytes=650-").body, data[650:])
        check.equal("beyond the end", server.get(path, f"Range: bytes=10-{1 << 70}").body, data[10:])
        late = server.get(path, f"Range: bytes={len(data)}-")
        check.equal("416", (late.status, late.fields["content-range"]), (416, f"bytes */{len(data)}"))
        check.equal("several ranges", server.get(path, "Range: bytes=0-1,3-4").body, data)
        fresh = server.get(path, "Range: bytes=0-1", f"If-Range: {etag}")
        stale = server.get(path, "Range: bytes=0-1", 'If-Range: "x"')
        check.equal("If-Range", (fresh.status, fresh.body, stale.status), (206, data[:2], 200))


def test_changes(check, server, folder):
    path = os.path.join(folder, "changing.txt")
    for text in (b"first", b"second", b"third one"):
        with open(path + ".new", "wb") as file:
            file.write(text)
        os.rename(path + ".new", path)
        time.sleep(1.1)  # the cache looks at a file once per second
        check.equal("the new content", server.get("/changing.txt").body, text)
        check.equal("the new content, again", server.get("/changing.txt").body, text)
    os.remove(path)
    time.sleep(1.1)
    check.equal("a file that is gone", server.get("/changing.txt").status, 404)


def test_connections(check, server, _):
    with server.connect() as client:
        stream = client.makefile("rb")
        for i in range(3):
            client.sendall(request_for("/small.txt"))
            check.equal("keep-alive", Response(stream).body, SMALL)
        client.sendall(b"GET /one HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        check.equal("keep-alive of 1.0", Response(stream).fields.get("connection"), "keep-alive")
        client.sendall(b"GET /one HTTP/1.0\r\n\r\n")
        check.equal("1.0 closes", (Response(stream).body, is_closed(client)), (b"1", True))
    closing = server.exchange(request_for("/one", "Connection: close"))
    check.that("Connection: close", closing.endswith(b"Connection: close\r\n\r\n1"), closing)

    with server.connect() as client:
        client.sendall(b"".join(request_for(f"/n/{i % 20}") for i in range(200)))
        stream = client.makefile("rb")
        bodies = [Response(stream).body for _ in range(200)]
        check.equal("200 pipelined", bodies, [b"%d" % (i % 20) * 10 for i in range(200)])
    with server.connect() as client:
        paths = ["/small.txt", "/large.bin", "/nothing", "/large.bin", "/list/", "/one"]
        client.sendall(b"".join(request_for(path) for path in paths))
        stream = client.makefile("rb")
        sizes = [Response(stream).length for _ in paths]
        expected = [server.get(path).length for path in paths]
        check.equal("pipelined, small and large", sizes, expected)
    with server.connect() as client:
        for byte in request_for("/one", "X: y"):
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        check.equal("byte by byte", Response(client.makefile("rb")).body, b"1")
    chunks = b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    for body in (b"Content-Length: 5\r\n\r\nhello", chunks):
        raw = b"GET /one HTTP/1.1\r\nHost: x\r\n" + body + request_for("/n/3", "Connection: close")
        check.that("a body is skipped", server.exchange(raw).endswith(b"\r\n\r\n3333333333"), body)
    with server.connect() as client:
        client.sendall(request_for("/one", "Content-Length: 2", "Expect: 100-continue"))
        stream = client.makefile("rb")
        check.equal("100", Response(stream).status, 100)
        client.sendall(b"ab")
        check.equal("after 100", Response(stream).body, b"1")


def test_refusals(check, server, _):
    host = b"Host: x\r\n\r\n"
    chunked = b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + host
    cases = {
        "no version": (b"GET /\r\n\r\n", 400),
        "garbage": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        "lower case": (b"get / HTTP/1.1\r\n" + host, 400),
        "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
        "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\n" + host, 400),
        "folded": (b"GET / HTTP/1.1\r\nX: a\r\n b\r\n" + host, 400),
        "space before colon": (b"GET / HTTP/1.1\r\nX : a\r\n" + host, 400),
        "two lengths": (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n" + host, 400),
        "smuggled": (b"GET / HTTP/1.1\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n" + host, 400),
        "percent sign": (b"GET /%zz HTTP/1.1\r\n" + host, 400),
        "no path": (b"GET * HTTP/1.1\r\n" + host, 400),
        "version 2": (b"GET / HTTP/2.0\r\n" + host, 505),
        "unknown method": (b"BREW / HTTP/1.1\r\n" + host, 501),
        "unknown coding": (b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n" + host, 501),
        "long target": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + host, 414),
        "endless target": (b"GET /" + b"a" * 1_000_000, 414),
        "long head": (b"GET / HTTP/1.1\r\nX: " + b"a" * 20_000 + b"\r\n" + host, 431),
        "endless head": (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 100_000, 431),
        "large body": (b"GET / HTTP/1.1\r\nContent-Length: 9999999\r\n" + host + b"a" * 500_000, 413),
        "endless chunks": (chunked + b"5\r\naaaaa\r\n" * 50_000, 413),
    }
    for name, (raw, status) in cases.items():
        answer = server.exchange(raw)
        check.that(name, answer.startswith(b"HTTP/1.1 %d " % status), answer[:80])
        check.that(f"{name}: closes", b"\r\nConnection: close\r\n" in answer, answer[:300])
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"):
        answer = server.get("/small.txt", method=method)
        check.equal(method, (answer.status, answer.fields.get("allow")), (405, "GET, HEAD"))


def test_slow_ones(check, server, _):
    with server.connect() as silent, server.connect() as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        begin = time.monotonic()
        slow.settimeout(0.5)
        while time.monotonic() - begin < 15:
            try:
                slow.sendall(b"X: y\r\n")
                if answer := slow.recv(4096):
                    break
            except TimeoutError:
                continue
        took = time.monotonic() - begin
        check.that("408 in 10 s, however many lines come", answer.startswith(b"HTTP/1.1 408 "), answer)
        check.that("408 in 10 s", 8 < took < 13, took)
        check.that("who says nothing is not kept", is_closed(silent, 3))


def complaints(server):
    """What it said, but for the watchdog: this machine may be busy."""
    lines = server.process.stderr.read().splitlines()
    return [line for line in lines if b"blocked for" not in line]


def main():
    binary, wanted = sys.argv[1], sys.argv[2:]
    tests = [test_files, test_walls, test_directories, test_conditions, test_changes, test_connections]
    tests += [test_refusals, test_slow_ones]
    check = Checks()
    with tempfile.TemporaryDirectory(prefix="keel_httpd_") as parent:
        folder = os.path.join(parent, "site")
        os.makedirs(folder)
        make_site(folder)
        with Server(binary, folder, "--cpus", "2") as server:
            before = server.descriptors()
            for test in tests:
                if not wanted or test.__name__[5:] in wanted:
                    begin = time.monotonic()
                    test(check, server, folder)
                    print(f"{test.__name__[5:]}: {time.monotonic() - begin:.1f} s", flush=True)
            check.equal("no descriptor is left", server.settled_descriptors(before), before)
            server.signal()
            check.equal("exit code", server.exit_code(10), 0)
            check.equal("nothing on standard error", complaints(server), [])
        httpd_load_tests.run_all(check, binary, folder, wanted)
    print(f"{check.passed} passed, {check.failed} failed")
    return 0 if check.failed == 0 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except NoServer as problem:
        print(problem)
        sys.exit(77 if "io_uring" in str(problem) else 1)  # 77: this machine forbids it, nothing was tested
