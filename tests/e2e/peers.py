# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Clients that may be refused or closed at any time, but are never told anything wrong."""

import itertools
import socket
import struct
import time

from wire import (BINARY, CLOSE, CONT, PING, PONG, TEXT, Raw, close_frame, deflate_message, frame,
                  inflate_message, request)

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}
RSV1 = 4
CUT = "cut"  # in place of a code: the connection ended within a frame
TOKENS = itertools.count()


def token(size=24):
    """A message like no other, of that size and hardly compressible beyond its repetition."""
    text = b"%016d|" % next(TOKENS)
    return (text * (size // len(text) + 1))[:max(size, len(text))]


class Ended(Exception):
    """The server ended the connection: by a close frame with a code, a status, CUT, or just so."""

    def __init__(self, code=None):
        super().__init__(code)
        self.code = code


class Peer(Raw):
    """After open() a WebSocket. Raises Ended, once it knows, and only then is `code` set."""

    def __init__(self, port, path="/echo", deflate=False, rcvbuf=0, timeout=15.0):
        self.path = path
        self.deflate = deflate
        self.code = None
        self.is_open = False
        self.taken = 0  # bytes of the frame that is being read
        try:
            super().__init__(port, timeout)
        except ConnectionError as e:
            raise Ended from e
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)

    def open(self):
        self.send(request(self.path, self.host, OFFER if self.deflate else None))
        answer = self.response()
        if answer.status != 101:
            raise Ended(answer.status)
        self.is_open = True
        return self

    def _fill(self):
        if not super()._fill():
            self.is_open = False
            raise Ended(CUT if self.taken or self.buffer else self.code)
        return True

    def _take(self, count):
        data = super()._take(count)
        self.taken += count
        return data

    def frame(self):
        self.taken = 0
        return super().frame()

    def send(self, data):
        try:
            super().send(data)
        except ConnectionError:
            self._drain()

    def _drain(self):
        """What the server had said before it ended: raises Ended, with the code of a close."""
        while True:
            self.next()

    def next(self):
        """The next frame that is no close: (opcode, data). Heartbeats are answered."""
        while (f := self.frame()).opcode == PING:
            self.send(frame(PONG, f.payload))
        assert f.fin and not f.masked, f"{f}"
        if f.opcode == CLOSE:
            self.code = struct.unpack("!H", f.payload[:2])[0] if f.payload else 0
            self.is_open = False
            raise Ended(self.code)
        assert f.rsv in ((0, RSV1) if self.deflate else (0,)), f"{f}"
        return f.opcode, inflate_message(f.payload) if f.rsv else f.payload

    def say(self, data, opcode=TEXT, fragments=1):
        body = deflate_message(data) if self.deflate else data
        step = -(-len(body) // fragments)
        parts = [body[i:i + step] for i in range(0, len(body), step)]
        out = b""
        for i, part in enumerate(parts):
            first = RSV1 if self.deflate and i == 0 else 0
            out += frame(CONT if i else opcode, part, fin=i == len(parts) - 1, rsv=first)
        self.send(out)

    def echo(self, size, opcode=TEXT, fragments=1):
        """To /echo, and back unchanged."""
        data = token(size)
        self.say(data, opcode, fragments)
        got = self.next()
        assert got == (opcode, data), f"sent {len(data)} bytes, got {got[0]}, {got[1][:80]!r}"

    def ping(self):
        data = token()
        self.send(frame(PING, data))
        got = self.next()
        assert got == (PONG, data), f"no pong: {got[0]}, {got[1][:80]!r}"

    def echo_cut(self, size):
        """The frame comes in two pieces; another one's answer proves that the first was taken."""
        data = token(size)
        body = deflate_message(data) if self.deflate else data
        out = frame(PING, b"between") + frame(BINARY, body, rsv=RSV1 if self.deflate else 0)
        self.send(out[:-len(body) // 2])
        assert self.next() == (PONG, b"between")
        self.send(out[-len(body) // 2:])
        assert self.next() == (BINARY, data)

    def leave(self):
        """The closing handshake; whoever was closed before is just let go."""
        try:
            if self.is_open:
                self.send(close_frame(1000))
                while True:
                    self.next()
        except Ended:
            pass
        finally:
            self.sock.close()


class Room:
    """Members of one room on any shards; each sees every message, in one order, until it ends."""

    def __init__(self, members):
        self.members = list(members)
        self.maybe = set()  # by members that ended while they spoke

    def alive(self):
        return [m for m in self.members if m.is_open]

    def _read_until(self, member, data, earlier):
        """Reads up to `data`. Before it may only come what those who ended have said."""
        while True:
            got = member.next()
            if got == (TEXT, data):
                return
            assert got[1] in self.maybe and got[1] not in earlier, \
                f"expected {data[:24]!r}, got {got[0]}, {got[1][:80]!r}"
            earlier.append(got[1])

    def round(self, size=24):
        """Each member speaks once. Returns who ended meanwhile."""
        before = self.alive()
        for speaker in before:
            if not speaker.is_open:
                continue
            data = token(size)
            try:
                speaker.say(data)
                seen = []
                self._read_until(speaker, data, seen)
            except Ended:
                self.maybe.add(data)
                continue
            for member in self.alive():
                if member is not speaker:
                    self._hear(member, data, seen)
            self.maybe -= set(seen)
        return [m for m in before if not m.is_open]

    def _hear(self, member, data, seen):
        """What the speaker saw before its own, the others see as well, unless they came later."""
        earlier = []
        try:
            self._read_until(member, data, earlier)
        except Ended:
            return
        assert earlier == seen, f"{earlier} against {seen}"


GAUGES = ("tidewire_websockets", "tidewire_members", "tidewire_hub_channels", "tidewire_channels",
          "tidewire_queue_bytes", "tidewire_assembly_bytes", "tidewire_receive_paused",
          "tidewire_mesh_backlog_items", "tidewire_mesh_backlog_bytes")


def until(check, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not (value := check()) and time.monotonic() < deadline:
        time.sleep(0.005)
    return value


def check_gauges(server):
    """All have left: the connection that asks is the only one, and nothing is held any more."""
    def is_empty():
        values = server.metrics()
        return all(values[name] == 0 for name in GAUGES) and values["tidewire_connections"] == 1

    names = (*GAUGES, "tidewire_connections")
    assert until(is_empty), {name: server.metric(name) for name in names}
