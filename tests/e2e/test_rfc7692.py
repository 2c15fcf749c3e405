# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""permessage-deflate: RFC 7692. The server compresses without context takeover on either side."""

import random
import zlib

import pytest

from wire import (BINARY, CLOSE, CONT, PING, PONG, TEXT, Client, Raw, deflate_message, frame,
                  frame_head, inflate_message, join_all, request)

pytestmark = pytest.mark.sanitize

OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}
RSV1 = 4
NAMES = ["server_no_context_takeover", "client_no_context_takeover", "server_max_window_bits",
         "client_max_window_bits"]
# 7.2.3: "Hello" as the RFC compresses it.
HELLO = bytes.fromhex("f248cdc9c90700")
HELLO_STORED = bytes.fromhex("000500faff48656c6c6f00")
HELLO_FINAL = bytes.fromhex("f348cdc9c9070000")
HELLO_TWO_BLOCKS = bytes.fromhex("f248050000 00ffff cac9c90700")


def negotiate(server, *offers):
    """The parameters of the answer as a dict, or None when the offer was declined."""
    with Raw(server.port) as c:
        fields = [("Sec-WebSocket-Extensions", offer) for offer in offers]
        answer = c.ask(request("/echo", c.host, fields))
    assert answer.status == 101, answer
    values = [v for n, v in answer.headers if n == "sec-websocket-extensions"]
    if not values:
        return None
    assert len(values) == 1 and "," not in values[0], values
    name, *params = [p.strip() for p in values[0].split(";")]
    assert name == "permessage-deflate"
    names = [p.split("=")[0].strip() for p in params]
    assert len(set(names)) == len(names) and set(names) <= set(NAMES), values
    return {p.split("=")[0].strip(): (p.split("=") + [None])[1] for p in params}


def connect(server, path="/echo", offer="permessage-deflate"):
    c = Client(server.port, path, {"Sec-WebSocket-Extensions": offer})
    assert len(c.header("sec-websocket-extensions")) == 1
    return c


def compressed(opcode, data, **how):
    return frame(opcode, deflate_message(data, **how), rsv=RSV1)


# 5, 7, 7.1: negotiation ---------------------------------------------------------------------------

@pytest.mark.parametrize("offer", [
    "permessage-deflate", "permessage-deflate; client_max_window_bits",
    "permessage-deflate; client_max_window_bits=8", "permessage-deflate; client_max_window_bits=9",
    "permessage-deflate; client_max_window_bits=15",
    "permessage-deflate; server_no_context_takeover",
    "permessage-deflate; client_no_context_takeover",
    "permessage-deflate;server_no_context_takeover;client_no_context_takeover",
    "permessage-deflate; client_max_window_bits; server_max_window_bits=12",
    'permessage-deflate; server_max_window_bits="10"',
    "permessage-deflate ; server_max_window_bits=15 ; client_max_window_bits"])
def test_a_good_offer_is_accepted(deflate_server, offer):
    params = negotiate(deflate_server, offer)
    assert params is not None
    if "client_max_window_bits" not in offer:
        assert "client_max_window_bits" not in params
    if "server_max_window_bits" in offer:
        asked = offer.split("server_max_window_bits=")[1].split(";")[0].strip(' "')
        assert 8 <= int(params["server_max_window_bits"]) <= int(asked)


def test_the_answer_agrees_on_no_context_takeover(deflate_server):
    for offer in ("permessage-deflate", "permessage-deflate; server_no_context_takeover",
                  "permessage-deflate; client_no_context_takeover"):
        params = negotiate(deflate_server, offer)
        assert params["server_no_context_takeover"] is None
        assert params["client_no_context_takeover"] is None


@pytest.mark.parametrize("bits", range(9, 16))
def test_the_window_of_the_server_is_at_most_what_was_asked_for(deflate_server, bits):
    params = negotiate(deflate_server, f"permessage-deflate; server_max_window_bits={bits}")
    assert 8 <= int(params["server_max_window_bits"]) <= bits


def test_a_window_of_8_bits_is_kept_or_declined(deflate_server):
    params = negotiate(deflate_server, "permessage-deflate; server_max_window_bits=8")
    assert params is None or params["server_max_window_bits"] == "8"


@pytest.mark.parametrize("bits", range(8, 16))
def test_the_window_of_the_client_is_at_most_what_it_offered(deflate_server, bits):
    params = negotiate(deflate_server, f"permessage-deflate; client_max_window_bits={bits}")
    assert 8 <= int(params.get("client_max_window_bits", 8)) <= bits


