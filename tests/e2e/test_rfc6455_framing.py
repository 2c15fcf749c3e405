# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Base framing and masking: RFC 6455 sections 5.1 to 5.3, 5.6 to 5.8, 6 and 10.4."""

import random

import pytest

from wire import (BINARY, CLOSE, CONT, MASK, PING, PONG, TEXT, Client, apply_mask, frame,
                  frame_head, join_all)

pytestmark = pytest.mark.sanitize

SMALL = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 124, 125, 126, 127, 128,
         255, 256, 257, 1023, 4095, 4096, 4097, 8192, 16383, 16384, 32768, 65534, 65535, 65536]
LARGE = [65537, 65600, 131071, 131072, 262145, 1048576, 3000001]
SCENE = [(TEXT, b"Hello"), (BINARY, bytes(range(256))), (TEXT, b""),
         (TEXT, "Grüße ≠ 😀".encode()), (BINARY, b"\x00" * 126)]


def scene_bytes():
    return b"".join(frame(opcode, payload) for opcode, payload in SCENE)


def expect_scene(c):
    for expected in SCENE:
        assert c.message() == expected


def pattern(length, seed=1):
    return random.Random(seed).randbytes(length)


# 5.2: lengths -------------------------------------------------------------------------------------

@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("length", SMALL)
def test_every_length_boundary_comes_back(server, opcode, length):
    payload = b"a" * length if opcode == TEXT else pattern(length)
    with Client(server.port) as c:
        c.echo(opcode, payload)
        c.expect_alive()


@pytest.mark.parametrize("length", LARGE)
def test_large_messages_come_back(shared_server, length):
    s = shared_server("--max-message", "4MiB", "--max-queue", "16MiB")
    with Client(s.port) as c:
        c.echo(BINARY, pattern(length))


def test_all_lengths_to_300_in_one_stream(server):
    payloads = [pattern(n, n) for n in range(301)]
    with Client(server.port) as c:
        c.send(b"".join(frame(BINARY, p) for p in payloads))
        for p in payloads:
            assert c.message() == (BINARY, p)


@pytest.mark.parametrize("seed", range(4))
def test_what_comes_together_is_answered_in_its_order(server, seed):
    """Messages of lengths around those where answers are put together, and pings between them."""
    rng = random.Random(seed)
    lengths = rng.choices([0, 1, 125, 126, 500, 4095, 4096, 4097, 9000], k=120)
    sent = [(rng.choice([TEXT, BINARY, BINARY, PING]), n) for n in lengths]
    sent = [(op, b"%07d" % i + b"a" * (min(n, 100) if op == PING else n))
            for i, (op, n) in enumerate(sent)]
    with Client(server.port) as c:
        c.send(b"".join(frame(op, payload) for op, payload in sent))
        for op, payload in sent:
            got = c.frame()
            assert (got.opcode, got.payload) == (PONG if op == PING else op, payload)


@pytest.mark.parametrize("form,length", [(16, 0), (16, 1), (16, 124), (16, 125), (64, 0), (64, 1),
                                         (64, 125), (64, 126), (64, 127), (64, 65535)])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_length_that_is_not_the_shortest_is_a_protocol_error(server, form, length, opcode):
    with Client(server.port) as c:
        c.send(frame_head(opcode, length, form=form))
        c.expect_close(1002)


@pytest.mark.parametrize("length", [1 << 63, (1 << 63) + 5, (1 << 64) - 1])
def test_the_highest_bit_of_a_length_is_a_protocol_error(server, length):
    with Client(server.port) as c:
        c.send(frame_head(BINARY, length, form=64))
        c.expect_close(1002)


# 5.2: reserved bits and opcodes -------------------------------------------------------------------

@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG])
def test_reserved_bits_without_an_extension_are_a_protocol_error(server, rsv, opcode):
    for payload in (b"", b"\x03\xe8"):
        with Client(server.port) as c:
            c.send(frame(opcode, payload, rsv=rsv))
            c.expect_close(1002)


