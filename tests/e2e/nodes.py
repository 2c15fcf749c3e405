# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Several nodes over one Redis, and members that note all they get.

The oracle over everything published (`check`): what two members have both got they have got in one
order; nobody gets anything twice, nor one sender's messages in another order than they were sent;
and what a node's members lack the node has counted as lost, to the one.
"""

import contextlib
import socket
import threading
import time

from harness import Server
from peers import until
from wire import BINARY, Client, frame

READY_S = 15.0


class Member:
    """A member of a room at one node. A thread reads; `got` is all that came, in order."""

    def __init__(self, server, room, name, query=""):
        self.server = server
        self.name = name
        self.echo = query != "?echo=0"
        self.sent = 0
        self.got = []
        self.client = Client(server.port, f"/rooms/{room}{query}", timeout=60.0)
        self.code = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        with contextlib.suppress(OSError, AssertionError):
            while (f := self.client.frame()) is not None:
                if f.opcode == 8:
                    self.code = int.from_bytes(f.payload[:2], "big")
                    return
                self.got.append(f.payload)

    def say(self, size=0):
        """Publishes the next message, and returns it."""
        data = f"{self.name}:{self.sent}:".encode()
        data += b"." * (size - len(data))
        self.sent += 1
        self.client.send(frame(BINARY, data))
        return data

    def is_here(self):
        return self._thread.is_alive()

    def wait_for(self, data, seconds=READY_S):
        assert until(lambda: data in self.got, seconds), \
            (f"{self.name} at {self.server.port} lacks {data[:40]!r}; its last are "
             f"{[g[:20] for g in self.got[-3:]]}; {redis_metrics(self.server)}")

    def close(self):
        with contextlib.suppress(OSError):
            self.client.sock.shutdown(socket.SHUT_RDWR)  # the thread still reads
        self._thread.join(5)
        self.client.sock.close()


class Nodes:
    """Servers with the same flags; members by room."""

    def __init__(self, backend, count, *flags):
        self.servers = []
        self.members = []
        self.baseline = {}
        try:
            for i in range(count):
                self.servers.append(self.start_server(i, backend, "--shards", "2", "--drain-time",
                                                      "0", *flags))
        except BaseException:
            self.close()
            raise

    def start_server(self, i, backend, *flags):
        """The i-th of them; for subclasses."""
        del i
        return Server(backend, *flags)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for m in self.members:
            m.close()
        if kind is None:
            for s in self.servers:
                s.stop()
        self.close()

    def close(self):
        for s in self.servers:
            if not s.process.stderr.closed:
                s.kill()

    def wait_ready(self, seconds=READY_S):
        for s in self.servers:
            assert until(lambda s=s: s.get("/health/ready")[0] == 200, seconds), s.log()

    def join(self, node, room, query=""):
        m = Member(self.servers[node], room, f"m{len(self.members)}", query)
        m.room = room
        self.members.append(m)
        return m

    def of_room(self, room):
        return [m for m in self.members if m.room == room]

    def mark(self, room):
        """One message of every member: it comes to all the others."""
        members = self.of_room(room)
        last = [m.say() for m in members]
        for m in members:
            assert m.is_here(), f"{m.name} was closed with {m.code}"
            for other, data in zip(members, last):
                if m is not other or m.echo:
                    m.wait_for(data)

    def begin(self, room):
        """From here on a missing message is noticed: everyone has heard everyone."""
        self.wait_ready()
        self.mark(room)
        self.baseline = {m.name: m.sent for m in self.members}

    def check(self, room, over_nodes=True):
        """With over_nodes False the order is compared within each node only."""
        members = self.of_room(room)
        for m in members:
            assert m.is_here(), f"{m.name} was closed with {m.code}"
            assert len(set(m.got)) == len(m.got), f"{m.name} got a message twice"
            for other in members:
                prefix = other.name.encode() + b":"
                numbers = [int(g.split(b":")[1]) for g in m.got if g.startswith(prefix)]
                assert numbers == sorted(numbers), f"{m.name} got {other.name}'s out of order"
                assert m.echo or other is not m or not numbers, f"{m.name} got its own"
        for i, a in enumerate(members):
            for b in members[:i]:
                if not over_nodes and a.server is not b.server:
                    continue
                common = set(a.got) & set(b.got)
                assert [g for g in a.got if g in common] == [g for g in b.got if g in common], \
                    f"{a.name} and {b.name} see two orders"

    def missing(self, room, node):
        """How many messages of the room never came to the node's members."""
        server = self.servers[node]
        members = self.of_room(room)
        here = set().union(*(m.got for m in members if m.server is server))
        have = {tuple(g.split(b":")[:2]) for g in here}
        return sum((m.name.encode(), b"%d" % n) not in have for m in members for n in range(m.sent))

    def check_accounts(self, room):
        """Each node has at least two members in the room that want their own messages too."""
        for i, s in enumerate(self.servers):
            missing = self.missing(room, i)
            assert until(lambda s=s, n=missing: s.metric("tidewire_redis_lost_total") == n, 3), \
                (f"node {i} lacks {missing} and counted {s.metric('tidewire_redis_lost_total')}: "
                 f"{redis_metrics(s)}")


@contextlib.contextmanager
def chatter(members, pause_s=0.002):
    """They speak, one after the other, for the time of the block."""
    over = threading.Event()

    def speak():
        while not over.is_set():
            for m in members:
                m.say()
                time.sleep(pause_s)

    t = threading.Thread(target=speak, daemon=True)
    t.start()
    try:
        yield
    finally:
        over.set()
        t.join(20)


def redis_metrics(server):
    return {k.removeprefix("tidewire_redis_"): v for k, v in server.metrics().items()
            if k.startswith("tidewire_redis_") and v}
