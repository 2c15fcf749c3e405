# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A TLS client socket for the tests: the library's session over memory, so that one thread may read
while another writes, the TCP socket's own side can be shut down, and raw bytes can be sent."""

import ssl
import threading


class TlsSocket:
    """Has of a socket what wire.py uses; .raw is the TCP socket, .tls the ssl.SSLObject."""

    truncated = False  # the stream has ended without close_notify

    def __init__(self, raw, context, name=None, session=None):
        self.raw = raw
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_hostname=name, session=session)
        self._lock = threading.Lock()
        self._retry(self.tls.do_handshake)

    def __getattr__(self, name):
        return getattr(self.raw, name)

    def _flush(self):
        if self._out.pending:
            self.raw.sendall(self._out.read())

    def _retry(self, call):
        while True:
            with self._lock:
                try:
                    return call()
                except ssl.SSLWantReadError:
                    pass
                finally:
                    self._flush()
            data = self.raw.recv(65536)
            with self._lock:
                if data:
                    self._in.write(data)
                else:
                    self._in.write_eof()

    def recv(self, size):
        """b"" at the end; see .truncated."""
        try:
            return self._retry(lambda: self.tls.read(size))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError, ssl.SSLSyscallError) as e:
            self.truncated = not isinstance(e, ssl.SSLZeroReturnError)
            return b""

    def sendall(self, data):
        if data:
            self._retry(lambda: self.tls.write(data))

    def send(self, data):
        self.sendall(data)
        return len(data)

    def notify(self):
        """Sends close_notify."""
        with self._lock:
            try:
                self.tls.unwrap()
            except ssl.SSLWantReadError:
                pass
            finally:
                self._flush()
