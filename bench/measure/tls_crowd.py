# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Many TLS handshakes at once, and what they take of a server's memory at the peak."""

import re
import selectors
import socket
import ssl
import time
from pathlib import Path
from typing import NamedTuple

COUNT = 1000
ADDRESSES = 50  # one address has but a quarter of the slots
PATIENCE_S = 60
HOLD_S = 0.1  # answers are held back until the slots are full, and no longer than a stalled one has


class Found(NamedTuple):
    slots: int
    bytes: int


def status_bytes(server, field):
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(rf"^{field}:\s+(\d+) kB", text, re.M).group(1)) * 1024


def forget_peak(server):
    """proc(5), clear_refs: VmHWM begins anew."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


class Shake:
    """One client's handshake, over a socket that never blocks."""

    def __init__(self, port, index, context):
        self.sock = socket.socket()
        self.sock.bind((f"127.0.1.{1 + index % ADDRESSES}", 0))
        self.sock.connect(("127.0.0.1", port))
        self.sock.setblocking(False)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.is_done = False
        self._step()

    def _step(self):
        try:
            self.tls.do_handshake()
            self.is_done = True
        except ssl.SSLWantReadError:
            pass

    def send(self):
        self.sock.sendall(self.outgoing.read())

    def receive(self):
        """Computes the answer, and keeps it."""
        data = self.sock.recv(65536)
        if not data:
            raise SystemExit("a handshake was refused")
        self.incoming.write(data)
        self._step()


def running(server):
    return int(server.metric("tidewire_tls_handshakes_running"))


def shake_all(server):
    """Opens COUNT connections, sends all ClientHellos, and goes on when the slots are full. Returns
    the most slots seen in use, and the bytes at the peak over what there was before."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    shakes = [Shake(server.tls_port, i, context) for i in range(COUNT)]
    running(server)  # the memory of that answer is none of theirs
    forget_peak(server)
    before = status_bytes(server, "VmRSS")
    for s in shakes:
        s.send()
    time.sleep(HOLD_S)
    slots = running(server)
    finish(shakes)
    peak = status_bytes(server, "VmHWM")
    for s in shakes:
        s.sock.close()
    return Found(slots, peak - before)


def finish(shakes):
    deadline = time.monotonic() + PATIENCE_S
    with selectors.DefaultSelector() as selector:
        for s in shakes:
            selector.register(s.sock, selectors.EVENT_READ, s)
        while selector.get_map():
            if time.monotonic() > deadline:
                raise SystemExit(f"{len(selector.get_map())} handshakes never ended")
            for key, _ in selector.select(1):
                s = key.data
                s.receive()
                s.send()
                if s.is_done:
                    selector.unregister(s.sock)