@pytest.mark.parametrize("rsv", range(1, 8))
def test_reserved_bits_of_a_continuation_are_a_protocol_error(server, rsv):
    with Client(server.port) as c:
        c.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", rsv=rsv))
        c.expect_close(1002)


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"x", b"x" * 126])
@pytest.mark.parametrize("fin", [True, False])
def test_reserved_opcodes_are_a_protocol_error(server, opcode, payload, fin):
    with Client(server.port) as c:
        c.send(frame(opcode, payload, fin=fin))
        c.expect_close(1002)


@pytest.mark.parametrize("opcode", [3, 7, 11, 15])
def test_a_reserved_opcode_within_a_message_is_a_protocol_error(server, opcode):
    with Client(server.port) as c:
        c.send(frame(TEXT, b"a", fin=False) + frame(opcode, b"b"))
        c.expect_close(1002)


# 5.1, 5.3: masks ----------------------------------------------------------------------------------

@pytest.mark.parametrize("opcode", [TEXT, BINARY, CLOSE, PING, PONG, 3])
@pytest.mark.parametrize("payload", [b"", b"\x03\xe8", b"x" * 125])
def test_an_unmasked_frame_ends_the_connection(server, opcode, payload):
    with Client(server.port) as c:
        c.send(frame(opcode, payload, mask=None))
        c.expect_close(1002)


def test_an_unmasked_continuation_ends_the_connection(server):
    with Client(server.port) as c:
        c.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", mask=None))
        c.expect_close(1002)


@pytest.mark.parametrize("mask", [b"\0\0\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x01", b"\x80\0\0\0",
                                  b"\x01\x02\x03\x04"])
def test_any_mask_is_removed(server, mask):
    with Client(server.port) as c:
        for length in (0, 1, 3, 4, 5, 7, 8, 9, 63, 64, 65, 200, 5000):
            c.echo(BINARY, pattern(length), mask=mask)


def test_each_frame_has_its_own_mask(server):
    rng = random.Random(7)
    with Client(server.port) as c:
        c.send(b"".join(frame(BINARY, pattern(100, i), mask=rng.randbytes(4)) for i in range(200)))
        for i in range(200):
            assert c.message() == (BINARY, pattern(100, i))


def test_the_server_masks_nothing_it_sends(server):
    with Client(server.port) as c:
        for data in (frame(TEXT, b"t"), frame(BINARY, b"b" * 200), frame(PING, b"p"), frame(CLOSE)):
            c.send(data)
            assert not c.frame().masked


# 5.7: the RFC's own examples ----------------------------------------------------------------------

def test_the_examples_of_rfc_6455_are_understood(server):
    with Client(server.port) as c:
        c.send(bytes.fromhex("818537fa213d7f9f4d5158"))
        c.send(bytes.fromhex("8a8537fa213d7f9f4d5158"))
        assert c.message() == (TEXT, b"Hello")
        c.send(frame_head(BINARY, 256, mask=b"\0\0\0\0") + pattern(256))
        assert c.message() == (BINARY, pattern(256))
        c.send(frame_head(BINARY, 65536, mask=b"\0\0\0\0") + pattern(65536))
        assert c.message() == (BINARY, pattern(65536))


# 6.1, 6.2: sending and receiving ------------------------------------------------------------------

def test_text_stays_text_and_binary_stays_binary(server):
    with Client(server.port) as c:
        for opcode in (TEXT, BINARY, TEXT, TEXT, BINARY, BINARY, TEXT):
            c.echo(opcode, b"same bytes")


def test_a_message_leaves_as_whole_final_frames(server):
    with Client(server.port) as c:
        c.send(frame(TEXT, b"a" * 70, fin=False) + frame(CONT, b"b" * 70))
        f = c.frame()
        assert (f.fin, f.opcode, f.payload) == (True, TEXT, b"a" * 70 + b"b" * 70)


def test_frames_may_be_cut_anywhere(server):
    data = scene_bytes()
    with Client(server.port) as c:
        for cut in range(1, len(data)):
            c.send_pieces([data[:cut], data[cut:]], 0.0005)
            expect_scene(c)


