"""What the rules know about keel: the layers, the homes of system headers, and the exemptions."""

PATH = "tests/tidy/house.py"

# Each layer and the layers that its files may include.
LAYERS = {
    "base": [],
    "kevent_sys": ["base"],
    "runtime": ["base", "kevent_sys"],
    "net": ["base", "kevent_sys", "runtime"],
    "fs": ["base", "kevent_sys", "runtime"],
    "testing": ["base", "kevent_sys", "runtime", "net", "fs"],
    "umbrella": ["base", "kevent_sys", "runtime", "net", "fs", "testing"],
}

FILE_LINES = 500
FUNCTION_LINES = 70
LINE_COLUMNS = 110
HEADER_CODE_LINES = 200
EXAMPLE_LINES = 120

# Standard headers that cost every user more than they give (measured: 0.25 to 0.5 s each).
BANNED_IN_PUBLIC_HEADERS = {
    "memory", "functional", "thread", "mutex", "stop_token", "iostream", "ranges", "chrono",
}  # fmt: skip

# The one place that wraps the cheap part of <chrono>, and the one that shows it to users.
CHRONO_HEADERS = {"chrono", "bits/chrono.h"}
CHRONO_HOMES = {"base/chrono.hpp", "runtime/time.hpp"}

# The header for C programs: it may include the system's headers, and stands alone.
C_HEADERS = {"kevent_sys/kevent.h"}

# System headers that have a home: a pattern for the header, and the layers whose sources and private
# headers may include it. No public header may.
SYSTEM_HEADER_HOMES = [
    ("liburing*", ["kevent_sys"]),
    ("linux/io_uring.h", ["kevent_sys"]),
    ("sys/epoll.h", ["kevent_sys"]),
    ("sys/socket.h", ["kevent_sys", "net"]),
    ("netdb.h", ["kevent_sys", "net"]),
    ("fcntl.h", ["kevent_sys", "runtime", "fs"]),
    ("sys/stat.h", ["kevent_sys", "fs"]),
    ("boost/*", ["runtime"]),
]

# Only this layer knows the kernel's asynchronous interfaces by name.
KERNEL_INTERFACE_HOME = "kevent_sys"
KERNEL_INTERFACE_WORDS = r"\b(io_uring|epoll_)\w*"

# Units (header and source) whose test has another name: unit -> (test file, reason).
CALLS = "private; the kevent calls show all of it"
TESTED_ELSEWHERE = {
    "kevent_sys/aio_operations": ("tests/kevent_sys/conformance/aio_test.cpp", CALLS),
    "kevent_sys/file_sends": ("tests/kevent_sys/conformance/sendfile_test.cpp", CALLS),
    "kevent_sys/futex_events": ("tests/kevent_sys/conformance/futex_test.cpp", CALLS),
    "kevent_sys/inode_events": ("tests/kevent_sys/conformance/inode_test.cpp", CALLS),
    "kevent_sys/inode_table": ("tests/kevent_sys/conformance/inode_test.cpp", CALLS),
    "kevent_sys/listener_table": ("tests/kevent_sys/conformance/listener_test.cpp", CALLS),
    "kevent_sys/posix_timers": ("tests/kevent_sys/conformance/posix_timer_test.cpp", CALLS),
    "kevent_sys/process_events": ("tests/kevent_sys/conformance/process_test.cpp", CALLS),
    "kevent_sys/process_watch": ("tests/kevent_sys/conformance/inode_test.cpp", CALLS),
    "kevent_sys/queue_table": ("tests/kevent_sys/conformance/lifecycle_test.cpp", CALLS),
    "kevent_sys/readiness_events": ("tests/kevent_sys/conformance/modes_test.cpp", CALLS),
    "kevent_sys/registration_types": ("tests/kevent_sys/conformance/add_test.cpp", CALLS),
    "kevent_sys/signal_events": ("tests/kevent_sys/conformance/signal_test.cpp", CALLS),
    "kevent_sys/timer_events": ("tests/kevent_sys/conformance/timer_test.cpp", CALLS),
    "kevent_sys/uring_buffers": ("tests/kevent_sys/engine_buffers_test.cpp", "as every engine does it"),
    "kevent_sys/uring_requests": ("tests/kevent_sys/engine_requests_test.cpp", "as every engine does it"),
    "kevent_sys/uring_trial": ("tests/kevent_sys/probe_test.cpp", "private; a probe is what it finds"),
    "runtime/fiber_switch": ("tests/runtime/fiber_test.cpp", "private; a fiber is what it switches to"),
    "runtime/process_launch": ("tests/runtime/process_test.cpp", "private; a spawn shows all of it"),
    "runtime/relocation": ("tests/runtime/resume_on_test.cpp", "private; what moves is seen there"),
    "runtime/unhandled": ("tests/runtime/spawn_test.cpp", "private; its death tests see what it prints"),
}

# Findings to leave alone: (rule, path) -> reason. One that is no longer needed is reported.
EXEMPT = {
    ("public_header_includes", "runtime/std_stop_token.hpp"): "whoever includes it asks for <stop_token>",
}
