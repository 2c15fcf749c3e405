# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Starts and stops the real server for the end-to-end tests.

The binary is $TW_BINARY, or build/release/tidewire. A server listens on free ports, which are read
from its log; it is stopped by SIGTERM and must then have exited with 0 and said nothing that a
sanitizer says.
"""

import http.client
import os
import queue
import re
import shlex
import signal
import subprocess
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("uring", "epoll")
START_S = 20.0
STOP_S = 30.0
SANITIZER_MARKS = ("Sanitizer", "runtime error:", "SUMMARY:")


def binary():
    path = Path(os.environ.get("TW_BINARY", ROOT / "build" / "release" / "tidewire"))
    if not os.access(path, os.X_OK):
        raise FileNotFoundError(f"{path} is missing: build first, or set TW_BINARY")
    return str(path)


def parse_logfmt(line):
    """`a=1 msg="two words"` as a dict; an empty one when the line is no logfmt."""
    try:
        parts = shlex.split(line)
    except ValueError:
        return {}
    return dict(part.split("=", 1) for part in parts if "=" in part)


def port_of(address):
    return int(address.rsplit(":", 1)[1])


def parse_metrics(text):
    """Prometheus text as {'name{labels}': value}."""
    values = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            values[name] = float(value)
    return values


class Server:
    """One tidewire process. Attributes: port, tls_port, admin_port, process, lines (its log so far)."""

    def __init__(self, backend, *flags, port=0, env=None, prefix=()):
        self.backend = backend
        self.flags = flags
        self.port = None
        self.admin_port = None
        self.tls_port = None
        self.lines = []
        self._more = queue.Queue()
        self._terminated = False
        argv = [*prefix, binary(), "serve", "--port", str(port),
                "--admin-address", "127.0.0.1:0", "--io", backend, *flags]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=subprocess.PIPE, text=True, errors="replace",
                                        env={**os.environ, **(env or {})})
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        try:
            self._wait_ready()
        except Exception:
            self.kill()
            raise

    def _read_log(self):
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            self._more.put(line)
        self._more.put(None)

    def _wait_ready(self):
        deadline = time.monotonic() + START_S
        while True:
            try:
                line = self._more.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise TimeoutError("not ready in time:\n" + self.log()) from None
            if line is None:
                raise RuntimeError(f"exited with {self.process.wait()}:\n" + self.log())
            if self._note(parse_logfmt(line)):
                return

    def _note(self, fields):
        msg, address = fields.get("msg"), fields.get("address", "")
        if msg == "listening" and self.port is None and address.rpartition(":")[2].isdigit():
            self.port = port_of(address)
        if msg == "TLS listening" and self.tls_port is None:
            self.tls_port = port_of(address)
        if msg == "admin listening" and self.admin_port is None:
            self.admin_port = port_of(address)
        return msg == "ready"

    def log(self):
        return "\n".join(self.lines[-60:])

    def is_alive(self):
        return self.process.poll() is None

    def get(self, path, port=None):
        """Status and body of a GET, by default on the admin address. The server ends the connection,
        so that among those that their peers end is none of ours."""
        conn = http.client.HTTPConnection("127.0.0.1", port or self.admin_port, timeout=10)
        try:
            conn.request("GET", path, headers={"Connection": "close"})
            answer = conn.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace")
        finally:
            conn.close()

    def metrics(self):
        status, text = self.get("/metrics")
        assert status == 200, f"/metrics answered {status}"
        return parse_metrics(text)

    def metric(self, name, **labels):
        """The sum over all series of that name that carry these labels."""
        wanted = {key: str(value) for key, value in labels.items()}
        total = 0.0
        for key, value in self.metrics().items():
            base, _, rest = key.partition("{")
            have = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            if base == name and wanted.items() <= have.items():
                total += value
        return total

    def kill(self):
        """SIGKILL, as when the machine fails; nothing is asserted."""
        self.process.kill()
        self.process.wait()
        self._reader.join(5)
        self.process.stderr.close()

    def terminate(self):
        """SIGTERM: the server begins to drain. Once only: a second one would make it exit now."""
        if not self._terminated:
            self._terminated = True
            self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM, if it was not sent yet; asserts that the server left as it should."""
        if self.process.stderr.closed:
            return
        self.terminate()
        try:
            code = self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"still running {STOP_S} s after SIGTERM:\n{self.log()}") from None
        self._reader.join(5)
        self.process.stderr.close()
        bad = [line for line in self.lines if any(mark in line for mark in SANITIZER_MARKS)]
        assert not bad, "sanitizer output:\n" + "\n".join(self.lines[-200:])
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log()}"
