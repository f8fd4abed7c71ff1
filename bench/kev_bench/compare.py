#!/usr/bin/env python3
"""Compares ways to collect events by the CPU time that the reading thread needs for one.

All run in turns (A B C A B C ...), both threads on one CPU as SCHED_BATCH. Printed are medians, and how many
times cheaper than edge-triggered epoll each way is. Exits 1 when kevent misses a bar.

  bench/kev_bench/compare.py                         pipes, Unix sockets and TCP, 5 rounds of 2 s
  bench/kev_bench/compare.py --kind inet --rounds 9 --only epoll-et --only kevent-completion
"""

import argparse
import json
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import measure  # noqa: E402

WAYS = {
    "epoll-et": ["--backend", "epoll", "--et"],
    "epoll": ["--backend", "epoll"],
    "uring": ["--backend", "uring"],
    "busy": ["--backend", "busy"],
    "kevent-completion": ["--backend", "kevent"],
    "kevent-et": ["--backend", "kevent", "--et"],
    "kevent-default": ["--backend", "kevent", "--mode", "default"],
}

# (kind, way): how many times cheaper than epoll-et it has to be at least.
BARS = {
    ("pipe", "kevent-completion"): 1.15,
    ("pipe", "kevent-et"): 0.97,
    ("inet", "kevent-completion"): 1.25,
    ("inet", "kevent-et"): 1.0,
}
BUSY_BAR = 3.0  # than busy, for completion and et
SYSTEM_CALLS_BAR = 0.1  # per event, for completion
LIMIT = "uring"  # hand-written: where it misses a bar itself, the machine does not allow it


def run_once(way, kind, options):
    command = [options.build / "bench/kev_bench", *WAYS[way], "--kind", kind, "-n", options.n,
               "--seconds", options.seconds, "--cpu", options.cpu]
    if options.unread:
        command += ["--unread", options.unread]
    done = subprocess.run(measure.pinned(command, options.cpu), stdout=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"{way} on {kind} ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def judge(kind, cost, system_calls):
    """Yields (bar, value, wanted, passed) for what was measured."""
    base, busy, limit = cost.get("epoll-et"), cost.get("busy"), cost.get(LIMIT)
    for (bar_kind, way), wanted in BARS.items():
        if bar_kind == kind and base and way in cost:
            reached = f" ({LIMIT}: {base / limit:.2f})" if limit else ""
            value = base / cost[way]
            yield f"{kind}: {way} than epoll-et{reached}", value, wanted, value >= wanted
    for way in ("kevent-completion", "kevent-et"):
        if busy and way in cost:
            reached = f" ({LIMIT}: {busy / limit:.2f})" if limit else ""
            value = busy / cost[way]
            yield f"{kind}: {way} than busy{reached}", value, BUSY_BAR, value >= BUSY_BAR
    calls = system_calls.get("kevent-completion")
    if calls is not None:
        yield f"{kind}: system calls per event", calls, SYSTEM_CALLS_BAR, calls < SYSTEM_CALLS_BAR


def compare(kind, ways, options):
    runs = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            runs[way].append(run_once(way, kind, options))

    def middle(way, key):
        values = [run[key] for run in runs[way] if run[key] is not None]
        return measure.median(values) if values else None

    cost = {way: middle(way, "reader_ns") for way in ways}
    calls = {way: middle(way, "system_calls") for way in ways}
    base = cost.get("epoll-et")
    rows = []
    for way in ways:
        result = {"bench": "kev_compare", "kind": kind, "way": way, "rounds": options.rounds,
                  "reader_ns": round(cost[way], 1), "than_epoll_et": base and round(base / cost[way], 3),
                  "events_s": round(middle(way, "events_s")), "system_calls": calls[way],
                  "events_per_call": middle(way, "events_per_call"),
                  "latency_p99_us": middle(way, "latency_p99_us")}
        print(json.dumps(result), flush=True)
        spread = measure.spread_percent([run["reader_ns"] for run in runs[way]])
        rows.append([way, f"{cost[way]:.0f}", f"{spread:.1f}", f"{base / cost[way]:.2f}" if base else "-",
                     f"{result['events_s']}", f"{result['events_per_call']:.1f}",
                     "-" if calls[way] is None else f"{calls[way]:.3f}", f"{result['latency_p99_us']:.0f}"])
    print(f"\n{kind}, {options.n} handles; medians of {options.rounds}")
    measure.table(["", "reader ns/event", "+-%", "x than epoll-et", "events/s", "events/call", "calls/event",
                   "p99 us"], rows)
    verdicts = list(judge(kind, cost, calls))
    for bar, value, wanted, passed in verdicts:
        print(f"{'ok    ' if passed else 'MISSED'} {bar}: {value:.2f}, bar {wanted:.2f}")
    print()
    return all(passed for *_, passed in verdicts)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=pathlib.Path, default=measure.ROOT / "build/release")
    parser.add_argument("--kind", action="append", choices=["pipe", "unix", "inet"])
    parser.add_argument("--only", action="append", choices=list(WAYS), help="only these ways")
    parser.add_argument("-n", type=int, default=2000, help="handles")
    parser.add_argument("--unread", type=int, help="bytes that may wait to be read, in all")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--cpu", type=int, default=measure.choose_cpu())
    options = parser.parse_args()
    ways = [way for way in WAYS if options.only is None or way in options.only]
    passed = [compare(kind, ways, options) for kind in options.kind or ["pipe", "unix", "inet"]]
    sys.exit(0 if all(passed) else 1)


if __name__ == "__main__":
    main()
