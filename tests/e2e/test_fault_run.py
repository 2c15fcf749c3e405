# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Allocations and system calls fail while the server serves: whom it concerns is refused or closed
with its code, everybody else is served right, accepting goes on, and nothing leaks.

TW_LONG=1 fails every single call instead of a part of them."""

import errno
import os

import pytest

from faults import SHORT, Faults
from harness import Server
from peers import CUT, Ended, Peer, Room, check_gauges, until
from probe import expect_metric, private_dirty
from wire import TEXT, Raw

LONG = bool(os.environ.get("TW_LONG"))
FLAGS = ("--echo", "--shards", "2", "--drain-time", "0", "--compress", "on", "--compress-min", "0",
         "--max-message", "1MiB", "--tcp-sndbuf", "64KiB", "--mesh-slots", "16")
REFUSAL_CODES = (1011, 1013)  # out of memory; full
REFUSAL_STATUSES = (500, 503)
GROWTH_KIB = 1024  # the heap's own ups and downs


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
        """Without faults again: who is left is served, and so is who comes. Before that everybody
        learns what the faults have done."""
        for peer in self.echoes:
            self.may(peer, Peer.echo, 500)
        for room in self.rooms:
            self.round(room)
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

    def check_codes(self, what, also=()):
        """Nobody was closed or refused without being told why. Who comes while there is no memory
        for a connection is told at once, and may miss it while it is still speaking itself."""
        assert set(self.ended) <= {*REFUSAL_CODES, *also}, f"{what}: ended {self.ended}"
        assert set(self.refused) <= {*REFUSAL_CODES, *REFUSAL_STATUSES, None}, \
            f"{what}: refused {self.refused}"


class Faulty:
    """A server whose calls can be made to fail."""

    def __init__(self, backend):
        self.faults = Faults()
        sanitizer = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=1"
        self.server = Server(backend, *FLAGS, env={**self.faults.env, "ASAN_OPTIONS": sanitizer})

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


@pytest.mark.parametrize("shards", [1, 2])
def test_who_comes_while_there_is_no_memory_for_a_connection_is_told(backend, shards):
    with Faults() as faults:
        s = Server(backend, "--shards", str(shards), env=faults.env)
        try:
            faults.arm("mmap", 1, 1)  # a fresh server has no room mapped for connections
            faults.arm("heap", 1, 1)
            for _ in range(5):
                with Raw(s.port) as c:
                    assert c.response().status == 503
                    assert c.at_end()
            faults.disarm("mmap")
            faults.disarm("heap")
            with Raw(s.port) as c:
                assert c.ask(f"GET /none HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode()).status == 404
            expect_metric(s, "io_accept_refused_total", 5)
            expect_metric(s, "connections_turned_away_total", 5)
            expect_metric(s, "connections_handed_over_total", 0)
        finally:
            s.stop()


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
    for n in steps(count, 30):
        with Faulty(backend) as f:
            load, _, failed = f.run(rule, n)
            what = f"{rule} {n} of {count}"
            # Of what was sent in part the rest can't be kept: there is no way to say anything.
            load.check_codes(what, also=(CUT,) if backend == "epoll" else ())
            assert len(load.ended) + len(load.refused) <= 4, what


@pytest.mark.parametrize("rule", ["heap", "mmap"])
def test_scarce_memory_ends_some_and_serves_the_others(backend, rule):
    for every in (2, 3, 5, 7):
        with Faulty(backend) as f:
            load, calls, failed = f.run(rule, 1, every)
            load.check_codes(f"{rule} every {every}", also=(None, CUT))
            assert failed > 1 or calls == 0  # AddressSanitizer has a heap of its own


# System calls -------------------------------------------------------------------------------------

# What nobody may notice: the call is made again, or serves later.
HARMLESS = {
    "epoll": {
        "accept": (errno.EINTR, errno.ECONNABORTED), "recv": (errno.EINTR, errno.EAGAIN),
        "send": (errno.EINTR, errno.EAGAIN, SHORT), "epoll_wait": (errno.EINTR,),
    },
    "uring": {
        "uring_accept": (errno.EINTR, errno.ECONNABORTED, errno.EMFILE, errno.ENFILE,
                         errno.ENOMEM),
        "uring_recv": (errno.EINTR, errno.EAGAIN, errno.ENOBUFS),
        "uring_submit": (errno.EINTR, errno.EAGAIN, errno.EBUSY),
        "uring_bell": (errno.ENOMEM, errno.EAGAIN),
    },
}
# What costs the one connection that it befell. There is no saying why on a broken socket.
FATAL = {
    "epoll": {
        "accept": (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS),
        "recv": (errno.ECONNRESET, errno.ENOMEM),
        "send": (errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM),
        "epoll_ctl": (errno.ENOMEM, errno.ENOSPC),
    },
    "uring": {
        "uring_recv": (errno.ECONNRESET, errno.ENOMEM),
        "uring_send": (errno.EPIPE, errno.ECONNRESET, errno.ENOBUFS, errno.ENOMEM, SHORT),
    },
}
EVERY = (2, 3, 7)
CHANCE = 100_000  # of a million


def cases(table, backend):
    return [(rule, error) for rule, errors in table[backend].items() for error in errors]


def test_a_call_that_may_be_made_again_is(backend):
    with Faulty(backend) as f:
        f.run("socket")
        for rule, error in cases(HARMLESS, backend):
            for n in range(1, 1 + (30 if LONG else 4)):
                f.run(rule, n, 0, error)[0].check_all_well(f"{rule} {n}: {error}")
            for every in EVERY:
                load, _, failed = f.run(rule, 1, every, error)
                load.check_all_well(f"{rule} every {every}: {error}")
                assert failed > 0, f"{rule}: {error}"
            load, _, failed = f.run(rule, error=error, chance=CHANCE, seed=error)
            load.check_all_well(f"{rule} by chance: {error}")


def test_a_call_that_fails_ends_one_connection(backend):
    with Faulty(backend) as f:
        f.run("socket")
        for rule, error in cases(FATAL, backend):
            for n in range(1, 1 + (60 if LONG else 6)):
                load, _, failed = f.run(rule, n, 0, error)
                what = f"{rule} {n}: {error}"
                load.check_codes(what, also=(None, CUT))
                assert len(load.ended) + len(load.refused) <= failed, \
                    f"{what}: {load.ended} {load.refused}"


def test_calls_that_fail_often_end_some_and_serve_the_others(backend):
    with Faulty(backend) as f:
        for rule, error in cases(FATAL, backend):
            for every in EVERY:
                load, _, failed = f.run(rule, every, every, error)
                load.check_codes(f"{rule} every {every}: {error}", also=(None, CUT))
            load, _, failed = f.run(rule, error=error, chance=CHANCE, seed=error)
            load.check_codes(f"{rule} by chance: {error}", also=(None, CUT))


# Leaks --------------------------------------------------------------------------------------------

def count_descriptors(server):
    """Once there is no other connection than those that were there before."""
    until(lambda: server.metric("tidewire_connections") == 1)
    return min(len(os.listdir(f"/proc/{server.process.pid}/fd")) for _ in range(100))


def test_nothing_is_left_behind(backend):
    """Memory and descriptors after many faults are those after the first few."""
    rules = [*cases(FATAL, backend), ("heap", errno.ENOMEM), ("mmap", errno.ENOMEM)]
    with Faulty(backend) as f:
        def size():
            return private_dirty(f.server.process.pid) >> 10

        sizes = []
        for turn in range(20 if LONG else 5):
            for rule, error in rules:
                f.run(rule, error=error, chance=CHANCE, seed=turn)
            sizes.append(size())
            if turn == 0:
                descriptors = count_descriptors(f.server)
            assert until(lambda: count_descriptors(f.server) == descriptors), \
                f"{count_descriptors(f.server)} descriptors instead of {descriptors}"
        # What a shard keeps for the next burst goes back when it has been quiet for a second.
        until(size, lambda kib: kib <= sizes[1] + GROWTH_KIB)
