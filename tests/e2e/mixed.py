# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A mixed load of many clients at once, each a thread of its own, which goes on until it is told to
stop. What a client gets wrong ends the load and is raised by stop()."""

import errno
import http.client
import random
import socket
import struct
import threading
import time

from peers import Ended, Peer, Room, token
from wire import BINARY, CLOSE, PING, PONG, TEXT, close_frame, frame, frame_head, request

GARBAGE = (b"\x00" * 40, b"GET / HTTP/1.1\nHost: x\n\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
           b"\x16\x03\x01\x02\x00\x01\x00", b"GET /echo HTTP/1.1\r\nHost", b"")
BROKEN = (frame(3), frame(TEXT, b"\xff\xfe"), frame(TEXT, b"x", mask=None),
          frame(BINARY, b"", rsv=1), frame_head(BINARY, 1 << 40),
          frame(PING, b"x" * 126, form=16), close_frame(1005), frame(0, b"not begun"),
          frame(TEXT, b"begun", fin=False)[:-2])


class Mixed:
    """Starts and stops the clients of one server; `done` counts what each kind has done."""

    def __init__(self, server, seed=1):
        self.server = server
        self.seed = seed
        self.threads = []
        self.errors = []
        self.done = {}
        self.stopping = threading.Event()
        self.may_end = False  # the server drains or dies: who is closed has nothing to complain of

    def start(self, action, count=1):
        for i in range(count):
            rng = random.Random(f"{self.seed} {action.__name__} {i}")
            t = threading.Thread(target=self._run, args=(action, rng), daemon=True)
            self.threads.append(t)
            t.start()

    def _run(self, action, rng):
        name = action.__name__
        while not self.stopping.is_set():
            try:
                action(self, rng)
                self.done[name] = self.done.get(name, 0) + 1
            except (Ended, ConnectionError) as e:
                if not self.may_end:
                    self._fail(f"{name}: {e!r}")
                    return
                time.sleep(0.02)
            except Exception as e:  # whatever a thread raises belongs to the test
                self._fail(f"{name}: {e!r}")
                return

    def _fail(self, text):
        self.errors.append(text)
        self.stopping.set()

    def wait(self, seconds):
        self.stopping.wait(seconds)

    def stop(self):
        self.stopping.set()
        for t in self.threads:
            t.join(60)
        assert not any(t.is_alive() for t in self.threads), "a client hangs"
        assert not self.errors, "\n".join(self.errors)

    def peer(self, path, **how):
        return Peer(self.server.port, path, **how).open()


def everyone_speaks(room, size=24):
    for member in room.round(size):
        raise Ended(member.code)


# What clients do: each runs again and again -------------------------------------------------------

def echoes(load, rng):
    """Sizes around the boundaries, whole, in fragments, cut, compressed."""
    peer = load.peer("/echo", deflate=rng.random() < 0.5)
    for _ in range(rng.randint(1, 30)):
        size = rng.choice((17, 125, 126, 1000, 5000, 65_000, 66_000))
        if rng.random() < 0.2 and size < 10_000:
            peer.echo_cut(size)
        else:
            peer.echo(size, rng.choice((TEXT, BINARY)), rng.choice((1, 1, 1, 4)))
    peer.leave()


def large(load, rng):
    peer = load.peer("/echo", deflate=rng.random() < 0.3)
    peer.echo(rng.randint(100_000, 900_000), BINARY, rng.choice((1, 3, 50)))
    peer.leave()


def rooms(load, rng):
    """A room of its own with members on all shards, all of whom see the same."""
    path = f"/rooms/own-{rng.getrandbits(40)}"
    room = Room(load.peer(path, deflate=rng.random() < 0.3) for _ in range(rng.randint(2, 6)))
    for _ in range(rng.randint(1, 8)):
        everyone_speaks(room, rng.choice((20, 300, 5000)))
        leaver = rng.randrange(len(room.members))
        if len(room.members) > 2 and rng.random() < 0.5:
            room.members.pop(leaver).leave()
    for member in room.members:
        member.leave()


def crowd(load, rng):
    """Rooms that others share: who speaks hears itself, in order."""
    path = f"/rooms/crowd-{rng.randrange(6)}"
    peer = load.peer(path, deflate=rng.random() < 0.3)
    for _ in range(rng.randint(1, 20)):
        mine = [token(rng.choice((20, 300))) for _ in range(rng.randint(1, 4))]
        for data in mine:
            peer.say(data)
        while mine:
            got = peer.next()
            if got[1] in mine:
                assert got == (TEXT, mine.pop(0)), "out of order"
    peer.leave()


def burst(load, rng):
    """The oracle of order: all members speak at once, all see one sequence, each message once."""
    path = f"/rooms/burst-{rng.getrandbits(40)}"
    members = [load.peer(path, deflate=i == 1) for i in range(4)]
    everyone_speaks(Room(members))
    said = [[token(rng.choice((20, 500))) for _ in range(20)] for _ in members]
    for k in range(20):
        for member, mine in zip(members, said):
            member.say(mine[k])
    seen = [[member.next()[1] for _ in range(20 * len(members))] for member in members]
    assert all(s == seen[0] for s in seen), "not one order"
    assert sorted(seen[0]) == sorted(sum(said, [])), "not each message once"
    for mine in said:
        assert [data for data in seen[0] if data in set(mine)] == mine, "a sender's own order"
    for member in members:
        member.leave()


def churn(load, rng):
    """Comes and goes, politely, half-way or not at all."""
    peer = Peer(load.server.port)
    how = rng.randrange(4)
    if how > 0:
        peer.send(request(f"/rooms/crowd-{rng.randrange(6)}", peer.host))
    if how > 1:
        peer.response()
    if how > 2:
        peer.send(frame(TEXT, token()))
    if rng.random() < 0.5:
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.sock.close()


def bad(load, rng):
    """Garbage instead of a request, or a violation after it: the end comes in any case."""
    with Peer(load.server.port) as peer:
        if rng.random() < 0.6:
            peer.open()
        try:
            peer.send(rng.choice(BROKEN if peer.is_open else GARBAGE))
            peer.sock.shutdown(socket.SHUT_WR)
            while peer._fill():
                peer.buffer = b""
        except (Ended, ConnectionError):
            pass
        except OSError as e:  # shutdown() of what the server has reset already
            if e.errno != errno.ENOTCONN:
                raise


def slow(load, rng):
    """Falls behind, then reads what has queued up; or goes without having read it."""
    path = f"/rooms/slow-{rng.getrandbits(40)}"
    reader, speaker = load.peer(path, rcvbuf=32768), load.peer(path)
    everyone_speaks(Room((reader, speaker)))
    said = [token(30_000) for _ in range(rng.randint(5, 20))]
    for data in said:
        speaker.say(data)
        assert speaker.next() == (TEXT, data)
    if rng.random() < 0.6:
        for data in said:
            assert reader.next() == (TEXT, data), "lost or out of order"
        reader.leave()
    reader.sock.close()
    speaker.leave()


def idle(load, rng):
    """Answers pings only, for some heartbeats."""
    with load.peer(f"/rooms/idle-{rng.randrange(3)}") as peer:
        for _ in range(3):
            f = peer.frame()
            if f.opcode == CLOSE:
                raise Ended
            assert f.opcode == PING, f"{f}"
            peer.send(frame(PONG, f.payload))


def dead(load, rng):
    """Answers nothing, and is found out by its silence."""
    with load.peer(f"/rooms/idle-{rng.randrange(3)}") as peer:
        try:
            while (f := peer.frame()).opcode != CLOSE:
                assert f.opcode == PING, f"{f}"
        except Ended:
            pass


def admin(load, rng):
    """Answers as long as there is a server, while it drains as well."""
    try:
        load.server.metrics()
    except http.client.HTTPException as e:
        raise ConnectionError from e
    time.sleep(0.05 * rng.random())


ALL = {echoes: 2, large: 1, rooms: 2, crowd: 3, burst: 1, churn: 2, bad: 1, slow: 1, idle: 2,
       dead: 1, admin: 1}


def start_all(load, share=1):
    for action, count in ALL.items():
        load.start(action, count * share)
