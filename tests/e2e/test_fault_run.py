# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Allocations and system calls fail while the server serves: whom it concerns is refused or closed
with its code, everybody else is served right, accepting goes on, and nothing leaks.

TW_LONG=1 fails every single call instead of a part of them."""

import errno
import os

import pytest

from faults import SHORT, Faults
from harness import SANITIZER_MARKS, Server
from peers import Ended, Peer, Room, check_gauges, private_dirty_kib
from wire import TEXT, Raw

LONG = bool(os.environ.get("TW_LONG"))
FLAGS = ("--echo", "--shards", "2", "--drain-time", "0", "--compress", "on", "--compress-min", "0",
         "--max-message", "1MiB", "--tcp-sndbuf", "64KiB", "--mesh-slots", "16")
REFUSAL_CODES = (1011, 1013)  # out of memory; full
REFUSAL_STATUSES = (500, 503)


class Load:
    """A mixture of everything, one client after the other, and what became of them."""

    def __init__(self, server):
        self.server = server
        self.refused = []  # codes or statuses; None: without a word
        self.ended = []
        self.peers = []
        self.echoes = [self.must_open("/echo"), self.must_open("/echo", deflate=True)]
        self.rooms = [Room([self.must_open(f"/rooms/{name}", deflate=i == 2) for i in range(4)])
                      for name in ("a", "b")]
        for room in self.rooms:
            assert not room.round()

    def must_open(self, path, **how):
        peer = Peer(self.server.port, path, **how).open()
        self.peers.append(peer)
        return peer

    def may_open(self, path, **how):
        try:
            return self.must_open(path, **how)
        except Ended as e:
            self.refused.append(e.code)
            return None

    def may(self, peer, action, *args, **how):
        """What a client does, if it is still there."""
        if peer is None or not peer.is_open:
            return
        try:
            action(peer, *args, **how)
        except Ended as e:
            self.ended.append(e.code)

    def round(self, room, size=24):
        for peer in room.round(size):
            self.ended.append(peer.code)

    def run(self):
        for peer in self.echoes:
            for size in (24, 125, 5000, 70_000):
                self.may(peer, Peer.echo, size)
            self.may(peer, Peer.echo, 200_000, fragments=5)
            self.may(peer, Peer.echo_cut, 3000)
            self.may(peer, Peer.ping)
        for room in self.rooms:
            for size in (24, 2000, 70_000):
                self.round(room, size)
        self.newcomers()
        self.slow_reader()
        self.http()

    def newcomers(self):
        for i in range(12):
            path = f"/rooms/new-{i % 9}" if i % 4 else "/echo"
            peer = self.may_open(path, deflate=i % 2 == 1)
            if peer is not None and i % 4 == 0:
                self.may(peer, Peer.echo, 300)
            elif peer is not None:
                self.round(Room([peer]), 300)

    def slow_reader(self):
        """Lets the server's queue for it grow before it reads."""
        path = f"/rooms/slow-{len(self.peers)}"
        slow = self.may_open(path, rcvbuf=32768)
        fast = self.may_open(path)
        if slow is None or fast is None:
            return
        self.round(Room([slow, fast]))
        self.may(fast, self._talk, slow)

    def _talk(self, fast, slow):
        said = [b"%d|" % i + b"x" * 40_000 for i in range(8)]
        for data in said:
            fast.say(data)
            assert fast.next() == (TEXT, data)
        self.may(slow, self._listen, said)

    def _listen(self, slow, said):
        for data in said:
            assert slow.next() == (TEXT, data)

    def http(self):
        for path, status in (("/", 200), ("/nowhere", 404)):
            try:
                with Raw(self.server.port) as c:
                    c.send(f"GET {path} HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode())
                    answer = c.response()
                    if answer.status != status:
                        self.refused.append(answer.status)
            except (AssertionError, ConnectionError):
                self.refused.append(None)

    def finish(self):
        """Without faults again: who is left is served, and so is who comes."""
        for peer in self.echoes:
            if peer.is_open:
                peer.echo(500)
        for room in self.rooms:
            assert not room.round()
        self.must_open("/echo").echo(500)
        assert not Room([self.must_open("/rooms/after") for _ in range(3)]).round()
        for peer in self.peers:
            peer.leave()
        check_gauges(self.server)
        assert self.server.is_alive(), self.server.log()

    def check_all_well(self, what):
        assert not self.ended and not self.refused, f"{what}: {self.ended} {self.refused}"

    def check_codes(self, what):
        """Nobody was closed or refused without being told why."""
        assert set(self.ended) <= set(REFUSAL_CODES), f"{what}: ended {self.ended}"
        assert set(self.refused) <= {*REFUSAL_CODES, *REFUSAL_STATUSES, None}, \
            f"{what}: refused {self.refused}"


class Faulty:
    """A server whose calls can be made to fail."""

    def __init__(self, backend):
        self.faults = Faults()
        self.server = Server(backend, *FLAGS, env=self.faults.env)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        try:
            if kind is None:
                self.server.stop()
            else:
                self.server.kill()
                print(self.server.log())
        finally:
            self.faults.__exit__()

    def run(self, rule, first=0, every=0, error=errno.ENOMEM, chance=0, seed=0):
        """One load under one fault. Returns it, how many calls there were and how many failed."""
        load = Load(self.server)
        self.faults.arm(rule, first, every, error, chance, seed)
        try:
            load.run()
        finally:
            self.faults.disarm(rule)
        calls, failed = self.faults.calls(rule), self.faults.failed(rule)
        load.finish()
        return load, calls, failed


def is_sanitized(server):
    """AddressSanitizer's own allocator is not to be made to fail."""
    with open(f"/proc/{server.process.pid}/maps", encoding="ascii") as f:
        return any("[heap]" not in line and "asan" in line for line in f)


def steps(count, most):
    """1, 2, 3, ..., thinned out towards count; all of them when there is time."""
    if LONG or count <= most:
        return list(range(1, count + 1))
    return sorted({1 + round((count - 1) * (i / (most - 1)) ** 1.5) for i in range(most)})


# Memory -------------------------------------------------------------------------------------------

@pytest.mark.parametrize("rule", ["heap", "mmap"])
def test_an_allocation_that_fails_ends_only_whom_it_concerns(backend, rule):
    """Each in a server of its own, since what was once mapped is kept."""
    with Faulty(backend) as f:
        load, count, _ = f.run(rule)
        load.check_all_well("nothing failed")
    for n in steps(count, 40):
        with Faulty(backend) as f:
            load, _, failed = f.run(rule, n)
            what = f"{rule} {n} of {count}"
            load.check_codes(what)
            assert len(load.ended) + len(load.refused) <= 4, what


@pytest.mark.parametrize("rule", ["heap", "mmap"])
def test_scarce_memory_ends_some_and_serves_the_others(backend, rule):
    for every in (2, 3, 5, 7):
        with Faulty(backend) as f:
            load, _, failed = f.run(rule, 1, every)
            load.check_codes(f"{rule} every {every}")
