# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Control frames and closing: RFC 6455 sections 5.5 and 7."""

import random
import struct
import time

import pytest

from wire import (BINARY, CLOSE, CONT, PING, PONG, TEXT, Client, close_frame, close_payload, frame,
                  frame_head, join_all)

pytestmark = pytest.mark.sanitize

GOOD_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3001,
              3999, 4000, 4001, 4999]
BAD_CODES = [0, 1, 2, 500, 999, 1004, 1005, 1006, 1015, 1016, 1017, 1100, 1999, 2000, 2999, 5000,
             5001, 9999, 65535]


# 5.5, 5.5.2, 5.5.3: ping and pong -----------------------------------------------------------------

def test_a_pong_carries_the_payload_of_its_ping(server):
    with Client(server.port) as c:
        for length in range(126):
            payload = random.Random(length).randbytes(length)
            c.send(frame(PING, payload))
            assert c.message() == (PONG, payload)


def test_a_ping_may_be_cut_anywhere(server):
    data = frame(PING, b"0123456789")
    with Client(server.port) as c:
        for cut in range(1, len(data)):
            c.send_pieces([data[:cut], data[cut:]])
            assert c.message() == (PONG, b"0123456789"), cut


def test_of_many_pings_the_last_is_answered(server):
    payloads = [b"%d" % i for i in range(100)]
    with Client(server.port) as c:
        c.send(b"".join(frame(PING, p) for p in payloads))
        left = list(payloads)
        while left:
            opcode, payload = c.message()
            assert opcode == PONG and payload in left, "answered twice, out of order or never asked"
            left = left[left.index(payload) + 1:]


def test_pings_and_messages_are_both_answered(server):
    with Client(server.port) as c:
        c.send(b"".join(frame(TEXT, b"%d" % i) + frame(PING, b"%d" % i) for i in range(50)))
        got = [c.message() for _ in range(100)]
        assert [p for o, p in got if o == TEXT] == [b"%d" % i for i in range(50)]
        assert [p for o, p in got if o == PONG] == [b"%d" % i for i in range(50)]


def test_an_unsolicited_pong_is_not_answered(server):
    with Client(server.port) as c:
        c.send(frame(PONG) + frame(PONG, b"x" * 125) + frame(PONG, b"\xff\xfe"))
        c.expect_alive()


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("length", [126, 127, 65535, 65536])
def test_a_control_frame_over_125_bytes_is_a_protocol_error(server, opcode, length):
    with Client(server.port) as c:
        c.send(frame_head(opcode, length))
        c.expect_close(1002)


@pytest.mark.parametrize("opcode", [CLOSE, PING, PONG])
@pytest.mark.parametrize("form", [16, 64])
def test_a_long_length_in_a_control_frame_is_a_protocol_error(server, opcode, form):
    with Client(server.port) as c:
        c.send(frame(opcode, b"", form=form))
        c.expect_close(1002)


# 5.5.1, 7.1.2: closing by the client --------------------------------------------------------------

def test_an_empty_close_is_answered_by_an_empty_close(server):
    with Client(server.port) as c:
        c.send(close_frame())
        c.expect_close(None)


@pytest.mark.parametrize("code", GOOD_CODES)
@pytest.mark.parametrize("reason", ["", "bye", "tschüß 😀", "x" * 123])
def test_a_close_is_answered_with_its_code(server, code, reason):
    with Client(server.port) as c:
        c.send(close_frame(code, reason))
        c.expect_close(code)


@pytest.mark.parametrize("code", BAD_CODES)
@pytest.mark.parametrize("reason", ["", "why"])
def test_a_code_that_must_not_be_sent_is_a_protocol_error(server, code, reason):
    with Client(server.port) as c:
        c.send(close_frame(code, reason))
        c.expect_close(1002)


@pytest.mark.parametrize("byte", [b"\x00", b"\x03", b"\xff"])
def test_a_close_of_one_byte_is_a_protocol_error(server, byte):
    with Client(server.port) as c:
        c.send(frame(CLOSE, byte))
        c.expect_close(1002)


@pytest.mark.parametrize("reason", [b"\xff", b"ok\xc0\x80", b"\xed\xa0\x80", b"cut \xe2\x82",
                                    b"x" * 122 + b"\xc3", b"\xf4\x90\x80\x80"])
def test_a_reason_that_is_not_utf8_is_refused(server, reason):
    with Client(server.port) as c:
        c.send(close_frame(1000, reason))
        c.expect_close(1007)