@pytest.mark.parametrize("param", ["foo", "foo=1", "window_bits=10", "max_window_bits",
                                   "server_max_window_bits2=10", "x_server_no_context_takeover"])
def test_an_offer_with_an_unknown_parameter_is_declined(deflate_server, param):
    assert negotiate(deflate_server, f"permessage-deflate; {param}") is None
    assert negotiate(deflate_server, f"permessage-deflate; client_max_window_bits; {param}") is None


@pytest.mark.parametrize("param", [
    "server_no_context_takeover=1", "server_no_context_takeover=true",
    "client_no_context_takeover=1", 'client_no_context_takeover="x"', "server_max_window_bits",
    *(f"{name}={value}" for name in ("server_max_window_bits", "client_max_window_bits")
      for value in ("0", "7", "16", "08", "010", "+9", "-9", "1x", "x", "9.0", "99999999999",
                    "4294967306", '"16"'))])
def test_an_offer_with_an_invalid_value_is_declined(deflate_server, param):
    assert negotiate(deflate_server, f"permessage-deflate; {param}") is None


@pytest.mark.parametrize("name,value", [(n, v) for n in NAMES for v in ("", "=10")
                                        if ("window" in n) == bool(v)])
def test_an_offer_with_a_repeated_parameter_is_declined(deflate_server, name, value):
    assert negotiate(deflate_server, f"permessage-deflate; {name}{value}; {name}{value}") is None


def test_a_repeated_parameter_is_declined_whatever_its_values(deflate_server):
    for params in ("client_max_window_bits; client_max_window_bits=10",
                   "server_max_window_bits=10; server_max_window_bits=11"):
        assert negotiate(deflate_server, f"permessage-deflate; {params}") is None


def test_the_first_acceptable_offer_wins(deflate_server):
    first = "permessage-deflate; server_max_window_bits=10"
    bad = "permessage-deflate; foo"
    plain = "permessage-deflate"
    for offers in ((f"{first}, {plain}",), (first, plain), (f"{bad}, {first}, {plain}",),
                   (bad, first, plain), (f"x-unheard-of, {bad}", f"{first}, {plain}")):
        assert negotiate(deflate_server, *offers)["server_max_window_bits"] is not None
    params = negotiate(deflate_server, f"{plain}, {first}")
    assert "server_max_window_bits" not in params or int(params["server_max_window_bits"]) <= 15
    assert negotiate(deflate_server, f"{bad}, permessage-deflate; server_max_window_bits=7") is None


@pytest.mark.parametrize("offer", ["permessage-deflat", "permessage-deflate2", "perframe-deflate",
                                   "x-webkit-deflate-frame", "deflate"])
def test_another_extension_is_not_taken_for_it(deflate_server, offer):
    assert negotiate(deflate_server, offer) is None


def test_it_is_accepted_once_beside_other_extensions(deflate_server):
    assert negotiate(deflate_server, "x-webkit-deflate-frame, permessage-deflate, mux") is not None


def test_without_the_flag_every_offer_is_declined(server):
    assert negotiate(server, "permessage-deflate") is None
    with Client(server.port, headers=OFFER) as c:
        c.send(compressed(TEXT, b"not agreed on"))
        c.expect_close(1002)


# 6: the bit ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_compressed_control_frame_is_a_protocol_error(deflate_server, opcode):
    for payload in (b"", b"\x03\xe8"):
        with connect(deflate_server) as c:
            c.send(frame(opcode, payload, rsv=RSV1))
            c.expect_close(1002)


@pytest.mark.parametrize("first", [0, RSV1])
@pytest.mark.parametrize("fin", [True, False])
def test_the_bit_on_a_continuation_is_a_protocol_error(deflate_server, first, fin):
    with connect(deflate_server) as c:
        c.send(frame(BINARY, HELLO[:3], fin=False, rsv=first))
        c.send(frame(CONT, HELLO[3:], fin=fin, rsv=RSV1))
        c.expect_close(1002)


@pytest.mark.parametrize("rsv", [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING])
def test_the_other_reserved_bits_stay_reserved(deflate_server, rsv, opcode):
    with connect(deflate_server) as c:
        c.send(frame(opcode, HELLO, rsv=rsv))
        c.expect_close(1002)


def test_the_server_never_marks_control_frames(deflate_server):
    with connect(deflate_server) as c:
        for data in (frame(PING, b"x" * 125), frame(CLOSE, b"\x03\xe8" + b"y" * 120)):
            c.send(data)
            f = c.frame()
            assert f.opcode in (PONG, CLOSE) and f.rsv == 0


