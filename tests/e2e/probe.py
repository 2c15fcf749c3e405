# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What the tests of limits and operations share: runs of the program that are expected to end,
connections over other sockets, waiting for a counter, the memory of a process, PROXY headers."""

import contextlib
import ipaddress
import os
import re
import signal
import socket
import struct
import subprocess
import time
from pathlib import Path

from harness import binary
from wire import Client, Raw, request

RUN_S = 15.0
SETTLE_S = 5.0


def run(*args, env=None, timeout=RUN_S, **how):
    """Runs the program to its end: exit code, standard output, standard error."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("TIDEWIRE_")}
    done = subprocess.run([binary(), *map(str, args)], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True, timeout=timeout, env={**clean, **(env or {})}, **how)
    return done.returncode, done.stdout, done.stderr


@contextlib.contextmanager
def started(backend, *flags, prefix=(), code=0, **how):
    """A server whose flags the harness would add to; SIGTERM at the end. Gives the process; its
    log so far, line by line, is in .lines, more can be read from .stderr."""
    p = subprocess.Popen([*prefix, binary(), "serve", "--io", backend, "--drain-time", "0", *flags],
                         stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **how)
    try:
        p.lines = []
        for line in p.stderr:
            p.lines.append(line.rstrip("\n"))
            if re.search(r'msg"?[:=]"?ready', line):
                break
        yield p
        p.send_signal(signal.SIGTERM)
        p.lines += p.communicate(timeout=RUN_S)[1].splitlines()
        assert p.returncode == code, f"{p.returncode}: {p.lines[-10:]}"
    finally:
        if p.poll() is None:
            p.kill()
            p.communicate()


def until(what, want, timeout=SETTLE_S):
    """Calls what() until it gives `want`, a value or a predicate; counters are published late."""
    deadline = time.monotonic() + timeout
    while True:
        got = what()
        if want(got) if callable(want) else got == want:
            return got
        assert time.monotonic() < deadline, f"still {got}"
        time.sleep(0.01)


def settled(read):
    """Shards tell their counters a few milliseconds late: reads until nothing changes any more."""
    last = read()
    for _ in range(200):
        time.sleep(0.05)
        value = read()
        if value == last:
            return value
        last = value
    raise AssertionError(f"a counter keeps changing: {last}")


def expect_metric(server, name, want, timeout=SETTLE_S, **labels):
    return until(lambda: server.metric("tidewire_" + name, **labels), want, timeout)


def expect_ends(server, reason, count=1):
    """That many connections have ended for that reason, by the server's own count."""
    return expect_metric(server, "connections_closed_total", count, reason=reason)


def expect_nothing_left(server):
    """No connection, byte or pause is left, as the gauges say; the asking one is the admin's."""
    until(lambda: server.metric("tidewire_connections"), lambda n: n <= 1)
    for gauge in ("websockets", "members", "queue_bytes", "assembly_bytes", "receive_paused"):
        expect_metric(server, gauge, 0)


class Over(Raw):
    """Raw on a socket that is connected already."""

    def __init__(self, sock, host="localhost"):
        self.sock = sock
        self.host = host
        self.buffer = b""
        self.reset = False

    def open(self, path="/echo"):
        answer = self.ask(request(path, self.host))
        assert answer.status == 101, f"{answer}"
        return self


def dial_unix(path, timeout=10.0):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    sock.connect(path)
    return Over(sock)


def dial(port, host="127.0.0.1", source=None, timeout=10.0, rcvbuf=None):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(timeout)
    if rcvbuf:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    if source:
        sock.bind((source, 0))
    sock.connect((host, port))
    return Over(sock, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def is_refused(port, host="127.0.0.1"):
    """Whether nobody listens there. Who asks again and again asks at an address that no other test
    uses: a port that was given up may be another's at once."""
    try:
        dial(port, host).sock.close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # it was given up between the kernel's answer and the accept
    return False


def open_or_code(port, path="/rooms/limits", headers=None):
    """Connects and upgrades: the open client, or None and the code that it was closed with."""
    c = Client(port, path, headers)
    c.send(b"\x89\x80\x00\x00\x00\x00")  # a ping: its pong, or a close frame instead
    f = c.frame()
    if f is not None and f.opcode == 0xA:
        return c, None
    c.sock.close()
    assert f is not None and f.opcode == 8, f"{f}"
    return None, struct.unpack("!H", f.payload[:2])[0]


def private_dirty(pid):
    """Bytes that the process has written, those of huge and of shared pages too."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    kinds = r"^(?:Private_Dirty|Private_Hugetlb|Shared_Dirty): +(\d+)"
    return sum(int(n) for n in re.findall(kinds, text, re.M)) * 1024


def peak_rss(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    raise ValueError("no VmHWM")


def proxy_v1(source, sport=40000, dport=8000):
    family, target = ("TCP6", "::1") if ":" in source else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {source} {target} {sport} {dport}\r\n".encode()


def proxy_v2(source, sport=40000, dport=8000, command=1):
    a = ipaddress.ip_address(source)
    target = ipaddress.ip_address("::1" if a.version == 6 else "127.0.0.1")
    body = a.packed + target.packed + struct.pack("!HH", sport, dport)
    kind = 0x21 if a.version == 6 else 0x11
    head = b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x20 | command, kind, len(body))
    return head + body


def is_sanitized():
    """Whether the server was built with sanitizers, whose memory is no measure."""
    told = subprocess.run([binary(), "version"], capture_output=True, text=True, check=True).stdout
    return "sanitizers: none" not in told
