#!/usr/bin/env python3
"""Compares static HTTP servers by requests per second of server CPU time.

Server (one worker) and wrk share one CPU, and the servers take turns (A B C A B C ...). Higher is better;
"x best peer" is a server's figure over the best of those that are not keel, in the same row.

  bench/http/compare.py                      700-byte file, keep-alive, 64 connections
  bench/http/compare.py --row all            every row below
  bench/http/compare.py --row 1m-keep --only keel --only lighttpd --rounds 7
  bench/http/compare.py --server 'mine=./my_httpd {port} {files}'
"""

import argparse
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent

# name: (file, connections, keep-alive)
ROWS = {
    "700-keep": ("small.html", 64, True),
    "700-keep-1000": ("small.html", 1000, True),
    "1m-keep": ("large.bin", 16, True),
    "700-close": ("small.html", 64, False),
    "1m-close": ("large.bin", 16, False),
}

OPEN_FILE_CACHE = "open_file_cache max=1000 inactive=60s; open_file_cache_valid 60s;"


def make_files(folder):
    folder.mkdir()
    (folder / "small.html").write_bytes(bytes(32 + i % 90 for i in range(700)))
    (folder / "large.bin").write_bytes(bytes(range(256)) * 4096)


class Http(measure.Server):
    """Fills in the server's configuration, which needs the port, before it starts."""

    def __init__(self, command, cpu, files, work, config=None, words=None):
        super().__init__(command, cpu, files=files, work=work)
        if config:
            text = (HERE / config).read_text()
            values = {"PORT": self.port, "FILES": files, "WORK": work, "CACHE": ""} | words
            for word, value in values.items():
                text = text.replace(f"@{word}@", str(value))
            (work / config).write_text(text)


def default_servers(build):
    """{name: (command, configuration file or None, its words)} of what is installed."""
    path = "/usr/sbin:/usr/bin:/sbin:/bin"
    nginx, lighttpd = shutil.which("nginx", path=path), shutil.which("lighttpd", path=path)
    httpd = build / "examples/httpd"
    nginx_command = [nginx, "-e", "stderr", "-p", "{work}", "-c", "{work}/nginx.conf"]
    servers = {}
    if httpd.is_file():
        servers["keel"] = ([str(httpd), "--port", "{port}", "--cpus", "1", "{files}"], None, {})
    if nginx:
        servers["nginx"] = (nginx_command, "nginx.conf", {})
        servers["nginx-cache"] = (nginx_command, "nginx.conf", {"CACHE": OPEN_FILE_CACHE})
    if lighttpd:
        servers["lighttpd"] = ([lighttpd, "-D", "-f", "{work}/lighttpd.conf"], "lighttpd.conf", {})
    return servers


def run_wrk(url, connections, keep_alive, seconds, cpu):
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    if not keep_alive:
        command += ["-H", "Connection: close"]
    done = subprocess.run(measure.pinned(command + [url], cpu), stdout=subprocess.PIPE, text=True, check=True)
    requests = re.search(r"(\d+) requests in", done.stdout)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", done.stdout)
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    # wrk calls it a read error when a server closes a connection whose answer asked for that.
    counted = [int(n) for n in errors.groups()] if errors else [0, 0, 0, 0]
    failures = counted[0] + counted[2] + counted[3] + (counted[1] if keep_alive else 0)
    return int(requests.group(1)), failures + (int(bad.group(1)) if bad else 0)


def run_once(server, row, options, files, work):
    command, config, words = server
    file, connections, keep_alive = ROWS[row]
    with Http(command, options.cpu, files, work, config, words) as running:
        url = f"http://127.0.0.1:{running.port}/{file}"
        body = subprocess.run(["curl", "-sS", "--fail", url], stdout=subprocess.PIPE, check=True).stdout
        if body != (files / file).read_bytes():
            sys.exit(f"{command[0]} sent a wrong body for {file}")
        before = running.cpu_seconds()
        requests, failures = run_wrk(url, connections, keep_alive, options.seconds, options.cpu)
        cpu_seconds = running.cpu_seconds() - before
    return {"rate": requests / cpu_seconds, "requests": requests, "failures": failures}


def compare(servers, row, options, files, work):
    runs = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, server in servers.items():
            runs[name].append(run_once(server, row, options, files, work))

    rate = {name: measure.median([run["rate"] for run in runs[name]]) for name in runs}
    best = max((rate[name] for name in rate if not name.startswith("keel")), default=None)
    rows = []
    for name in runs:
        rates = [run["rate"] for run in runs[name]]
        failures = sum(run["failures"] for run in runs[name])
        print(json.dumps({
            "bench": "http", "row": row, "server": name, "rounds": len(rates),
            "requests_per_cpu_s": round(rate[name]), "min": round(min(rates)), "max": round(max(rates)),
            "of_best_peer": round(rate[name] / best, 3) if best else None, "failures": failures}))
        rows.append([name, f"{rate[name]:,.0f}", f"{measure.spread_percent(rates):.1f}",
                     f"{rate[name] / best:.2f}" if best else "-", str(failures)])
    file, connections, keep_alive = ROWS[row]
    print(f"\n{row}: /{file}, {connections} connections, "
          f"{'keep-alive' if keep_alive else 'one request per connection'}; medians of {options.rounds}")
    measure.table(["server", "requests/server CPU s", "+-%", "x best peer", "failures"], rows)
    print()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build/release")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND",
                        help="one more, with {port} and {files} in its command")
    parser.add_argument("--only", action="append", metavar="NAME", help="of the known servers, only these")
    parser.add_argument("--row", action="append", choices=[*ROWS, "all"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--cpu", type=int, default=measure.choose_cpu())
    options = parser.parse_args()

    servers = default_servers(options.build.resolve())
    if options.only is not None:
        servers = {name: servers[name] for name in options.only if name in servers}
    for name, command in measure.parse_servers(options.server).items():
        servers[name] = (command, None, {})
    if not servers:
        sys.exit("nothing to compare")
    rows = options.row or ["700-keep"]
    with tempfile.TemporaryDirectory(prefix="keel-bench-") as folder:
        work = pathlib.Path(folder)
        work.chmod(0o755)  # a server that gives up its privileges must still read the files
        make_files(work / "files")
        for row in ROWS if "all" in rows else rows:
            compare(servers, row, options, work / "files", work)


if __name__ == "__main__":
    main()
