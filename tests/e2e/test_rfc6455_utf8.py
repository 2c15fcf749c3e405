# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""UTF-8 in text messages: RFC 6455 sections 5.6 and 8.1, RFC 3629 section 4."""

import codecs

import pytest

from wire import BINARY, CONT, MASK, PING, PONG, TEXT, Client, apply_mask, frame, frame_head

pytestmark = pytest.mark.sanitize

# Both sides of every boundary of RFC 3629's table.
EDGES = [0x00, 0x01, 0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xCFFF, 0xD000, 0xD7FF, 0xE000,
         0xFDD0, 0xFEFF, 0xFFFD, 0xFFFE, 0xFFFF, 0x10000, 0x3FFFF, 0x40000, 0xFFFFF, 0x100000,
         0x10FFFE, 0x10FFFF]
LEADS = [0x80, 0xBF, 0xC0, 0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3,
         0xF4, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF]
SECONDS = [0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF]
BAD = {
    "lone continuation": b"\x80", "lone last continuation": b"\xbf",
    "overlong 2": b"\xc0\xaf", "overlong 2 end": b"\xc1\xbf", "overlong 3": b"\xe0\x80\xaf",
    "overlong 3 end": b"\xe0\x9f\xbf", "overlong 4": b"\xf0\x80\x80\xaf",
    "overlong 4 end": b"\xf0\x8f\xbf\xbf", "surrogate first": b"\xed\xa0\x80",
    "surrogate last": b"\xed\xbf\xbf", "surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "over U+10FFFF": b"\xf4\x90\x80\x80", "F5": b"\xf5\x80\x80\x80",
    "five bytes": b"\xf8\x88\x80\x80\x80",
    "six bytes": b"\xfc\x84\x80\x80\x80\x80", "FE": b"\xfe", "FF": b"\xff",
    "second is ASCII": b"\xc3A", "third is ASCII": b"\xe2\x82A",
    "fourth is ASCII": b"\xf0\x9f\x98A",
    "lead after lead": b"\xc3\xc3\xa9", "the classic": b"\xce\xba\xe1\xbd\xb9\xcf\x83\xed\xa0\x80x",
}
MIXED = "aé€😀 Grüße, κόσμε, 你好, \U0010ffff".encode()