def test_frames_may_come_byte_by_byte(server):
    with Client(server.port) as c:
        c.send_pieces([bytes([b]) for b in scene_bytes()], 0.0002)
        expect_scene(c)


@pytest.mark.parametrize("seed", range(20))
def test_frames_may_be_cut_into_many_pieces(server, seed):
    rng = random.Random(seed)
    data = scene_bytes() * 3
    cuts = sorted(rng.sample(range(1, len(data)), 12))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)])]
    with Client(server.port) as c:
        c.send_pieces(pieces, 0.0005)
        for _ in range(3):
            expect_scene(c)


def test_a_long_head_may_be_cut_anywhere(server):
    for length in (126, 65536):
        data = frame(BINARY, pattern(length))
        with Client(server.port) as c:
            for cut in range(1, 18):
                c.send_pieces([data[:cut], data[cut:]])
                assert c.message() == (BINARY, pattern(length)), cut


def test_a_room_hands_on_type_and_bytes(server):
    with Client(server.port, "/rooms/framing") as a, Client(server.port, "/rooms/framing") as b:
        join_all([a, b])
        for opcode, payload in SCENE + [(BINARY, pattern(65536)), (TEXT, b"x" * 126)]:
            a.send(frame(opcode, payload))
            assert a.message() == (opcode, payload)
            assert b.message() == (opcode, payload)


# 7.1.7: failing -----------------------------------------------------------------------------------

def test_complete_messages_before_a_violation_are_served(server):
    for bad in (frame(3, b"x"), frame(TEXT, b"x", mask=None), frame(BINARY, b"x", rsv=4),
                frame(CONT, b"x"), frame(PING, fin=False)):
        with Client(server.port) as c:
            c.send(frame(TEXT, b"one") + frame(BINARY, b"two") + bad)
            assert c.message() == (TEXT, b"one")
            assert c.message() == (BINARY, b"two")
            c.expect_close(1002)


def test_nothing_after_a_violation_is_processed(server):
    with Client(server.port, "/rooms/after-violation") as watcher:
        join_all([watcher])
        with Client(server.port, "/rooms/after-violation?echo=0") as c:
            c.send(frame(3, b"") + frame(TEXT, b"too late") + frame(PING, b"too late"))
            c.expect_close(1002)
        watcher.expect_alive()


def test_a_violation_ends_only_its_own_connection(server):
    with Client(server.port) as good:
        for _ in range(20):
            with Client(server.port) as c:
                c.send(frame(7, b"x"))
                c.expect_close(1002)
        good.echo(TEXT, b"still here")


# 10.4: limits -------------------------------------------------------------------------------------

@pytest.mark.parametrize("length", [65537, 65600, 1 << 20, 1 << 31, 1 << 32, (1 << 63) - 1])
def test_a_message_over_the_limit_is_refused_by_its_head(server, length):
    with Client(server.port) as c:
        c.send(frame_head(BINARY, length))
        c.expect_close(1009)


def test_the_limit_holds_for_the_sum_of_fragments(server):
    with Client(server.port) as c:
        c.send(frame(BINARY, b"x" * 40000, fin=False) + frame_head(CONT, 25537, fin=False))
        c.expect_close(1009)
    with Client(server.port) as c:
        c.send(frame(BINARY, b"x" * 40000, fin=False) + frame(CONT, b"y" * 25536))
        assert c.message() == (BINARY, b"x" * 40000 + b"y" * 25536)


def test_the_limit_of_fragments_holds(shared_server):
    s = shared_server("--max-fragments", "16")
    with Client(s.port) as c:
        c.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) * 14 + frame(CONT, b"c"))
        assert c.message() == (TEXT, b"a" + b"b" * 14 + b"c")
        c.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) * 16)
        c.expect_close(1008)


def test_random_bytes_never_hurt_others(server):
    with Client(server.port) as good:
        for seed in range(100):
            with Client(server.port) as c:
                c.send(random.Random(seed).randbytes(200))
        good.echo(TEXT, b"unharmed")


def test_masking_is_what_section_5_3_says():
    assert apply_mask(b"Hello", MASK) == bytes.fromhex("7f9f4d5158")
