# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Arms the module tests/preload/fail_nth.c in a server: which call fails, with what."""

import errno
import mmap
import os
import struct
import tempfile
from pathlib import Path

from harness import ROOT

NAMES = ("heap", "mmap", "accept", "recv", "send", "epoll_create", "epoll_ctl", "epoll_wait",
         "socket", "bind", "listen", "setsockopt", "getsockname", "eventfd", "fcntl", "dup",
         "fopen", "getrandom", "pthread_create", "uring_init", "uring_register", "uring_probe",
         "uring_submit", "uring_accept", "uring_recv", "uring_send", "uring_bell")
SHORT = 1000  # instead of an errno: only a part is taken
RULE = struct.Struct("<16sQQQQIIQ")  # struct rule of the module
CALLS, FIRST, EVERY, FAILED, ERROR, CHANCE, SEED = 16, 24, 32, 40, 48, 52, 56


def module():
    build = Path(os.environ.get("TW_BUILD", ROOT / "build" / "test"))
    path = build / "tests" / "fail_nth.so"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: build the tests first, or set TW_BUILD")
    return str(path)


class Faults:
    """The rules of one server, in a file that both map."""

    def __init__(self):
        fd, self.path = tempfile.mkstemp(prefix="faults-")
        os.write(fd, b"".join(RULE.pack(n.encode(), 0, 0, 0, 0, 0, 0, 0) for n in NAMES))
        self.map = mmap.mmap(fd, len(NAMES) * RULE.size)
        os.close(fd)
        self.env = {"LD_PRELOAD": module(), "FAIL_NTH": self.path}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.map.close()
        os.unlink(self.path)

    def _put(self, name, offset, value, form="<Q"):
        struct.pack_into(form, self.map, NAMES.index(name) * RULE.size + offset, value)

    def _get(self, name, offset):
        return struct.unpack_from("<Q", self.map, NAMES.index(name) * RULE.size + offset)[0]

    def arm(self, name, first=0, every=0, error=errno.ENOMEM, chance=0, seed=0):
        """From now on the call numbered first, each every-th after it, and chance of a million."""
        self.disarm(name)
        self._put(name, FAILED, 0)
        self._put(name, EVERY, every)
        self._put(name, ERROR, error, "<I")
        self._put(name, SEED, seed)
        self._put(name, CALLS, 0)
        self._put(name, FIRST, first)
        self._put(name, CHANCE, chance, "<I")

    def disarm(self, name):
        self._put(name, FIRST, 0)
        self._put(name, CHANCE, 0, "<I")

    def calls(self, name):
        return self._get(name, CALLS)

    def failed(self, name):
        return self._get(name, FAILED)
