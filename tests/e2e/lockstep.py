# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Programs of tests/programs/ as clients: the one in lock step (lockstep.c) before all, whose work
two runs do alike; and counting what a server executes for it.

They are in $TW_BUILD/tests, or beside the server."""

import contextlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

from harness import binary

PROGRAM_S = 180
IDLE_S = 300


def program(name):
    return str(Path(os.environ.get("TW_BUILD", Path(binary()).parent)) / "tests" / name)


def run(*argv):
    """Runs a client to its end; what it printed."""
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=PROGRAM_S)
    assert done.returncode == 0, f"{argv} exited with {done.returncode}: {done.stderr}"
    return done.stdout


def lockstep(port, mode, count, window, rounds, size=125, prefix=()):
    run(*prefix, program("lockstep"), mode, port, count, window, rounds, size)


@contextlib.contextmanager
def idle(port, count, tls=False):
    """That many members of /rooms/lockstep, connected, silent."""
    env = {**os.environ, "TW_TLS": "1"} if tls else None
    p = subprocess.Popen([program("lockstep"), "idle", str(port), str(count), str(IDLE_S)],
                         text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env)
    try:
        line = p.stdout.readline()
        assert line == "connected\n", line
        yield
    finally:
        p.kill()
        p.communicate()


def shared_core():
    """What makes a client and a server share a core: a window is there as a whole when a turn of
    the server begins, since its class "batch" (callgrind()) does not interrupt."""
    return ("taskset", "-c", str(max(os.sched_getaffinity(0))))


class Callgrind:
    """Counts the user-space instructions of one program that is started with .prefix."""

    def __init__(self, where):
        self.out = Path(where) / "callgrind"
        self.prefix = (*shared_core(), "chrt", "--batch", "0", "valgrind", "-q", "--tool=callgrind",
                       f"--callgrind-out-file={self.out}")

    def total(self):
        """From its start to its end, which has come."""
        return int(re.search(r"^totals: (\d+)", self.out.read_text(), re.M).group(1))


@contextlib.contextmanager
def callgrind():
    with tempfile.TemporaryDirectory() as where:
        yield Callgrind(where)
