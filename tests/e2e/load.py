# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Runs tidewire-load, built beside the server."""

import json
import os
import subprocess
from pathlib import Path

from harness import binary

RUN_S = 60


def program():
    return str(Path(os.environ.get("TW_BUILD", Path(binary()).parent)) / "tidewire-load")


def run(*argv, timeout=RUN_S):
    """The finished process: returncode, stdout, stderr."""
    return subprocess.run([program(), *(str(a) for a in argv)], capture_output=True, text=True,
                          timeout=timeout, check=False)


def load(scenario, port, *flags, code=0):
    """The JSON result of a short run, which must exit with `code`."""
    done = run(scenario, "--url", f"ws://127.0.0.1:{port}", "--json", *flags)
    assert done.returncode == code, f"exit code {done.returncode}: {done.stderr}{done.stdout}"
    return json.loads(done.stdout)
