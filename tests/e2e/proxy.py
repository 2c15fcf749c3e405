# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A TCP proxy between nodes and a Redis: it delays, swallows, cuts, and has publishes refused.

Its threads and sockets are of the network namespace in which it is made.
"""

import socket
import threading
import time


class Proxy:
    """Forwards 127.0.0.1:port to an address. Attributes that may be set at any time:

    delay_s   every piece waits that long
    swallow   everything disappears
    error     text of an error: the server answers PUBLISH with it, as a script of ours asks it to
    """

    def __init__(self, port, host="127.0.0.1", rcvbuf=0):
        self.target = (host, port)
        self.delay_s = 0.0
        self.swallow = False
        self.error = ""
        self.pairs = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        if rcvbuf:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.port = self.listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()
        self.cut()

    def _accept(self):
        while True:
            try:
                a, _ = self.listener.accept()
                b = socket.create_connection(self.target)
            except OSError:
                return
            for s in (a, b):
                s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.pairs.append((a, b))
            threading.Thread(target=self._pump, args=(a, b, Commands()), daemon=True).start()
            threading.Thread(target=self._pump, args=(b, a, None), daemon=True).start()

    def _pump(self, a, b, commands):
        try:
            while data := a.recv(65536):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if commands is not None:
                    data = b"".join(self._instead_of(c) for c in commands.feed(data))
                if not self.swallow:
                    b.sendall(data)
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _instead_of(self, command):
        if not self.error or b"\r\nPUBLISH\r\n" not in command[:32]:
            return command
        script = f"return redis.error_reply({self.error!r})".encode()
        return b"*3\r\n$4\r\nEVAL\r\n$%d\r\n%s\r\n$1\r\n0\r\n" % (len(script), script)

    def cut(self):
        for pair in self.pairs:
            for s in pair:
                s.close()
        self.pairs.clear()


class Commands:
    """Cuts what a client sends into whole commands (RESP arrays of strings)."""

    def __init__(self):
        self.buffer = b""

    def feed(self, data):
        self.buffer += data
        at = 0
        while (end := self._end(at)) is not None:
            yield self.buffer[at:end]
            at = end
        self.buffer = self.buffer[at:]

    def _number(self, at):
        """The number of the line there and where the next one begins; None: it is cut."""
        end = self.buffer.find(b"\r\n", at)
        return None if end < 0 else (int(self.buffer[at + 1:end]), end + 2)

    def _end(self, at):
        if (head := self._number(at)) is None:
            return None
        count, at = head
        for _ in range(count):
            if (head := self._number(at)) is None:
                return None
            at = head[1] + head[0] + 2
        return at if at <= len(self.buffer) else None
