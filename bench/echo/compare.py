#!/usr/bin/env python3
"""Compares TCP echo servers by the CPU time they need per request.

Server and load share one CPU, and the servers take turns (A B C A B C ...). The figure is the server's CPU
time over the load's in the same window: it stays put while the machine's speed does not. Lower is better;
"% of limit" is the best ratio of the servers whose name begins with "limit", divided by this one's.

  bench/echo/compare.py                      all servers that are built, 64 connections x 64 bytes
  bench/echo/compare.py --shape 64x64 --shape 64x64@16 --shape 64x16384 --shape 1000x64 --rounds 7
  bench/echo/compare.py --only limit --server 'mine=./my_server {port}'
  bench/echo/compare.py --idle 10000         resident bytes per idle connection instead

A shape is CONNECTIONSxSIZE or CONNECTIONSxSIZE@DEPTH.
"""

import argparse
import json
import pathlib
import re
import resource
import socket
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure  # noqa: E402


def default_servers(build):
    bench = build / "bench"
    known = {
        "limit": [bench / "echo_limit", "{port}"],
        "limit-1024x2k": [bench / "echo_limit", "{port}", "1024", "2048"],
        "keel": [build / "examples/echo_server", "--port", "{port}", "--cpus", "1", "--engine", "uring"],
        "epoll": [bench / "echo_epoll", "{port}"],
        "asio": [bench / "echo_asio", "{port}"],
    }
    return {name: [str(word) for word in command] for name, command in known.items() if command[0].is_file()}


def parse_shape(text):
    match = re.fullmatch(r"(\d+)x(\d+)(?:@(\d+))?", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text}: not CONNECTIONSxSIZE[@DEPTH]")
    return tuple(int(part or 1) for part in match.groups())


def run_once(command, shape, options):
    connections, size, depth = shape
    with measure.Server(command, options.cpu) as server:
        load = [options.build / "bench/echo_load", "127.0.0.1", server.port, connections, size,
                options.seconds, depth, server.pid]
        done = subprocess.run(measure.pinned(load, options.cpu), stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: the load ended with {done.returncode}: {done.stdout.strip()}")
    return json.loads(done.stdout)


def compare(servers, shape, options):
    runs = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, command in servers.items():
            run = run_once(command, shape, options)
            run["ratio"] = run["server_cpu_s"] / run["load_cpu_s"]
            run["server_us"] = run["server_cpu_s"] / run["requests"] * 1e6
            runs[name].append(run)

    def middle(name, key):
        return measure.median([run[key] for run in runs[name]])

    limit = min((middle(name, "ratio") for name in runs if name.startswith("limit")), default=None)
    rows = []
    for name in runs:
        ratios = [run["ratio"] for run in runs[name]]
        result = {
            "bench": "echo", "server": name,
            "connections": shape[0], "size": shape[1], "depth": shape[2], "rounds": len(ratios),
            "ratio": round(middle(name, "ratio"), 4),
            "ratio_min": round(min(ratios), 4), "ratio_max": round(max(ratios), 4),
            "percent_of_limit": round(100 * limit / middle(name, "ratio"), 1) if limit else None,
            "server_us_per_request": round(middle(name, "server_us"), 3),
            "requests": round(middle(name, "requests")),
            "rtt_p50_us": middle(name, "rtt_p50_us"), "rtt_p99_us": middle(name, "rtt_p99_us"),
        }
        print(json.dumps(result))
        rows.append([name, f"{result['ratio']:.3f}", f"{measure.spread_percent(ratios):.1f}",
                     f"{result['percent_of_limit']:.0f}" if limit else "-",
                     f"{result['server_us_per_request']:.2f}", f"{result['rtt_p50_us']:.0f}",
                     f"{result['rtt_p99_us']:.0f}"])
    print(f"\n{shape[0]} connections x {shape[1]} bytes, depth {shape[2]}; medians of {options.rounds}")
    measure.table(["server", "server/load CPU", "+-%", "% of limit", "us/request", "p50 us", "p99 us"], rows)
    print()


def exchange(connection):
    message = b"keel" * 16
    connection.sendall(message)
    back = b""
    while len(back) < len(message):
        piece = connection.recv(len(message) - len(back))
        if not piece:
            sys.exit("the server closed a connection")
        back += piece


def idle(servers, options):
    """What the server's memory grows by for each connection that has been served once and then is silent."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rows = []
    for name, command in servers.items():
        with measure.Server(command, options.cpu) as server:
            connections = []

            def connect(n):
                for _ in range(n):
                    connection = socket.create_connection(("127.0.0.1", server.port))
                    exchange(connection)
                    connections.append(connection)

            connect(128)  # what is made once, like the first use of shared buffers, is not counted
            before = server.anonymous_bytes()
            connect(options.idle)
            each = (server.anonymous_bytes() - before) / options.idle
            for connection in connections:
                connection.close()
        print(json.dumps({"bench": "echo_idle", "server": name, "connections": options.idle,
                          "bytes_per_connection": round(each, 1)}))
        rows.append([name, f"{each:.0f}"])
    print()
    measure.table(["server", "bytes per idle connection"], rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build/release")
    parser.add_argument("--server", action="append", default=[], metavar="NAME=COMMAND",
                        help="one more, with {port} in its command")
    parser.add_argument("--only", action="append", metavar="NAME", help="of the known servers, only these")
    parser.add_argument("--shape", action="append", type=parse_shape)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--cpu", type=int, default=measure.choose_cpu())
    parser.add_argument("--idle", type=int, metavar="CONNECTIONS")
    options = parser.parse_args()
    options.build = options.build.resolve()

    servers = default_servers(options.build)
    if options.only is not None:
        servers = {name: servers[name] for name in options.only if name in servers}
    servers.update(measure.parse_servers(options.server))
    if not servers:
        sys.exit(f"nothing to compare: is {options.build}/bench built?")
    if options.idle:
        idle(servers, options)
    else:
        for shape in options.shape or [(64, 64, 1)]:
            compare(servers, shape, options)


if __name__ == "__main__":
    main()
