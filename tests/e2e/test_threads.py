# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""All shards at work on each other's rooms, and a drain in the midst of it; meant for the server
built with ThreadSanitizer, whose first report ends it. TW_THREADS_SECONDS is the load's length."""

import os
import signal
import socket
import ssl
import threading
import time

from mixed import Mixed, start_all
from peers import check_gauges
from test_tls import only
from test_tls_ocsp import stapled
from tls_socket import TlsSocket
from wire import TEXT, frame, request

SECONDS = float(os.environ.get("TW_THREADS_SECONDS", "3"))
FLAGS = ("--echo", "--shards", "4", "--compress", "on", "--compress-min", "100B", "--max-message",
         "1MiB", "--ping-interval", "300ms", "--pong-timeout", "1s", "--tcp-sndbuf", "64KiB",
         "--mesh-slots", "16", "--mesh-window", "64KiB", "--close-timeout", "1s")
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
LIMITS = ("--max-connections-per-ip", "100", "--connect-rate", "100000", "--message-rate", "100000",
          "--connect-rate-per-ip", "100000", "--byte-rate", "1GiB")


def test_four_shards_share_rooms_and_drain_in_the_midst_of_it(new_server):
    server = new_server(*FLAGS, *LIMITS, "--drain-time", "500ms")
    load = Mixed(server)
    start_all(load)
    load.wait(SECONDS)
    load.may_end = True
    server.terminate()
    load.wait(0.8)
    load.stop()
    server.stop()


def test_four_shards_share_rooms_until_all_have_left(new_server):
    server = new_server(*FLAGS, "--drain-time", "0")
    load = Mixed(server, seed=2)
    start_all(load)
    load.wait(SECONDS)
    load.stop()
    check_gauges(server)


def shake(port, context, session):
    """Comes by a handshake, with a ticket if there is a session, and has something echoed."""
    with socket.create_connection(("127.0.0.1", port), 30) as raw:
        sock = TlsSocket(raw, context, "localhost", session)
        sock.sendall(request("/echo", "localhost") + frame(TEXT, b"hand in hand"))
        data = b""
        while not data.endswith(b"hand in hand"):
            chunk = sock.recv(65536)
            assert chunk, data
            data += chunk
        return sock.tls.session


def test_handshakes_on_four_shards_while_certificates_are_reloaded(new_server, certs):
    staple = certs.authority.ocsp("threads", certs.ecdsa)
    server = new_server("--echo", "--shards", "4", "--drain-time", "500ms", "--tls-port", "0",
                        "--tls-ocsp", staple, *certs.ecdsa.flags(), *certs.rsa.flags())
    stopping, problems = threading.Event(), []

    def run(version, resumes):
        context, session = only(certs, version), None
        try:
            while not stopping.is_set():
                session = shake(server.tls_port, context, session if resumes else None)
        except Exception as e:  # whatever a thread raises belongs to the test
            problems.append(repr(e))

    threads = [threading.Thread(target=run, args=(VERSIONS[i % 2], i % 4 < 2)) for i in range(8)]
    for t in threads:
        t.start()
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        server.process.send_signal(signal.SIGHUP)
        assert stapled(server, "-tls1_2")
    stopping.set()
    for t in threads:
        t.join(60)
    assert not problems
    for version in ("1.2", "1.3"):
        for resumed in ("no", "yes"):
            assert server.metric("tidewire_tls_handshakes_total", version=version,
                                 resumed=resumed) > 0
    assert server.metric("tidewire_tls_renewals_total") > 4
    server.stop()