def test_a_close_may_be_cut_anywhere(server):
    data = close_frame(4321, "cut anywhere")
    for cut in range(1, len(data)):
        with Client(server.port) as c:
            c.send_pieces([data[:cut], data[cut:]])
            c.expect_close(4321)


def test_messages_before_a_close_are_served(server):
    with Client(server.port) as c:
        c.send(frame(TEXT, b"one") + frame(PING, b"p") + frame(BINARY, b"two") + close_frame(1000))
        got = [c.message() for _ in range(3)]
        assert sorted(got) == sorted([(TEXT, b"one"), (PONG, b"p"), (BINARY, b"two")])
        c.expect_close(1000)


def test_nothing_after_a_close_is_processed(server):
    with Client(server.port, "/rooms/after-close") as watcher:
        join_all([watcher])
        with Client(server.port, "/rooms/after-close") as c:
            c.send(close_frame(1000) + frame(TEXT, b"late") + frame(PING, b"late") + frame(3))
            c.expect_close(1000)
        watcher.expect_alive()


def test_the_server_ends_the_connection_first_and_at_once(server):
    with Client(server.port) as c:
        begin = time.monotonic()
        c.send(close_frame(1000))
        c.expect_close(1000)
        assert time.monotonic() - begin < 1.0
        assert not c.reset, "the connection was reset instead of closed"


def test_a_failed_connection_ends_without_waiting_for_the_clients_close(server):
    with Client(server.port) as c:
        begin = time.monotonic()
        c.send(frame(3))
        c.expect_close(1002)
        assert time.monotonic() - begin < 1.0


def test_a_closed_member_is_sent_no_more(server):
    with Client(server.port, "/rooms/gone") as a, Client(server.port, "/rooms/gone") as b:
        join_all([a, b])
        b.send(close_frame(1000))
        b.expect_close(1000)
        a.send(frame(TEXT, b"for those who stayed"))
        assert a.message() == (TEXT, b"for those who stayed")


def test_a_connection_that_ends_without_a_close_is_just_gone(server):
    for data in (b"", b"\x81", frame(TEXT, b"half")[:7], frame(TEXT, b"a", fin=False)):
        with Client(server.port) as c:
            c.send(data)
    with Client(server.port) as c:
        c.expect_alive()


# 7.1.2, 7.3: closing by the server ----------------------------------------------------------------

def test_a_server_that_stops_says_so_in_a_close_frame(new_server):
    s = new_server("--echo", "--drain-time", "0")
    with Client(s.port) as a, Client(s.port, "/rooms/x") as b:
        a.expect_alive()
        b.expect_alive()
        s.terminate()
        for c in (a, b):
            opcode, payload = c.message()
            assert (opcode, struct.unpack("!H", payload[:2])[0]) == (CLOSE, 1012)
            c.send(frame(CLOSE, payload[:2]))
            assert c.at_end()


def test_a_client_that_does_not_answer_a_close_is_not_waited_for(new_server):
    s = new_server("--echo", "--drain-time", "0", "--close-timeout", "300ms")
    with Client(s.port) as c:
        c.expect_alive()
        begin = time.monotonic()
        s.terminate()
        opcode, payload = c.message()
        assert (opcode, payload[:2]) == (CLOSE, close_payload(1012))
        assert c.at_end()
        assert time.monotonic() - begin < 5.0


def test_a_server_that_closes_answers_no_more_messages(new_server):
    s = new_server("--echo", "--drain-time", "0", "--close-timeout", "2s")
    with Client(s.port) as c:
        c.expect_alive()
        s.terminate()
        opcode, payload = c.message()
        assert (opcode, payload[:2]) == (CLOSE, close_payload(1012))
        c.send(frame(TEXT, b"late") + frame(TEXT, b"lat", fin=False) + frame(CONT, b"er"))
        c.send(close_frame(1012))
        assert c.at_end()


def test_every_close_code_sent_is_one_that_may_be_sent(server):
    causes = [close_frame(), close_frame(1000), close_frame(1005), close_frame(1006),
              close_frame(1015), frame(3), frame(TEXT, b"\xff"), frame_head(BINARY, 1 << 40),
              frame(TEXT, b"x", mask=None)]
    for cause in causes:
        with Client(server.port) as c:
            c.send(cause)
            opcode, payload = c.message()
            assert opcode == CLOSE
            assert not payload or struct.unpack("!H", payload[:2])[0] in (1000, 1002, 1007, 1009)
