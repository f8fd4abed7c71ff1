#!/usr/bin/env python3
"""What 100 quiet connections of an echo server feel when one floods it: the server on a CPU of its own.

  bench/echo/flood.py                keel on both engines, and the peers that are built; 3 rounds in turns
  bench/echo/flood.py --floods 4 --rounds 5 --only keel
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure  # noqa: E402


def servers_of(build):
    keel = [build / "examples/echo_server", "--port", "{port}", "--cpus", "1", "--engine"]
    known = {
        "keel": [*keel, "uring"],
        "keel-epoll": [*keel, "epoll"],
        "epoll": [build / "bench/echo_epoll", "{port}"],
        "asio": [build / "bench/echo_asio", "{port}"],
    }
    built = {name: words for name, words in known.items() if words[0].is_file()}
    return {name: [str(word) for word in words] for name, words in built.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build/release")
    parser.add_argument("--only", action="append")
    parser.add_argument("--quiet", type=int, default=100)
    parser.add_argument("--floods", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()

    cpu = measure.choose_cpu()
    others = sorted(measure.os.sched_getaffinity(0) - {cpu}) or [cpu]
    servers = {n: c for n, c in servers_of(options.build).items() if not options.only or n in options.only}
    runs = {name: [] for name in servers}
    for _ in range(options.rounds):
        for name, command in servers.items():
            with measure.Server(command, cpu) as server:
                load = ["taskset", "-c", ",".join(map(str, others)), options.build / "bench/echo_flood",
                        "127.0.0.1", server.port, options.quiet, options.floods, options.seconds]
                command = [str(word) for word in load]
                done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            runs[name].append(json.loads(done.stdout))
    for name, found in runs.items():
        row = {key: round(statistics.median(run[key] for run in found), 2)
               for key in ("idle_p50_us", "idle_p99_us", "p50_us", "p99_us", "p99_ratio")}
        print(json.dumps({"server": name, **row, "rounds": len(found)}))


if __name__ == "__main__":
    main()
