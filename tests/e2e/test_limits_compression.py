# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What compression may cost: inflating is bounded by the message limit, deflating is shared."""

import os
import zlib

import pytest

from probe import (expect_ends, expect_metric, expect_nothing_left, is_sanitized,
                   peak_rss)
from wire import BINARY, CONT, TEXT, Client, deflate_message, frame, inflate_message, join_all

KIB = 1 << 10
MIB = 1 << 20
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}


def bomb(size):
    """Zeros at about 1000:1, as a client without context takeover would send them."""
    return deflate_message(bytes(size))


@pytest.fixture
def deflating(new_server):
    return new_server("--echo", "--compress", "on", "--max-message", "256KiB", "--shards", "2")


def test_a_bomb_is_1009_and_costs_no_more_than_the_limit(deflating):
    s = deflating
    payload = bomb(200 * MIB)
    assert 190_000 < len(payload) <= 256 * KIB
    with Client(s.port, headers=OFFER) as c:
        c.send(frame(BINARY, deflate_message(os.urandom(64 * KIB) * 3), rsv=4))  # warm
        c.any_message()
    before = peak_rss(s.process.pid)
    for _ in range(20):
        with Client(s.port, headers=OFFER) as c:
            c.send(frame(BINARY, payload, rsv=4))
            c.expect_close(1009)
    grown = peak_rss(s.process.pid) - before
    # On each shard: the assembled input and the inflated output, each at most the limit (and the
    # step of doubling that the input grew by); not the 200 MiB.
    assert is_sanitized() or grown < 2 * 3 * 256 * KIB + MIB, f"{grown} bytes"
    expect_ends(s, "message_too_big", 20)
    expect_metric(s, "close_frames_sent_total", 20, code="1009")
    expect_nothing_left(s)


def test_a_bomb_in_fragments_is_1009(deflating):
    payload = bomb(32 * MIB)
    with Client(deflating.port, headers=OFFER) as c:
        parts = [payload[i:i + 4096] for i in range(0, len(payload), 4096)]
        c.send(frame(BINARY, parts[0], fin=False, rsv=4)
               + b"".join(frame(CONT, p, fin=False) for p in parts[1:]) + frame(CONT, b""))
        c.expect_close(1009)
    expect_ends(deflating, "message_too_big")
    expect_nothing_left(deflating)


@pytest.mark.parametrize("size,code", [(256 * KIB, None), (256 * KIB + 1, 1009)])
def test_the_limit_is_that_of_the_inflated_message(deflating, size, code):
    with Client(deflating.port, headers=OFFER) as c:
        c.send(frame(BINARY, bomb(size), rsv=4))
        if code is None:
            assert c.any_message() == (BINARY, bytes(size))
        else:
            c.expect_close(code)
    expect_metric(deflating, "messages_inflated_total", 1)


def test_what_is_no_deflate_is_1007(deflating):
    with Client(deflating.port, headers=OFFER) as c:
        c.send(frame(BINARY, b"\xff\xff\xff\xff", rsv=4))
        c.expect_close(1007)
    expect_ends(deflating, "bad_deflate")


def test_a_broadcast_is_compressed_once_for_all_members(deflating):
    path, text = "/rooms/shared", b"the same words for everyone, " * 40
    members = [Client(deflating.port, path, OFFER) for _ in range(98)]
    plain = [Client(deflating.port, path) for _ in range(2)]
    everyone = members + plain
    join_all(everyone)
    expect_metric(deflating, "messages_compressed_total", 0)  # the tokens are too short
    plain[0].send(frame(TEXT, text))
    frames = [c.frame() for c in everyone]
    assert all(f.rsv == 4 for f in frames[:98]) and all(f.rsv == 0 for f in frames[98:])
    assert len({f.payload for f in frames[:98]}) == 1
    assert inflate_message(frames[0].payload) == text
    assert {f.payload for f in frames[98:]} == {text}
    expect_metric(deflating, "messages_compressed_total", 1)
    members[0].send(frame(TEXT, deflate_message(text), rsv=4))
    for c in everyone:
        assert c.any_message() == (TEXT, text)
        c.sock.close()
    expect_metric(deflating, "messages_compressed_total", 2)
    expect_metric(deflating, "messages_inflated_total", 1)


def test_nothing_is_compressed_where_no_member_wants_it(deflating):
    with Client(deflating.port, "/rooms/plain") as a, Client(deflating.port, "/rooms/plain") as b:
        join_all([a, b])
        a.send(frame(TEXT, b"x" * 4096))
        assert a.message() == b.message() == (TEXT, b"x" * 4096)
    expect_metric(deflating, "messages_compressed_total", 0)


def test_compress_min_is_where_compression_begins(new_server):
    s = new_server("--compress", "on", "--compress-min", "300B")
    with Client(s.port, "/rooms/min", OFFER) as c:
        for length, rsv in ((299, 0), (300, 4)):
            c.send(frame(TEXT, b"a" * length))
            f = c.frame()
            assert (f.rsv, f.fin) == (rsv, True)
    expect_metric(s, "messages_compressed_total", 1)


def test_what_does_not_shrink_is_sent_as_it_is(deflating):
    noise = os.urandom(4096)
    with Client(deflating.port, "/rooms/noise", OFFER) as c:
        c.send(frame(BINARY, noise))
        f = c.frame()
        assert (f.rsv, f.payload) == (0, noise)
        c.send(frame(BINARY, deflate_message(noise, level=zlib.Z_BEST_SPEED), rsv=4))
        assert c.any_message() == (BINARY, noise)
    expect_metric(deflating, "messages_compressed_total", 0)


def test_compress_off_declines_the_offer_and_refuses_its_frames(new_server):
    s = new_server("--echo", "--compress", "off")
    with Client(s.port, headers=OFFER) as c:
        assert c.header("sec-websocket-extensions") == []
        c.send(frame(TEXT, bomb(1000), rsv=4))
        c.expect_close(1002)
    expect_ends(s, "protocol_error")
