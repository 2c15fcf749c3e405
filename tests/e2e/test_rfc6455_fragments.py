# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Fragmentation: RFC 6455 section 5.4."""

import pytest

from wire import BINARY, CLOSE, CONT, PING, PONG, TEXT, Client, close_frame, frame, join_all

pytestmark = pytest.mark.sanitize


def fragments(opcode, parts):
    """The frames of one message in these parts."""
    last = len(parts) - 1
    return [frame(opcode if i == 0 else CONT, part, fin=i == last) for i, part in enumerate(parts)]


def bytewise(payload):
    return [payload[i:i + 1] for i in range(len(payload))]


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("parts", [
    (b"Hel", b"lo"), (b"", b"Hello"), (b"Hello", b""), (b"", b""), (b"", b"", b""),
    (b"H", b"e", b"l", b"l", b"o"), (b"Hel", b"", b"", b"lo"), (b"x" * 126, b"y" * 126),
    (b"x" * 30000, b"y" * 30000)])
def test_fragments_are_joined_in_order(server, opcode, parts):
    with Client(server.port) as c:
        c.send(b"".join(fragments(opcode, parts)))
        assert c.message() == (opcode, b"".join(parts))
        c.expect_alive()


def test_fragments_may_come_in_segments_of_their_own(server):
    payload = b"fragment by fragment, segment by segment"
    with Client(server.port) as c:
        c.send_pieces(fragments(TEXT, bytewise(payload)))
        assert c.message() == (TEXT, payload)


def test_a_message_may_be_split_into_two_anywhere(server):
    payload = bytes(range(200))
    with Client(server.port) as c:
        for cut in range(len(payload) + 1):
            c.send(b"".join(fragments(BINARY, (payload[:cut], payload[cut:]))))
            assert c.message() == (BINARY, payload), cut


def test_fragments_may_be_cut_anywhere(server):
    data = b"".join(fragments(TEXT, (b"one ", b"", b"two ", b"x" * 130)))
    with Client(server.port) as c:
        for cut in range(1, len(data)):
            c.send_pieces([data[:cut], data[cut:]], 0.0005)
            assert c.message() == (TEXT, b"one two " + b"x" * 130), cut


def test_fragmented_and_whole_messages_alternate(server):
    with Client(server.port) as c:
        for i in range(50):
            c.send(b"".join(fragments(TEXT, (b"a%d" % i, b"b"))) + frame(BINARY, b"c%d" % i))
        for i in range(50):
            assert c.message() == (TEXT, b"a%db" % i)
            assert c.message() == (BINARY, b"c%d" % i)


def test_the_type_is_that_of_the_first_fragment(server):
    with Client(server.port) as c:
        c.send(b"".join(fragments(BINARY, (b"\xff", b"\xfe"))))
        assert c.message() == (BINARY, b"\xff\xfe")
        c.send(b"".join(fragments(TEXT, (b"a", b"b"))))
        assert c.message() == (TEXT, b"ab")


def test_a_room_hands_on_fragmented_messages_whole(server):
    with Client(server.port, "/rooms/fragments") as a, Client(server.port, "/rooms/fragments") as b:
        join_all([a, b])
        a.send(b"".join(fragments(TEXT, (b"Hel", b"lo"))))
        assert a.message() == (TEXT, b"Hello")
        assert b.message() == (TEXT, b"Hello")


# Control frames in between ------------------------------------------------------------------------

@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_ping_between_fragments_is_answered_at_once(server, opcode):
    with Client(server.port) as c:
        c.send(frame(opcode, b"Hel", fin=False) + frame(PING, b"now"))
        assert c.message() == (PONG, b"now")
        c.send(frame(CONT, b"lo"))
        assert c.message() == (opcode, b"Hello")


def test_control_frames_between_all_fragments(server):
    payload = b"interleaved"
    with Client(server.port) as c:
        for i, part in enumerate(fragments(TEXT, bytewise(payload))):
            c.send(part)
            if i < len(payload) - 1:
                c.send(frame(PONG, b"unasked") + frame(PING, b"%d" % i))
                assert c.message() == (PONG, b"%d" % i)
        assert c.message() == (TEXT, payload)


def test_control_frames_between_fragments_in_one_segment(server):
    one = frame(TEXT, b"a", fin=False) + frame(PING, b"1") + frame(CONT, b"b", fin=False)
    with Client(server.port) as c:
        c.send(one + frame(PONG) + frame(CONT, b"c"))
        assert c.message() == (PONG, b"1")
        assert c.message() == (TEXT, b"abc")


def test_a_close_between_fragments_ends_the_connection(server):
    with Client(server.port) as c:
        c.send(frame(TEXT, b"never ended", fin=False) + close_frame(1000))
        c.expect_close(1000)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8"])
@pytest.mark.parametrize("open_message", [False, True])
def test_a_fragmented_control_frame_is_a_protocol_error(server, opcode, payload, open_message):
    before = frame(TEXT, b"a", fin=False) if open_message else b""
    with Client(server.port) as c:
        c.send(before + frame(opcode, payload, fin=False))
        c.expect_close(1002)


# What is out of place -----------------------------------------------------------------------------

@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("payload", [b"", b"x"])
@pytest.mark.parametrize("before", [b"", frame(TEXT, b"whole"),
                                    frame(TEXT, b"a", fin=False) + frame(CONT, b"b")])
def test_a_continuation_of_nothing_is_a_protocol_error(server, fin, payload, before):
    with Client(server.port) as c:
        c.send(before + frame(CONT, payload, fin=fin))
        if before:
            assert c.message()[0] == TEXT
        c.expect_close(1002)


@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize("second", [TEXT, BINARY])
@pytest.mark.parametrize("fin", [True, False])
@pytest.mark.parametrize("between", [b"", frame(CONT, b"x", fin=False), frame(PONG)])
def test_messages_must_not_be_interleaved(server, first, second, fin, between):
    with Client(server.port) as c:
        c.send(frame(first, b"a", fin=False) + between + frame(second, b"b", fin=fin))
        c.expect_close(1002)
