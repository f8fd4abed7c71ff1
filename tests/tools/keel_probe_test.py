#!/usr/bin/env python3
"""Tests of keel-probe, as a user runs it.

    keel_probe_test.py PATH_OF_KEEL_PROBE PATH_OF_FORBID_IO_URING

Prints each failed check and, as its last line, `N passed, N failed, N skipped`.
"""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile

PROBE, FORBID = sys.argv[1:3]
NOBODY = 65534
passed = failed = skipped = 0


def check(good, promise, seen=""):
    global passed, failed
    if good:
        passed += 1
    else:
        failed += 1
        print(f"FAILED: {promise}\n{seen}")


def skip(reason):
    global skipped
    skipped += 1
    print(f"skipped: {reason}")


class Run:
    def __init__(self, *arguments, engine=None, sandbox=(), program=PROBE, **how):
        environment = {k: v for k, v in os.environ.items() if k != "KEEL_ENGINE"}
        if engine is not None:
            environment["KEEL_ENGINE"] = engine
        command = ([FORBID, *sandbox] if sandbox else []) + [program, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, **how)
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def last_line(self):
        return self.out.rstrip("\n").rpartition("\n")[2]

    @property
    def json(self):
        return json.loads(self.out)

    def __str__(self):
        return f"exit code {self.code}\n{self.out}{self.err}"


def can_filter():
    return Run("--version", sandbox=("EPERM", "setup")).code != 77


def test_report():
    run = Run()
    check(run.code == 0, "it works here: 0", run)
    for word in ("kernel", "engine", "because", "setup", "register", "enter", "locked memory", "epoll_pwait2",
                 "pidfd_open", "futex_waitv", "descriptors", "io_uring_disabled"):  # fmt: skip
        check(f"\n  {word} " in run.out, f"the report has a line for {word}", run)
    check(run.last_line.startswith("verdict: keel works here"), "the last line is the verdict", run)
    if "refused" not in run.out:
        check("READ_MULTISHOT" in run.out, "it shows the requests that keel makes", run)
        check("DEFER_TASKRUN" in run.out, "it shows the flags that were obtained", run)


def test_json():
    seen = Run("--json").json
    check(seen["works"] is True, "json: works", seen)
    check(seen["engine"] in ("uring", "epoll"), "json: the engine's name", seen)
    check(seen["kernel"] == os.uname().release, "json: the kernel's release", seen)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limits = (seen["descriptors"], seen["descriptors_max"])
    check(limits == (soft, hard), "json: the limits of descriptors", seen)
    check(isinstance(seen["io_uring"]["requests"], dict), "json: the requests", seen)


def test_command_line():
    check(Run("--nonsense").code == 2, "a wrong option: 2")
    check(Run("--engine", "select").code == 2, "a wrong engine: 2")
    check(Run("--help").code == 0, "--help: 0")
    version = Run("--version")
    check(version.code == 0 and version.out.strip()[:1].isdigit(), "--version", version)


def test_environment():
    run = Run(engine="nonsense")
    check(run.code == 1, "an unknown KEEL_ENGINE: 1", run)
    choices = "use KEEL_ENGINE=auto, KEEL_ENGINE=uring or KEEL_ENGINE=epoll"
    check(choices in run.err, "its choices are listed", run)
    run = Run("--json", engine="epoll")
    check(run.json["engine"] == "epoll", "KEEL_ENGINE=epoll is heard", run)
    check(run.json["io_uring"]["setup"] is None, "and leaves io_uring alone", run)
    run = Run("--json", "--engine", "epoll", engine="uring")
    check(run.json["reason"] == "asked for by the program", "an option beats the environment", run)


def test_refused():
    for error, number in (("EPERM", 1), ("ENOSYS", 38)):
        for call in ("setup", "register", "enter"):
            where = f"{error} {call}"
            seen = Run("--json", sandbox=(error, call))
            check(seen.code == 0, f"{where}: epoll works: 0", seen)
            check(seen.json["engine"] == "epoll", f"{where}: epoll", seen)
            check(seen.json["io_uring"][call] == number, f"{where}: the errno is reported", seen)
            check(seen.json["io_uring"]["refused_call"] == f"io_uring_{call}", f"{where}: the call", seen)
            check("seccomp" in seen.json["io_uring"]["likely_cause"], f"{where}: the likely cause", seen)
            check(seen.err.count("keel: ") == 1, f"{where}: one message on stderr", seen)
    run = Run(sandbox=("EPERM", "setup"))
    check("refused: Operation not permitted (1)" in run.out, "the report shows the errno", run)
    check("only with epoll" in run.last_line, "and the verdict says what is left", run)
    run = Run(engine="uring", sandbox=("EPERM", "setup"))
    check(run.code == 1, "who insists on io_uring: 1", run)
    check(run.last_line.startswith("verdict: keel does not work here"), "and no verdict in favour", run)


def test_killed():
    check(Run(sandbox=("KILL", "all")).code == -signal.SIGSYS, "the filter kills")
    run = Run("--json", engine="epoll", sandbox=("KILL", "all"))
    check(run.code == 0 and run.json["engine"] == "epoll", "A3: KEEL_ENGINE=epoll: no call that kills", run)


def test_privileged(folder):
    """L2: who starts a program with more rights than his own does not choose its engine."""
    copy = shutil.copy(PROBE, folder)
    os.chmod(copy, 0o4755)
    if os.geteuid() != 0 or os.statvfs(folder).f_flag & os.ST_NOSUID:
        return skip("no program with the rights of root can be made here")
    for engine in (None, "uring", "nonsense"):
        run = Run("--json", engine=engine, program=copy, user=NOBODY, group=NOBODY, extra_groups=[])
        check(run.code == 0 and run.json["more_rights"], "L2: it notices its rights", run)
        check(run.json["engine"] == "epoll", "L2: epoll, whatever KEEL_ENGINE says", run)
        check("more rights than its user" in run.json["reason"], "L2: and says why", run)
        check(run.err.count("keel: ") == 1, "L2: one message on stderr", run)


def test_little_memory():
    """A4: a user whose lockable memory is used up."""
    if os.geteuid() != 0:
        return skip("this process may not become another user")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = shutil.copy(PROBE, folder)
        for limit in (0, 64 * 1024):
            def limited(limit=limit):
                resource.setrlimit(resource.RLIMIT_MEMLOCK, (limit, limit))

            run = Run("--json", program=copy, user=NOBODY, group=NOBODY, extra_groups=[], preexec_fn=limited)
            check(run.code == 0, f"A4: {limit} bytes of lockable memory: it works", run)
            check(run.json["memlock_bytes"] == limit, "A4: the limit is reported", run)
            if run.json["engine"] == "epoll":
                cause = run.json["io_uring"].get("likely_cause", "ulimit -l")
                check("ulimit -l" in cause, "A4: the cause", run)


def main():
    test_report()
    test_json()
    test_command_line()
    test_environment()
    if can_filter():
        test_refused()
        test_killed()
    else:
        skip("no seccomp filter can be set here")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        test_privileged(folder)
    test_little_memory()
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


sys.exit(main())
