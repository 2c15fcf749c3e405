# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Runs the load generator once against a server, and says what it saw."""

import json
import subprocess
from typing import NamedTuple

SLACK_S = 60
# How long slow peers may take to deliver what is under way at the end; the others never need it.
GRACE_S = 20


class Cell(NamedTuple):
    """One load. `count` is connections (echo, storm) or subscribers (fanout). A storm has neither
    payload nor window: what is counted are connections that were upgraded."""

    scenario: str
    payload: int
    count: int
    window: int
    tls: bool = False
    resume: bool = False  # of a storm over TLS: the session of the first connection

    def kind(self):
        """What a server must be able to do."""
        return f"{self.scenario}-tls" if self.tls else self.scenario

    def name(self):
        if self.scenario == "storm":
            return f"TLS {'resumed' if self.resume else 'full'} handshakes, {self.count} at once"
        return f"TLS {self.plain_name()}" if self.tls else self.plain_name()

    def short(self):
        """For the axis of a plot."""
        if self.scenario == "storm":
            return "resumed" if self.resume else "full"
        return f"{self.payload}B/{self.count}/{self.window}"

    def plain_name(self):
        size = f"{self.payload // 1024} KiB" if self.payload >= 1024 else f"{self.payload} B"
        if self.scenario == "echo":
            return f"echo {size}, {self.count} connections, {self.window} in flight"
        return f"fan-out {size} to {self.count}, window {self.window}"


class Sample(NamedTuple):
    """rate: messages received a second (deliveries of a fan-out); CPU of the server in microseconds
    a message; busy: the generator was the limit."""

    rate: float
    cpu_us: float
    user_us: float
    system_us: float
    p50_us: float
    p99_us: float
    busy: bool

    def capacity(self):
        """Messages a second of a whole core by the CPU they took."""
        return 1e6 / self.cpu_us if self.cpu_us else None


class LoadFailed(Exception):
    pass


def sample_of(text):
    """From the JSON of a good run."""
    try:
        d = json.loads(text)
    except ValueError:
        raise LoadFailed("the load generator has said nothing that is JSON") from None
    if not d["ok"] or d["server"] is None or d["messages"]["received"] == 0:
        raise LoadFailed(d["failure"] or "nothing was measured")
    return Sample(d["messages"]["received_per_second"], d["server"]["cpu_us_per_message"],
                  d["server"]["cpu_user_us_per_message"], d["server"]["cpu_system_us_per_message"],
                  d["latency_us"]["p50"], d["latency_us"]["p99"], d["generator"]["bottleneck"])


def arguments(cell, port, pid, seconds, warmup_s):
    argv = [cell.scenario, "--url", f"{'wss' if cell.tls else 'ws'}://127.0.0.1:{port}",
            "--duration", f"{int(seconds * 1000)}ms",
            "--warmup", f"{int(warmup_s * 1000)}ms", "--server-pid", str(pid), "--threads", "1",
            "--progress", "off", "--grace", f"{GRACE_S}s", "--json"]
    if cell.tls:
        argv += ["--tls-insecure"]
    if cell.resume:
        argv += ["--tls-resume"]
    if cell.scenario == "storm":
        return [*argv, "--connections", str(cell.count), "--connecting", "16"]
    argv += ["--payload", f"{cell.payload}B", "--window", str(cell.window)]
    if cell.scenario == "echo":
        return [*argv, "--connections", str(cell.count)]
    return [*argv, "--subscribers", str(cell.count)]


def run(program, prefix, cell, server, seconds, warmup_s):
    """A Sample. LoadFailed with the reason when the run was not good or did not end."""
    argv = [*prefix, str(program), *arguments(cell, server.port, server.pid, seconds, warmup_s)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True,
                              timeout=seconds + warmup_s + SLACK_S)
    except subprocess.TimeoutExpired:
        raise LoadFailed("the load generator did not end") from None
    if done.returncode != 0:
        raise LoadFailed(done.stderr.strip().splitlines()[-1] if done.stderr.strip()
                         else f"exit code {done.returncode}")
    return sample_of(done.stdout)
