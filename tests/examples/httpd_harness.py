"""What the black-box tests of httpd need: a server on a free port, raw clients, and a count of checks."""

import os
import resource
import select
import signal
import socket
import subprocess
import time

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Checks:
    def __init__(self):
        self.passed = 0
        self.failed = 0

    def that(self, name, condition, detail=""):
        if condition:
            self.passed += 1
        else:
            self.failed += 1
            print(f"FAILED: {name}  {detail!r:.300}", flush=True)

    def equal(self, name, actual, expected):
        self.that(name, actual == expected, f"{actual!r:.120} is not {expected!r:.120}")


class NoServer(Exception):
    """httpd did not begin to listen."""


class Server:
    """httpd, started on a free port; ended by its process id when the block ends."""

    def __init__(self, binary, folder, *options, descriptors=None, environment=None):
        def limit():
            if descriptors:
                resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        command = [binary, "--port", "0", *options, folder]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        pipes["env"] = dict(os.environ, **(environment or {}))
        self.process = subprocess.Popen(command, preexec_fn=limit, **pipes)
        ready, _, _ = select.select([self.process.stdout], [], [], 20)
        self.line = self.process.stdout.readline().decode() if ready else ""
        if not self.line.startswith("listening on "):
            self.process.kill()
            raise NoServer(f"httpd does not listen: {self.line!r} {self.process.stderr.read()!r}")
        self.port = int(self.line.rsplit(":", 1)[1])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        died = self.process.poll() not in (None, 0)
        self.process.kill()
        complaints = self.process.communicate()[1].decode(errors="replace")
        if died:
            print(f"httpd died with {self.process.returncode}: {complaints}", flush=True)

    def alive(self):
        return self.process.poll() is None

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def exit_code(self, timeout):
        """None if it has not ended in time."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def settled_descriptors(self, wanted, timeout=5):
        """The number of descriptors, as soon as it is `wanted`, or after the timeout."""
        end = time.monotonic() + timeout
        while self.descriptors() != wanted and time.monotonic() < end:
            time.sleep(0.02)
        return self.descriptors()

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS

    def connect(self, timeout=10):
        client = socket.create_connection(("127.0.0.1", self.port), timeout)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return client

    def exchange(self, request, timeout=10):
        """All that comes back for these bytes until the server closes."""
        with self.connect(timeout) as client:
            try:
                client.sendall(request)
                return read_to_end(client)
            except OSError as error:
                return repr(error).encode()

    def get(self, path, *fields, method="GET"):
        """One request on a connection of its own."""
        with self.connect() as client:
            client.sendall(request_for(path, *fields, method=method))
            return Response(client.makefile("rb"), method)


class Response:
    """One answer, read from a stream that may hold more of them."""

    def __init__(self, stream, method="GET"):
        line = stream.readline().decode("latin-1")
        self.line = line.rstrip("\r\n")
        self.status = int(line.split()[1]) if line.startswith("HTTP/1.1 ") else 0
        self.fields = {}
        while (line := stream.readline().decode("latin-1")) not in ("\r\n", ""):
            name, value = line.split(":", 1)
            self.fields[name.lower()] = value.strip()
        has_body = method != "HEAD" and self.status not in (100, 304, 0)
        self.body = stream.read(self.length) if has_body else b""

    @property
    def length(self):
        return int(self.fields.get("content-length", "0"))


def request_for(path, *fields, method="GET"):
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def read_to_end(client):
    parts = []
    while part := client.recv(1 << 18):
        parts.append(part)
    return b"".join(parts)


def is_closed(client, timeout=5):
    """Whether the server closes the connection; what it still sends is read."""
    client.settimeout(timeout)
    try:
        while client.recv(1 << 16):
            pass
        return True
    except socket.timeout:
        return False
    except OSError:
        return True
