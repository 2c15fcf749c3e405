# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A storm of connects and disconnects, good and bad ones, after which nothing is left."""

import socket
import struct
import threading

from probe import expect_metric, expect_nothing_left, private_dirty, until
from wire import CLOSE, TEXT, Client, Raw, close_frame, frame, request

ROUND = 500
ROUNDS = 6
THREADS = 4


def leave_politely(c):
    c.send(close_frame(1000))
    assert c.frame().opcode == CLOSE


def leave_by_reset(c):
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def leave_amid_a_message(c):
    c.send(frame(TEXT, b"x" * 3000)[:-1])


def leave_in_anger(c):
    c.send(frame(TEXT, b"unmasked", mask=None))


LEAVES = (leave_politely, leave_by_reset, leave_amid_a_message, leave_in_anger, lambda c: None)


def fail_to_connect(port, i):
    """Handshakes that come to nothing, each in its own way."""
    with Raw(port) as c:
        wrong = (b"", b"GET / HT", b"\x16\x03\x01" + bytes(60), b"GET /nowhere HTTP/1.1\r\n\r\n",
                 request("/rooms/x", c.host, drop=["sec-websocket-key"]),
                 request("/rooms/x" * 2000, c.host))
        c.send(wrong[i % len(wrong)])


def storm_part(port, first, count, problems):
    try:
        for base in range(first, first + count, 25):
            some = [Client(port, f"/rooms/storm{(base + i) % 50}") for i in range(25)]
            for i, c in enumerate(some):
                c.send(frame(TEXT, b"hello %d" % i))
                if i % 5 == 0:
                    fail_to_connect(port, base + i // 5)
            for i, c in enumerate(some):
                LEAVES[i % len(LEAVES)](c) if i % len(LEAVES) else c.sock.close()
                c.sock.close()
    except Exception as e:  # shown by the test
        problems.append(e)


def storm(port):
    problems = []
    each = ROUND // THREADS
    threads = [threading.Thread(target=storm_part, args=(port, i * each, each, problems))
               for i in range(THREADS)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not problems, problems


def settled(server):
    expect_nothing_left(server)
    for gauge in ("channels", "hub_channels", "mesh_backlog_items", "mesh_backlog_bytes",
                  "addresses"):
        expect_metric(server, gauge, 0)


def test_after_a_storm_the_memory_is_back_and_nothing_is_left(new_server):
    s = new_server("--shards", "2", "--max-connections-per-ip", "1000", "--drain-time", "0")
    storm(s.port)
    settled(s)
    base = private_dirty(s.process.pid)
    for _ in range(ROUNDS):
        storm(s.port)
    settled(s)
    slack = max(base // 20, 512 << 10)
    until(lambda: private_dirty(s.process.pid) - base, lambda grown: grown <= slack)
    metrics = s.metrics()
    opened = metrics['tidewire_http_responses_total{status="101"}']
    assert opened == (1 + ROUNDS) * ROUND
    closed = sum(v for k, v in metrics.items() if k.startswith("tidewire_connections_closed_total"))
    assert closed >= opened + (1 + ROUNDS) * ROUND // 5 - THREADS * 25
    with Client(s.port, "/rooms/after") as c:
        c.expect_alive()
