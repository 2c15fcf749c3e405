# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What a result has to say about where it was made, and what a measurement needs of there."""

import os
import platform
import re
import resource
import signal
import subprocess
from pathlib import Path


def first_line(*argv):
    try:
        done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=20)
    except OSError:
        return None
    lines = (done.stdout + done.stderr).strip().splitlines()
    return lines[0] if lines else None


def cpu_model():
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    return found.group(1) if found else platform.machine()


def describe():
    return {
        "kernel": platform.release(),
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        "load_before": os.getloadavg()[0],
    }


def end_by_sigterm():
    """As by Ctrl-C, so that nothing that was started stays behind."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def allow_descriptors():
    """As many as may be had, to all that is started from here: not every server asks for them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def versions(build, bun):
    return {
        "tidewire": first_line(build / "tidewire", "version"),
        "bun": first_line(bun, "--version"),
        "node": first_line("node", "--version"),
        "nginx": first_line("nginx", "-v"),
    }
