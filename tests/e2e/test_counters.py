# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What ends a connection is counted, by reason and by close code."""

import socket
import struct

import pytest

from probe import settled, until
from wire import (BINARY, CONT, PING, TEXT, Client, Raw, close_frame, deflate_message, frame,
                  frame_head, join_all, request)

pytestmark = pytest.mark.sanitize

RSV1 = 4
ENDS = {
    "protocol_error": (frame(3), 1002),
    "bad_utf8": (frame(TEXT, b"\xff"), 1007),
    "bad_deflate": (frame(TEXT, b"\x06", rsv=RSV1), 1007),
    "message_too_big": (frame_head(BINARY, 1 << 30), 1009),
    "too_many_fragments": (frame(TEXT, b"a", fin=False) + frame(CONT, fin=False) * 16, 1008),
    "peer_close": (close_frame(4000), 4000),
}
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}


@pytest.fixture
def counted(shared_server):
    return shared_server("--compress", "on", "--max-fragments", "16")


@pytest.mark.parametrize("reason", ENDS)
def test_each_end_is_counted_by_its_reason(counted, reason):
    cause, code = ENDS[reason]
    name = "tidewire_connections_closed_total"
    before = settled(lambda: counted.metric(name, reason=reason))
    for _ in range(3):
        with Client(counted.port, headers=OFFER) as c:
            c.send(cause)
            c.expect_close(code)
    until(lambda: counted.metric(name, reason=reason), before + 3)


def leave(c):
    c.expect_alive()  # nothing is under way


def leave_by_reset(c):
    leave(c)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def ask_wrongly(c):
    c.send(b"GET / HTTP/1.1\r\n\r\n")
    assert c.response().status == 400 and c.at_end()


@pytest.mark.parametrize("reason,begin,end", [("peer_eof", Client, leave),
                                              ("peer_reset", Client, leave_by_reset),
                                              ("http_refused", Raw, ask_wrongly)],
                         ids=["peer_eof", "peer_reset", "http_refused"])
def test_each_end_without_a_code_is_counted_by_its_reason(counted, reason, begin, end):
    name = "tidewire_connections_closed_total"
    before = settled(lambda: counted.metric(name, reason=reason))
    for _ in range(3):
        with begin(counted.port) as c:
            end(c)
    until(lambda: counted.metric(name, reason=reason), before + 3)


@pytest.mark.parametrize("code", sorted({code for _, code in ENDS.values() if code < 3000}))
def test_each_close_code_sent_is_counted(counted, code):
    name = "tidewire_close_frames_sent_total"
    before = settled(lambda: counted.metric(name, code=code))
    cause = next(cause for cause, c in ENDS.values() if c == code)
    with Client(counted.port, headers=OFFER) as c:
        c.send(cause)
        c.expect_close(code)
    until(lambda: counted.metric(name, code=code), before + 1)


def test_answers_are_counted_by_status(counted):
    name = "tidewire_http_responses_total"
    before = settled(lambda: {s: counted.metric(name, status=s) for s in (101, 400, 404, 426)})
    for path, how in (("/echo", {}), ("/rooms/", {}), ("/nowhere", {}),
                      ("/echo", {"drop": ("upgrade",)})):
        with Raw(counted.port) as c:
            c.ask(request(path, c.host, **how))
    for status, count in before.items():
        until(lambda: counted.metric(name, status=status), count + 1)


def test_connections_are_counted_while_they_last(counted):
    """The connection that asks is one of them."""
    clients = [Client(counted.port, "/rooms/gauge") for _ in range(10)]
    join_all(clients)
    until(lambda: counted.metric("tidewire_connections"), lambda n: n >= 11)
    for c in clients:
        c.sock.close()
    until(lambda: counted.metric("tidewire_connections"), 1)


def test_each_message_received_is_counted_once(counted):
    """Small and long, whole and in fragments, compressed and not."""
    kinds = [frame(BINARY, b"small"), frame(TEXT, b"x" * 1000),
             frame(TEXT, b"begun ", fin=False) + frame(CONT, b"ended"),
             frame(BINARY, deflate_message(b"y" * 500), rsv=RSV1)]
    read = lambda: counted.metric("tidewire_messages_received_total")
    before = settled(read)
    with Client(counted.port, headers=OFFER) as c:
        for kind in kinds:
            c.send(kind + frame(PING))
            c.frame()
            c.frame()
    assert settled(read) - before == len(kinds)


def test_memory_of_messages_does_not_grow_with_their_number(counted):
    with Client(counted.port, headers=OFFER) as c:
        sizes = []
        for _ in range(5):
            for _ in range(200):
                c.send(frame(BINARY, deflate_message(b"x" * 5000), rsv=RSV1) + frame(PING, b"p"))
                c.frame()
                c.frame()
            sizes.append(settled(lambda: counted.metric("tidewire_message_pool_bytes")))
    assert sizes[-1] <= sizes[2], sizes
