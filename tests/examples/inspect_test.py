#!/usr/bin/env python3
"""What examples/inspect shows: a tree for people, JSON for programs, and the tree at a signal.

    inspect_test.py PATH_OF_INSPECT
"""

import json
import os
import re
import signal
import subprocess
import sys

BINARY = sys.argv[1]
failures = []


def check(name, condition, detail):
    if not condition:
        failures.append(name)
        print(f"FAILED: {name}\n{detail}")


def test_tree():
    ended = subprocess.run([BINARY], capture_output=True, text=True, timeout=60, check=False)
    if "io_uring" in ended.stderr and ended.returncode != 0:
        sys.exit(77)
    tree = ended.stdout
    check("exit code", ended.returncode == 0, ended.stderr)
    check("main", re.search(r"^└─ main #\d+ waits for the children of a scope, \d+ ms, at "
                            r"examples/inspect.cpp:\d+ in program", tree, re.M), tree)
    check("customers", len(re.findall(r"^   ├─ customer #\d+ waits for a time, .* in think < "
                                      r"examples/inspect.cpp:\d+ in customer", tree, re.M)) == 3, tree)
    check("the others are counted", "... and 5 more in the same place, " in tree, tree)
    check("the watchdog", re.search(r"^keel: scheduler 0 was blocked for \d+ ms by the task 'greedy' #\d+ "
                                    r"after .*, spawned by 'shop' #\d+ < 'main' #\d+", ended.stderr, re.M),
          ended.stderr)
    check("the error", re.search(r"^keel: the task 'careless' #\d+, which nobody joins, ended with: .*\n"
                                 r" +spawned by 'shop' #\d+ < 'main' #\d+", ended.stderr, re.M), ended.stderr)


def test_json():
    ended = subprocess.run([BINARY, "json"], capture_output=True, text=True, timeout=60, check=False)
    dump = json.loads(ended.stdout)
    (scheduler,) = dump["schedulers"]
    check("answered", scheduler["answered"] is True, dump)
    tasks = {task["name"]: task for task in scheduler["tasks"]}
    check("names", {"main", "customer", "inspector"} <= tasks.keys(), dump)
    check("parents", tasks["customer"]["parent"] == tasks["main"]["id"], dump)
    functions = [frame["function"] for frame in tasks["customer"]["frames"]]
    check("frames", functions == ["think", "customer"], dump)
    check("states", (tasks["inspector"]["state"], tasks["customer"]["state"]) == ("running", "waiting"), dump)
    check("counters", scheduler["counters"]["live"] == len(scheduler["tasks"]), dump)
    names = {one["name"]: one for one in scheduler["names"]}
    check("run times", names["greedy"]["longest_ns"] >= 150_000_000, names)
    bars = names["greedy"]["histogram"]
    check("histogram", sum(bar["runs"] for bar in bars) == names["greedy"]["runs"], names)


def test_signal():
    environment = dict(os.environ, KEEL_DUMP_SIGNAL="USR1")
    with subprocess.Popen([BINARY, "wait"], stderr=subprocess.PIPE, text=True, env=environment) as process:
        # What it says before tells that it runs.
        while "careless" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGUSR1)
        said = []
        while not (said and said[-1].startswith("  customer: ")):
            said.append(process.stderr.readline())
        process.send_signal(signal.SIGTERM)
        check("exit code after SIGTERM", process.wait(60) == 0, said)
    tree = "".join(said)
    check("the tree at a signal", re.search(r"customer #\d+ waits for a time, .* in customer", tree), tree)


for test in (test_tree, test_json, test_signal):
    test()
print(f"{len(failures)} failed")
sys.exit(1 if failures else 0)