# 6.2, 7.2.2: receiving ----------------------------------------------------------------------------

@pytest.mark.parametrize("payload", [HELLO, HELLO_STORED, HELLO_FINAL, HELLO_TWO_BLOCKS])
def test_the_examples_of_rfc_7692_are_understood(deflate_server, payload):
    with connect(deflate_server) as c:
        c.send(frame(TEXT, payload, rsv=RSV1))
        assert c.any_message() == (TEXT, b"Hello")
        c.send(frame(TEXT, payload[:3], fin=False, rsv=RSV1) + frame(CONT, payload[3:]))
        assert c.any_message() == (TEXT, b"Hello")


@pytest.mark.parametrize("payload", [b"\x00", b"\x02\x00", b"\x03\x00"])
def test_an_empty_message_may_be_compressed(deflate_server, payload):
    with connect(deflate_server) as c:
        c.send(frame(TEXT, payload, rsv=RSV1))
        assert c.any_message() == (TEXT, b"")


def test_an_uncompressed_message_is_taken_as_it_is(deflate_server):
    with connect(deflate_server) as c:
        for data in (b"", b"plain", HELLO, HELLO_STORED, b"x" * 1000):
            c.send(frame(BINARY, data))
            assert c.any_message() == (BINARY, data)
            c.send(compressed(BINARY, data))
            assert c.any_message() == (BINARY, data)


def test_a_compressed_message_may_be_fragmented_anywhere(deflate_server):
    text = "fragmented Grüße ".encode() * 5
    payload = deflate_message(text)
    with connect(deflate_server) as c:
        for cut in range(len(payload) + 1):
            c.send(frame(TEXT, payload[:cut], fin=False, rsv=RSV1) + frame(PING, b"in between"))
            c.send(frame(CONT, b"", fin=False) + frame(CONT, payload[cut:]))
            assert c.message() == (PONG, b"in between")
            assert c.any_message() == (TEXT, text), cut


def test_a_compressed_message_may_be_cut_by_segments_anywhere(deflate_server):
    data = compressed(TEXT, b"cut " * 40) + compressed(BINARY, random.Random(1).randbytes(200))
    with connect(deflate_server) as c:
        for cut in range(1, len(data)):
            c.send_pieces([data[:cut], data[cut:]], 0.0005)
            assert c.any_message() == (TEXT, b"cut " * 40), cut
            assert c.any_message() == (BINARY, random.Random(1).randbytes(200)), cut


@pytest.mark.parametrize("level", [0, 1, 6, 9])
@pytest.mark.parametrize("strategy", [zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE,
                                      zlib.Z_FIXED])
