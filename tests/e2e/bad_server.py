# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A small WebSocket server that does one thing wrong, once: what must see such faults is tested on
it. Echoes on /echo, broadcasts to all members elsewhere; a thread for each connection."""

import socket
import socketserver
import struct
import threading
import time

from wire import BINARY, CLOSE, PING, PONG, accept_of, apply_mask, frame

AFTER = 8  # the fault is done to the message of this number

FAULTS = ("drop", "duplicate", "reorder", "corrupt", "corrupt-stamp", "truncate", "misroute")
ENDS = ("close", "hang-up", "masked", "reserved")


def key_of(head):
    for line in head.decode("latin-1").split("\r\n"):
        name, _, value = line.partition(":")
        if name.lower() == "sec-websocket-key":
            return value.strip()
    return ""


class Connection(socketserver.BaseRequestHandler):
    def setup(self):
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.lock = threading.Lock()

    def read(self, count):
        while len(self.buffer) < count:
            data = self.request.recv(65536)
            if not data:
                raise ConnectionError
            self.buffer += data
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            data = self.request.recv(65536)
            if not data:
                raise ConnectionError
            self.buffer += data
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        return head

    def read_frame(self):
        first, second = self.read(2)
        length = second & 0x7F
        if length == 126:
            length = struct.unpack("!H", self.read(2))[0]
        elif length == 127:
            length = struct.unpack("!Q", self.read(8))[0]
        key = self.read(4)
        return first & 0x0F, apply_mask(self.read(length), key)

    def send(self, data):
        try:
            with self.lock:
                self.request.sendall(data)
        except OSError:
            pass

    def upgrade(self):
        """The path, or None when the request was refused. Whoever reads the answer is a member: what
        others send from then on comes to it."""
        server = self.server
        head = self.read_head()
        path = head.split(b" ", 2)[1].decode()
        accept = accept_of(key_of(head))
        if server.fault == "refuse":
            self.send(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
            return None
        if server.fault == "silent":
            time.sleep(3)
            return None
        if server.fault == "bad-accept":
            accept = accept[::-1]
        answer = ("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                  f"Connection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n").encode()
        with server.guard:
            for piece in (answer[:30], answer[30:]):  # in two pieces, as networks do
                self.send(piece)
            for _ in range(server.greetings):
                self.send(frame(BINARY, b"welcome", mask=None))
            server.members.append(self)
        return path

    def handle(self):
        try:
            path = self.upgrade()
            if path is None:
                return
            while True:
                opcode, payload = self.read_frame()
                if opcode == CLOSE:
                    return
                if opcode == PING and self.server.fault != "no-pong":
                    self.send(frame(PONG, payload, mask=None))
                elif opcode not in (PING, PONG):
                    self.server.pass_on(self, path, opcode, payload)
        except (ConnectionError, OSError):
            pass
        finally:
            with self.server.guard:
                if self in self.server.members:
                    self.server.members.remove(self)


class BadServer(socketserver.ThreadingTCPServer):
    """with BadServer("drop") as server: server.port"""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, fault=None, greetings=0, after=AFTER):
        super().__init__(("127.0.0.1", 0), Connection)
        self.fault = fault
        self.greetings = greetings
        self.after = after
        self.members = []
        self.guard = threading.RLock()
        self.count = 0
        self.held = None
        self.port = self.server_address[1]
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def __exit__(self, *exc):
        self.shutdown()
        super().__exit__(*exc)

    def pass_on(self, sender, path, opcode, payload):
        with self.guard:
            self.count += 1
            due = self.count >= self.after and self.fault is not None
            to = [sender] if path.startswith("/echo") else list(self.members)
            victim, data = to[-1], frame(opcode, payload, mask=None)
            for member in to:
                held = self.held is not None and self.held[0] is member
                if held or (member is victim and due):
                    self.misbehave(member, opcode, payload)
                else:
                    member.send(data)

    def misbehave(self, member, opcode, payload):
        """Does the fault once; "reorder" holds the message until the next one has gone."""
        fault = self.fault
        self.fault = None
        good = frame(opcode, payload, mask=None)
        if self.held is not None:
            (_, held), self.held = self.held, None
            member.send(good + held)
        elif fault == "reorder":
            self.held = (member, good)
        elif fault == "duplicate":
            member.send(good + good)
        elif fault == "corrupt":
            member.send(frame(opcode, payload[:-1] + b"#", mask=None))
        elif fault == "corrupt-stamp":
            member.send(frame(opcode, b"\xff" + payload[1:], mask=None))
        elif fault == "truncate":
            member.send(frame(opcode, payload[:-1], mask=None))
        elif fault == "misroute":
            other = next(m for m in self.members if m is not member)
            other.send(good)
        elif fault == "close":
            member.send(frame(CLOSE, struct.pack("!H", 1013) + b"too slow", mask=None))
        elif fault == "hang-up":
            member.request.shutdown(socket.SHUT_RDWR)
        elif fault == "masked":
            member.send(frame(opcode, payload))
        elif fault == "reserved":
            member.send(frame(opcode, payload, rsv=2, mask=None))
        else:
            assert fault == "drop", fault