def first_bad(data):
    """The index of the first byte that no valid text could have there; None if all could be."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    for i in range(len(data)):
        try:
            decoder.decode(data[i:i + 1])
        except UnicodeDecodeError:
            return i
    return None


def expect_refused(server, *frames):
    with Client(server.port) as c:
        c.send(b"".join(frames))
        c.expect_close(1007)


# Valid --------------------------------------------------------------------------------------------

def test_every_boundary_code_point_comes_back(server):
    with Client(server.port) as c:
        for point in EDGES:
            c.echo(TEXT, chr(point).encode())


def test_every_code_point_comes_back(server):
    points = [p for p in range(0, 0x110000) if not 0xD800 <= p <= 0xDFFF]
    with Client(server.port) as c:
        for i in range(0, len(points), 16000):
            c.echo(TEXT, "".join(map(chr, points[i:i + 16000])).encode())


def test_a_character_may_be_cut_by_fragments_anywhere(server):
    with Client(server.port) as c:
        for cut in range(len(MIXED) + 1):
            c.send(frame(TEXT, MIXED[:cut], fin=False) + frame(CONT, MIXED[cut:]))
            assert c.message() == (TEXT, MIXED), cut


def test_a_character_may_be_cut_by_a_control_frame(server):
    with Client(server.port) as c:
        for cut in range(len(MIXED) + 1):
            c.send(frame(TEXT, MIXED[:cut], fin=False) + frame(PING, b"\xff"))
            c.send(frame(CONT, b"", fin=False) + frame(CONT, MIXED[cut:]))
            assert c.message() == (PONG, b"\xff")
            assert c.message() == (TEXT, MIXED), cut


def test_a_character_may_be_cut_by_segments_anywhere(server):
    data = frame(TEXT, MIXED)
    with Client(server.port) as c:
        for cut in range(1, len(data)):
            c.send_pieces([data[:cut], data[cut:]], 0.0005)
            assert c.message() == (TEXT, MIXED), cut


def test_one_byte_fragments_of_text_come_back(server):
    parts = [frame(TEXT if i == 0 else CONT, MIXED[i:i + 1], fin=i == len(MIXED) - 1)
             for i in range(len(MIXED))]
    with Client(server.port) as c:
        c.send(b"".join(parts))
        assert c.message() == (TEXT, MIXED)


def test_binary_messages_may_hold_any_bytes(server):
    with Client(server.port) as c:
        for bad in BAD.values():
            c.echo(BINARY, bad)
            c.send(frame(BINARY, bad[:1], fin=False) + frame(CONT, bad[1:]))
            assert c.message() == (BINARY, bad)


# Invalid ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", BAD)
def test_invalid_text_is_refused(server, name):
    expect_refused(server, frame(TEXT, BAD[name]))


def test_every_lead_byte_with_edge_second_bytes(server):
    for lead in LEADS:
        for second in SECONDS:
            data = bytes((lead, second))
            assert first_bad(data) is not None or lead >= 0xC2
            if first_bad(data) is not None:
                expect_refused(server, frame(TEXT, data + b"\x80\x80"))


@pytest.mark.parametrize("name", BAD)
def test_invalid_text_is_refused_wherever_it_is_fragmented(server, name):
    data = b"ok " + BAD[name] + b" more"
    for cut in range(len(data) + 1):
        expect_refused(server, frame(TEXT, data[:cut], fin=False), frame(CONT, data[cut:]))


@pytest.mark.parametrize("bad", [b"\xff", b"\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80"])
def test_invalid_bytes_are_found_at_every_offset(server, bad):
    for offset in [*range(0, 70), 127, 128, 129, 255, 256, 4094, 4095, 4096, 16383, 65000]:
        expect_refused(server, frame(TEXT, b"a" * offset + bad + b"b" * 40))


@pytest.mark.parametrize("end", [b"\xc3", b"\xe2", b"\xe2\x82", b"\xf0", b"\xf0\x9f",
                                 b"\xf0\x9f\x98"])
def test_text_that_ends_within_a_character_is_refused(server, end):
    for before in (b"", b"a", b"a" * 31, b"a" * 64, "€".encode() * 20):
        expect_refused(server, frame(TEXT, before + end))
        expect_refused(server, frame(TEXT, before + end, fin=False), frame(CONT, b""))


@pytest.mark.parametrize("end", [b"\xc3", b"\xe2\x82", b"\xf0\x9f\x98"])
def test_a_cut_character_is_not_completed_by_the_next_message(server, end):
    rest = {b"\xc3": b"\xa9", b"\xe2\x82": b"\xac", b"\xf0\x9f\x98": b"\x80"}[end]
    expect_refused(server, frame(TEXT, end), frame(TEXT, rest))


# Fail fast ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", BAD)
def test_an_open_fragment_is_refused_at_the_first_bad_byte(server, name):
    data = BAD[name]
    expect_refused(server, frame(TEXT, data[:first_bad(data) + 1], fin=False))


@pytest.mark.parametrize("name", BAD)
def test_an_open_frame_is_refused_at_the_first_bad_byte(server, name):
    for before in (b"", b"x" * 100):
        data = before + BAD[name]
        part = data[:first_bad(data) + 1]
        expect_refused(server, frame_head(TEXT, 60000), apply_mask(part, MASK))


@pytest.mark.parametrize("name", BAD)
def test_a_bad_byte_is_found_when_bytes_come_singly(server, name):
    data = BAD[name]
    part = data[:first_bad(data) + 1]
    with Client(server.port) as c:
        masked = apply_mask(part, MASK)
        c.send_pieces([frame_head(TEXT, 1000), *(masked[i:i + 1] for i in range(len(masked)))])
        c.expect_close(1007)


def test_what_may_still_become_valid_is_waited_for(server):
    for prefix, rest in ((b"\xf4", b"\x8f\xbf\xbf"), (b"\xf4\x8f", b"\xbf\xbf"),
                         (b"\xed\x9f", b"\xbf"), (b"\xe0", b"\xa0\x80"),
                         (b"\xf0\x90", b"\x80\x80")):
        with Client(server.port) as c:
            c.send(frame(TEXT, prefix, fin=False))
            c.expect_alive()
            c.send(frame(CONT, rest))
            assert c.message() == (TEXT, prefix + rest)