@pytest.mark.parametrize("wbits", [9, 15])
def test_any_deflate_encoding_is_understood(deflate_server, level, strategy, wbits):
    rng = random.Random(level)
    data = bytes(rng.choice(b"abcdefgh \n") for _ in range(20000)) + b"run" * 3000
    deflater = zlib.compressobj(level, zlib.DEFLATED, -wbits, 9, strategy)
    payload = (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with connect(deflate_server) as c:
        c.send(frame(BINARY, payload, rsv=RSV1))
        assert c.any_message() == (BINARY, data)


def test_each_message_begins_with_an_empty_window(deflate_server):
    """A reference behind the message's own beginning has nothing to refer to."""
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = b"the same words over again, the same words over again"
    first = (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    second = (deflater.compress(data) + deflater.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(second) < len(first)
    with connect(deflate_server) as c:
        c.send(frame(TEXT, first, rsv=RSV1) + frame(TEXT, second, rsv=RSV1))
        assert c.any_message() == (TEXT, data)
        c.expect_close(1007)


@pytest.mark.parametrize("payload", [
    b"\x06", b"\x07\xff", b"\xff" * 10, b"\x00\x05\x00\x00\x00Hello", b"fine\x06"])
def test_what_is_no_deflate_stream_fails_the_connection(deflate_server, payload):
    with connect(deflate_server) as c:
        c.send(frame(BINARY, payload, rsv=RSV1))
        c.expect_close(1007)


def test_utf8_is_judged_after_inflation(deflate_server):
    with connect(deflate_server) as c:
        c.send(compressed(TEXT, "gültig".encode()))
        assert c.any_message() == (TEXT, "gültig".encode())
        c.send(compressed(BINARY, b"\xff\xfe"))
        assert c.any_message() == (BINARY, b"\xff\xfe")
    for bad in (b"\xff", b"a" * 500 + b"\xed\xa0\x80", b"cut \xe2\x82"):
        with connect(deflate_server) as c:
            c.send(compressed(TEXT, bad))
            c.expect_close(1007)


def test_inflation_is_bounded_by_the_message_limit(deflate_server):
    with connect(deflate_server) as c:
        c.send(compressed(BINARY, b"\0" * 65536))
        assert c.any_message() == (BINARY, b"\0" * 65536)
    for size in (65537, 10_000_000):
        with connect(deflate_server) as c:
            c.send(compressed(BINARY, b"\0" * size))
            c.expect_close(1009)


def test_the_limit_holds_for_compressed_bytes_too(deflate_server):
    with connect(deflate_server) as c:
        c.send(frame_head(BINARY, 70000, rsv=RSV1))
        c.expect_close(1009)


# 6.1, 7.2.1: sending ------------------------------------------------------------------------------

def echoed(c, data, opcode=BINARY):
    c.send(frame(opcode, data))
    f = c.frame()
    assert f.fin and f.opcode == opcode and f.rsv in (0, RSV1)
    return f


def test_the_server_compresses_what_is_worth_it(deflate_server):
    data = b"compress me " * 100
    with connect(deflate_server) as c:
        f = echoed(c, data)
        assert f.rsv == RSV1 and len(f.payload) < len(data)
        assert inflate_message(f.payload) == data


def test_the_tail_of_each_message_is_removed(deflate_server):
    with connect(deflate_server) as c:
        for n in (300, 1000, 5000, 60000):
            f = echoed(c, b"tail" * (n // 4))
            assert f.rsv == RSV1
            assert not f.payload.endswith(b"\x00\x00\xff\xff")
            inflater = zlib.decompressobj(-15)
            assert len(inflater.decompress(f.payload + b"\x00\x00\xff\xff")) == n
            assert inflater.unused_data == b"" and not inflater.eof


def test_no_message_of_the_server_leans_on_an_earlier_one(deflate_server):
    data = random.Random(3).randbytes(200) * 3
    with connect(deflate_server) as c:
        payloads = {echoed(c, data).payload for _ in range(5)}
        assert len(payloads) == 1
        assert inflate_message(payloads.pop()) == data


@pytest.mark.parametrize("bits", range(9, 16))
def test_the_server_keeps_to_the_agreed_window(deflate_server, bits):
    block = random.Random(bits).randbytes(300)
    data = b"".join(block + bytes([i]) * 50 for i in range(100)) + random.Random(9).randbytes(9000)
    data = (data + data)[:60000]
    offer = f"permessage-deflate; server_max_window_bits={bits}"
    with connect(deflate_server, offer=offer) as c:
        c.send(frame(BINARY, data))
        assert c.any_message(bits) == (BINARY, data)


def test_all_lengths_come_back(deflate_server):
    rng = random.Random(5)
    with connect(deflate_server) as c:
        for n in [*range(0, 400), 1000, 4095, 4096, 4097, 16384, 65535, 65536]:
            data = bytes(rng.choice(b"ab") for _ in range(n))
            c.send(compressed(BINARY, data))
            assert c.any_message() == (BINARY, data), n


def test_data_that_does_not_compress_comes_back(deflate_server):
    with connect(deflate_server) as c:
        for n in (1, 100, 1000, 65536):
            data = random.Random(n).randbytes(n)
            c.send(frame(BINARY, data))
            assert c.any_message() == (BINARY, data)


def test_short_messages_are_not_compressed(shared_server):
    s = shared_server("--compress", "on", "--compress-min", "256B")
    with connect(s) as c:
        assert echoed(c, b"a" * 255).rsv == 0
        assert echoed(c, b"a" * 300).rsv == RSV1


def test_each_member_of_a_room_gets_what_it_agreed_on(deflate_server):
    path = "/rooms/mixed-compression"
    with connect(deflate_server, path) as packed, Client(deflate_server.port, path) as plain, \
            connect(deflate_server, path, "permessage-deflate; server_max_window_bits=9") as small:
        join_all([packed, plain, small])
        for data in (b"for all " * 200, random.Random(2).randbytes(600) * 20):
            for sender, bits in ((packed, 15), (plain, 15), (small, 9)):
                message = frame(BINARY, data) if sender is plain else compressed(
                    BINARY, data, wbits=bits)
                sender.send(message)
                assert plain.message() == (BINARY, data)
                assert packed.any_message() == (BINARY, data)
                assert small.any_message(9) == (BINARY, data)
