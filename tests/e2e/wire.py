# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A WebSocket client that can do everything wrong: frames are built field by field, bytes leave in
any pieces, and what comes back is shown as it was on the wire. Blocking sockets, one thread."""

import base64
import collections
import hashlib
import os
import socket
import struct
import time
import zlib

from tls_socket import TlsSocket

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"
TIMEOUT_S = 10.0

Frame = collections.namedtuple("Frame", "fin rsv opcode masked payload")
Response = collections.namedtuple("Response", "version status reason headers body")


def apply_mask(payload, key):
    if not payload:
        return b""
    keys = (key * (len(payload) // 4 + 1))[: len(payload)]
    n = int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")
    return n.to_bytes(len(payload), "big")


def frame_head(opcode, length, fin=True, rsv=0, mask=MASK, form=None):
    """The head of a frame. form 7, 16 or 64 forces the length's encoding; mask None: unmasked."""
    if form is None:
        form = 7 if length < 126 else 16 if length < 65536 else 64
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask is not None else 0
    if form == 7:
        head = struct.pack("!BB", first, bit | length)
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    return head + (mask or b"")


def frame(opcode, payload=b"", fin=True, rsv=0, mask=MASK, form=None):
    if isinstance(payload, str):
        payload = payload.encode()
    head = frame_head(opcode, len(payload), fin, rsv, mask, form)
    return head + (apply_mask(payload, mask) if mask is not None else payload)


def close_frame(code=None, reason=b""):
    if isinstance(reason, str):
        reason = reason.encode()
    return frame(CLOSE, b"" if code is None else struct.pack("!H", code) + reason)


def close_payload(code, reason=""):
    return struct.pack("!H", code) + reason.encode()


def accept_of(key):
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


def deflate_message(data, wbits=15, level=9):
    """A message's payload as RFC 7692 7.2.1 makes it, without context."""
    c = zlib.compressobj(level, zlib.DEFLATED, -wbits)
    out = c.compress(data) + c.flush(zlib.Z_SYNC_FLUSH)
    assert out.endswith(b"\x00\x00\xff\xff")
    return out[:-4]


def inflate_message(data, wbits=15):
    """The inverse, RFC 7692 7.2.2, with an empty window: fails where context was taken over."""
    d = zlib.decompressobj(-wbits)
    return d.decompress(data + b"\x00\x00\xff\xff")


def request(path, host, headers=None, drop=(), method="GET", version="HTTP/1.1", key=KEY):
    """An upgrade request. headers: pairs that are added; drop: lower-case names left out."""
    fields = [("Host", host), ("Upgrade", "websocket"), ("Connection", "Upgrade"),
              ("Sec-WebSocket-Key", key), ("Sec-WebSocket-Version", "13")]
    given = list(headers.items() if isinstance(headers, dict) else headers or [])
    gone = {name.lower() for name in drop}
    fields = [f for f in fields if f[0].lower() not in gone] + given
    text = f"{method} {path} {version}\r\n" + "".join(f"{n}: {v}\r\n" for n, v in fields) + "\r\n"
    return text.encode("latin-1")


# Of these ports, connections begin with TLS: port -> (ssl.SSLContext, server name or None).
TLS_PORTS = {}


