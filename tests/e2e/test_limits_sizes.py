# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Limits on sizes: heads, messages, fragments."""

import hashlib
import os
import threading

import pytest

from probe import expect_ends, expect_metric, expect_nothing_left, is_sanitized, peak_rss
from wire import (BINARY, CONT, TEXT, Client, Raw, apply_mask, close_frame, frame, frame_head,
                  join_all, request)

pytestmark = pytest.mark.sanitize
MIB = 1 << 20


def head_of(length, host):
    """A request head of exactly that many bytes."""
    plain = f"GET /nowhere HTTP/1.1\r\nHost: {host}\r\nX-Pad: \r\n\r\n"
    return plain.replace("X-Pad: ", "X-Pad: " + "x" * (length - len(plain))).encode()


# HTTP ---------------------------------------------------------------------------------------------

def test_a_head_of_max_head_is_read_and_one_byte_more_is_431(new_server):
    s = new_server("--max-head", "2KiB")
    with Raw(s.port) as c:
        assert c.ask(head_of(2048, c.host)).status == 404
        assert c.ask(head_of(2049, c.host)).status == 431
        assert c.at_end()
    expect_metric(s, "http_responses_total", 1, status="431")
    expect_ends(s, "http_refused")


def test_a_head_without_end_is_431_as_soon_as_it_is_too_long(new_server):
    s = new_server("--max-head", "2KiB")
    with Raw(s.port) as c:
        c.send(b"GET / HTTP/1.1\r\nHost: x\r\nX-Pad: ")
        c.send(b"y" * 2048)
        assert c.response().status == 431
        assert c.at_end()
    expect_metric(s, "http_responses_total", 1, status="431")
    expect_ends(s, "http_refused")
    expect_nothing_left(s)


def test_max_headers_are_read_and_one_more_is_431(new_server):
    s = new_server("--max-headers", "10")
    with Raw(s.port) as c:
        assert c.ask(request("/rooms/x", c.host, [(f"X-{i}", "1") for i in range(5)])).status == 101
    with Raw(s.port) as c:
        assert c.ask(request("/rooms/x", c.host, [(f"X-{i}", "1") for i in range(6)])).status == 431
        assert c.at_end()
    expect_metric(s, "http_responses_total", 1, status="431")
    expect_ends(s, "http_refused")


def test_a_target_that_fills_the_head_is_414(new_server):
    s = new_server("--max-head", "2KiB")
    with Raw(s.port) as c:
        c.send(b"GET /" + b"a" * 4096 + b" HTTP/1.1\r\n")
        assert c.response().status == 414
        assert c.at_end()
    expect_metric(s, "http_responses_total", 1, status="414")
    expect_ends(s, "http_refused")


# Messages -----------------------------------------------------------------------------------------

@pytest.fixture
def small(new_server):
    return new_server("--echo", "--max-message", "1000B", "--max-fragments", "8", "--drain-time",
                      "0")


def test_a_message_of_max_message_passes_and_one_byte_more_is_1009(small):
    with Client(small.port) as c:
        c.echo(BINARY, b"x" * 1000)
        c.send(frame(BINARY, b"x" * 1001))
        c.expect_close(1009)
    expect_ends(small, "message_too_big")
    expect_metric(small, "close_frames_sent_total", 1, code="1009")


@pytest.mark.parametrize("length", [1001, 65536, 1 << 32, (1 << 63) - 1])
def test_the_head_of_a_frame_alone_decides_that_it_is_too_long(small, length):
    with Client(small.port) as c:
        c.send(frame_head(BINARY, length))
        c.expect_close(1009)
    expect_ends(small, "message_too_big")
    expect_metric(small, "assembly_bytes", 0)
    expect_metric(small, "payload_copies_total", 0)


def test_the_head_of_the_fragment_that_goes_over_the_limit_decides(small):
    with Client(small.port) as c:
        c.send(frame(TEXT, b"x" * 600, fin=False))
        c.expect_alive()
        c.send(frame_head(CONT, 401, fin=True))
        c.expect_close(1009)
    expect_ends(small, "message_too_big")
    expect_nothing_left(small)


def test_what_came_before_the_message_that_is_too_long_is_still_served(small):
    with Client(small.port) as c:
        c.send(frame(TEXT, b"first") + frame(TEXT, b"second") + frame_head(TEXT, 1001))
        assert c.message() == (TEXT, b"first")
        assert c.message() == (TEXT, b"second")
        c.expect_close(1009)


def test_max_fragments_pass_and_one_more_is_refused(small):
    with Client(small.port) as c:
        for count in (8, 9):
            c.send(frame(TEXT, b"a", fin=False))
            for _ in range(count - 2):
                c.send(frame(CONT, b"b", fin=False))
            c.send(frame(CONT, b"c"))
            if count == 8:
                assert c.message() == (TEXT, b"abbbbbbc")
        c.expect_close(1008)
    expect_ends(small, "too_many_fragments")
    expect_metric(small, "close_frames_sent_total", 1, code="1008")
    expect_nothing_left(small)


def test_empty_fragments_count_too(small):
    with Client(small.port) as c:
        c.send(frame(BINARY, b"", fin=False) + frame(CONT, b"", fin=False) * 8)
        c.expect_close(1008)
    expect_ends(small, "too_many_fragments")


def test_messages_of_64_mib_come_back_intact(new_server):
    s = new_server("--max-message", "64MiB", "--max-queue", "128MiB", "--shards", "2")
    payload = os.urandom(MIB) * 64
    masked = frame_head(BINARY, len(payload)) + apply_mask(payload[:MIB], b"\x37\xfa\x21\x3d") * 64
    digest = hashlib.sha256(payload).digest()
    clients = [Client(s.port, "/rooms/large", timeout=60) for _ in range(3)]
    join_all(clients)
    got = [None] * len(clients)

    def read(i):
        got[i] = hashlib.sha256(receive_large(clients[i], len(payload))).digest()

    readers = [threading.Thread(target=read, args=(i,)) for i in range(len(clients))]
    for t in readers:
        t.start()
    clients[0].send(masked)
    for t in readers:
        t.join(60)
    assert got == [digest] * len(clients)
    for c in clients:
        c.send(frame_head(BINARY, len(payload) + 1))
        c.expect_close(1009)
        c.sock.close()
    expect_ends(s, "message_too_big", len(clients))
    expect_nothing_left(s)
    # One message, what it grew from, and its copy for the members: not one for each member.
    if not is_sanitized():
        assert peak_rss(s.process.pid) < 260 * MIB


def receive_large(c, length):
    """A frame of a length that needs all eight bytes; joined once at the end."""
    head = c._take(10)
    assert head == b"\x82\x7f" + length.to_bytes(8, "big")
    parts, have = [c.buffer], len(c.buffer)
    while have < length:
        part = c.sock.recv(min(MIB, length - have))
        assert part, "the connection ended"
        parts.append(part)
        have += len(part)
    c.buffer = b""
    return b"".join(parts)


def test_what_a_peer_leaves_incomplete_is_freed(small):
    begun = (frame_head(TEXT, 900), frame(TEXT, b"x" * 900)[:500], frame(TEXT, b"x", fin=False))
    for part in begun:
        with Client(small.port) as c:
            c.send(part)
    expect_ends(small, "peer_eof", len(begun))
    with Client(small.port) as c:
        c.send(begun[2] + close_frame(1000))
        c.expect_close(1000)
    expect_ends(small, "peer_close")
    expect_nothing_left(small)
