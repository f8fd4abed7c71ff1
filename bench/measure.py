"""What the comparisons share: servers on a pinned CPU, their CPU time, medians."""

import os
import pathlib
import shlex
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def choose_cpu():
    """The last CPU we may use: the first ones usually take the interrupts."""
    return max(os.sched_getaffinity(0))


def pinned(command, cpu):
    """`command` on one CPU, as a SCHED_BATCH process: README.md tells why the policy matters."""
    return ["chrt", "--batch", "0", "taskset", "-c", str(cpu)] + [str(word) for word in command]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def parse_servers(options, flag="--server"):
    """['name=command ...'] as {name: [words]}."""
    servers = {}
    for option in options:
        name, separator, command = option.partition("=")
        if not separator or not command:
            sys.exit(f"{flag} {option}: not of the form name=command")
        servers[name] = shlex.split(command)
    return servers


class Server:
    """A server process and its children: accepting after __enter__, ended by pid on __exit__."""

    def __init__(self, command, cpu, **values):
        self.port = free_port()
        values = dict(values, port=self.port)
        self.command = [word.format(**values) if "{" in word else word for word in command]
        self.cpu = cpu

    def __enter__(self):
        self.process = subprocess.Popen(pinned(self.command, self.cpu), stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return self
            except OSError:
                if self.process.poll() is not None:
                    raise RuntimeError(f"{self.command[0]} ended with {self.process.returncode}")
                if time.monotonic() > deadline:
                    self.__exit__()
                    raise RuntimeError(f"{self.command[0]} does not accept on port {self.port}")
                time.sleep(0.02)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def pid(self):
        return self.process.pid

    def pids(self):
        """The server and its direct children (nginx has a master and its worker)."""
        found = [self.pid]
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                try:
                    fields = pathlib.Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                if int(fields[1]) == self.pid:
                    found.append(int(entry))
        return found

    def cpu_seconds(self):
        """CPU time of all threads of all its processes, from the scheduler's nanosecond counters."""
        nanoseconds = 0
        for pid in self.pids():
            for task in pathlib.Path("/proc", str(pid), "task").iterdir():
                try:
                    nanoseconds += int((task / "schedstat").read_text().split()[0])
                except OSError:
                    pass
        return nanoseconds / 1e9

    def anonymous_bytes(self):
        """Resident anonymous memory, counted page by page (VmRSS is an estimate)."""
        kilobytes = 0
        for pid in self.pids():
            for line in pathlib.Path("/proc", str(pid), "smaps_rollup").read_text().splitlines():
                if line.startswith("Anonymous:"):
                    kilobytes += int(line.split()[1])
        return kilobytes * 1024


def median(values):
    return statistics.median(values) if values else float("nan")


def spread_percent(values):
    """Half the distance between the extremes, in % of the median."""
    return 100 * (max(values) - min(values)) / 2 / median(values) if values else float("nan")


def table(header, rows):
    """Prints rows of strings in columns, the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in [header] + rows) for i in range(len(header))]
    for row in [header] + rows:
        print("  ".join(cell.rjust(width) if i else cell.ljust(width)
                        for i, (cell, width) in enumerate(zip(row, widths))))
    sys.stdout.flush()