class Raw:
    """A connection to the server, over TCP or, at a port of TLS_PORTS, TLS."""

    def __init__(self, port, timeout=TIMEOUT_S):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if port in TLS_PORTS:
            context, name = TLS_PORTS[port]
            self.sock = TlsSocket(self.sock, context, name)
        self.host = f"127.0.0.1:{port}"
        self.buffer = b""
        self.reset = False

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def send_pieces(self, pieces, pause=0.002):
        """Each piece is a segment of its own, and arrives as one when the other side is awake."""
        for i, piece in enumerate(pieces):
            if i:
                time.sleep(pause)
            self.sock.sendall(piece)

    def _fill(self):
        """Receives once; False at the end of the stream."""
        try:
            data = self.sock.recv(65536)
        except ConnectionError:
            self.reset = True
            return False
        self.buffer += data
        return bool(data)

    def _take(self, count):
        while len(self.buffer) < count:
            if not self._fill():
                return None
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def response(self, has_body=True):
        """Reads one HTTP answer; interim 1xx other than 101 would be an error of the server."""
        while b"\r\n\r\n" not in self.buffer:
            assert self._fill(), f"the connection ended within a head: {self.buffer!r}"
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        version, status, reason = (lines[0].split(" ", 2) + [""])[:3]
        headers = [tuple(line.split(":", 1)) for line in lines[1:]]
        headers = [(name.lower(), value.strip()) for name, value in headers]
        length = next((int(v) for n, v in headers if n == "content-length"), 0)
        body = b""
        if has_body and int(status) >= 200:
            body = self._take(length)
        return Response(version, int(status), reason, headers, body)

    def ask(self, data, has_body=True):
        self.send(data)
        return self.response(has_body)

    def frame(self):
        """The next frame, or None at the end of the stream."""
        head = self._take(2)
        if head is None:
            assert not self.buffer, f"the stream ended within a frame: {self.buffer!r}"
            return None
        length = head[1] & 0x7F
        if length == 126:
            length = struct.unpack("!H", self._take(2))[0]
            assert length > 125, "not the shortest length"
        elif length == 127:
            length = struct.unpack("!Q", self._take(8))[0]
            assert length > 65535, "not the shortest length"
        masked = bool(head[1] & 0x80)
        key = self._take(4) if masked else None
        payload = self._take(length)
        assert payload is not None, "the stream ended within a frame"
        if masked:
            payload = apply_mask(payload, key)
        return Frame(bool(head[0] & 0x80), head[0] >> 4 & 7, head[0] & 0xF, masked, payload)

    def message(self):
        """The next frame as (opcode, payload); it must be a plain whole one, as a server sends."""
        f = self.frame()
        assert f is not None, "the connection ended"
        assert f.fin and not f.masked and f.rsv == 0, f"unexpected frame {f}"
        return f.opcode, f.payload

    def any_message(self, wbits=15):
        """The next data frame as (opcode, data), inflated with an empty window if compressed."""
        f = self.frame()
        assert f is not None, "the connection ended"
        assert f.fin and not f.masked and f.opcode in (TEXT, BINARY) and f.rsv in (0, 4), f"{f}"
        return f.opcode, inflate_message(f.payload, wbits) if f.rsv else f.payload

    def at_end(self):
        """Whether the stream ends here, with nothing before the end."""
        return not self.buffer and not self._fill()

    def expect_close(self, code):
        """The next frame closes with that code, then the server ends the connection by itself."""
        f = self.frame()
        assert f is not None, "the connection ended without a close frame"
        assert f.opcode == CLOSE, f"expected a close frame: {f}"
        assert f.fin and not f.masked and f.rsv == 0
        if code is None:
            assert f.payload == b"", f"expected an empty close frame: {f}"
        else:
            assert len(f.payload) >= 2, f"expected code {code}: {f}"
            got = struct.unpack("!H", f.payload[:2])[0]
            assert got == code, f"code {got} instead of {code}: {f.payload[2:]!r}"
            f.payload[2:].decode("utf-8")
        assert self.at_end(), f"more after the close frame: {self.buffer[:40]!r}"
        return f.payload[2:].decode("utf-8")

    def expect_alive(self):
        """A ping is answered, and nothing came before the answer."""
        token = os.urandom(6).hex().encode()
        self.send(frame(PING, token))
        assert self.message() == (PONG, token)


def join_all(clients):
    """Returns when each of these, the only members of their room, is known to be in it. A message
    of its own that came back proves it: it took the same way as the joining, and behind it."""
    for i, c in enumerate(clients):
        token = b"join " + os.urandom(6).hex().encode()
        c.send(frame(TEXT, token))
        while c.any_message() != (TEXT, token):
            pass  # of those before it
        for member in clients[:i]:
            assert member.any_message() == (TEXT, token)


class Client(Raw):
    """A connection after a successful upgrade."""

    def __init__(self, port, path="/echo", headers=None, also=b"", timeout=TIMEOUT_S):
        super().__init__(port, timeout)
        self.answer = self.ask(request(path, self.host, headers) + also)
        assert self.answer.status == 101, f"{self.answer}"

    def header(self, name):
        return [value for key, value in self.answer.headers if key == name]

    def echo(self, opcode, payload, **how):
        """Sends one frame to /echo and expects it back, unchanged."""
        payload = payload.encode() if isinstance(payload, str) else payload
        self.send(frame(opcode, payload, **how))
        got = self.message()
        assert got == (opcode, payload), f"{got[0]}, {len(got[1])} bytes"
