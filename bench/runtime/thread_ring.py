#!/usr/bin/env python3
"""thread-ring: tasks of keel, goroutines, and threads, in turns; what a pass costs each, and the ratios.

    bench/runtime/thread_ring.py [--build build/release] [--passes 10000000] [--rounds 5]

Prints one JSON line per round and program, then one with medians and ratios. `cpu_ns` is CPU time of the
whole process per pass, user and system; `ns` is wall time, which on a busy machine says more about the
neighbours. Go runs with its defaults and with GOMAXPROCS=1; threads make 1/100 of the passes. The bars: keel
takes at most a fifth of what Go takes, and a fiftieth of what threads take.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).parent


def measure(command, passes, environment=None):
    """Runs a program that prints one JSON line; adds the CPU time that it took."""
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    line = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        sys.exit(f"{command[0]} ended with {child.returncode}")
    found = json.loads(line)
    found["cpu_ns"] = round((usage.ru_utime + usage.ru_stime) * 1e9 / passes, 1)
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--passes", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    keel = f"{options.build}/bench/thread_ring"

    with tempfile.TemporaryDirectory() as folder:
        runs = {
            "keel": ([keel, str(options.passes)], options.passes, None),
            "keel_timed": ([keel, str(options.passes), "timed"], options.passes, None),
        }
        if shutil.which("go"):
            program = f"{folder}/thread_ring_go"
            subprocess.run(["go", "build", "-o", program, str(HERE / "thread_ring.go")], check=True)
            command = [program, str(options.passes)]
            runs["go"] = (command, options.passes, None)
            runs["go_one_cpu"] = (command, options.passes, {**os.environ, "GOMAXPROCS": "1"})
        else:
            print("no go here: scripts/setup --bench installs it", file=sys.stderr)
        few = max(options.passes // 100, 1)
        runs["threads"] = ([keel, str(few), "threads"], few, None)

        found = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, (command, passes, environment) in runs.items():
                one = measure(command, passes, environment)
                one["what"] = name
                found[name].append(one)
                print(json.dumps(one), flush=True)

    summary = {"bench": "thread_ring", "what": "ratios to keel, of medians"}
    for unit in ("cpu_ns", "ns"):
        medians = {name: statistics.median(one[unit] for one in ones) for name, ones in found.items()}
        summary[unit] = {name: round(value, 1) for name, value in medians.items()}
        summary[f"{unit}_ratio"] = {
            name: round(value / medians["keel"], 1) for name, value in medians.items() if name != "keel"
        }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
