# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Limits on times, in real time with short values. The heartbeat's arithmetic is tested on the
simulated clock; here it must only happen at all. Bounds are wide above: the machine may be busy."""

import contextlib
import socket
import time

import pytest

from probe import expect_ends, expect_metric, expect_nothing_left, until
from wire import (BINARY, CLOSE, CONT, PING, PONG, TEXT, Client, Raw, close_frame, frame,
                  frame_head, request)

LATE_S = 3.0


@contextlib.contextmanager
def takes(seconds):
    """The block takes at least so long (but for a tick of the timers), and not much longer."""
    begin = time.monotonic()
    yield
    passed = time.monotonic() - begin
    assert seconds - 0.02 <= passed < seconds + LATE_S, f"{passed:.3f} s"


# Handshake ----------------------------------------------------------------------------------------

@pytest.fixture
def hasty(new_server):
    return new_server("--handshake-timeout", "300ms", "--page", "on")


def test_who_says_nothing_is_closed(hasty):
    with takes(0.3), Raw(hasty.port) as c:
        assert c.at_end() and not c.reset
    expect_ends(hasty, "handshake_timeout")
    expect_nothing_left(hasty)


def test_a_head_that_drips_does_not_prolong_its_time_and_is_408(hasty):
    with takes(0.3), Raw(hasty.port) as c:
        c.sock.settimeout(0.05)
        for byte in request("/rooms/slow", c.host):
            c.send(bytes([byte]))
            with contextlib.suppress(TimeoutError):
                if not c._fill() or c.buffer:
                    break
        c.sock.settimeout(5)
        assert c.response().status == 408
        assert c.at_end()
    expect_metric(hasty, "http_responses_total", 1, status="408")
    expect_ends(hasty, "handshake_timeout")
    expect_nothing_left(hasty)


def test_a_connection_kept_alive_has_its_time_anew_then_ends(hasty):
    with Raw(hasty.port) as c:
        ask = f"GET / HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode()
        for _ in range(4):
            assert c.ask(ask).status == 200
            time.sleep(0.15)
        assert c.ask(ask).status == 200
        with takes(0.3):
            assert c.at_end()
    expect_nothing_left(hasty)


def test_an_upgraded_connection_has_no_such_time(hasty):
    with Client(hasty.port, "/rooms/long") as c:
        time.sleep(0.6)
        c.expect_alive()
    expect_metric(hasty, "connections_closed_total", 0, reason="handshake_timeout")


# Messages -----------------------------------------------------------------------------------------

@pytest.fixture
def impatient(new_server):
    return new_server("--echo", "--message-timeout", "300ms", "--drain-time", "0")


@pytest.mark.parametrize("begun", [
    b"\x81", frame_head(TEXT, 5)[:3], frame_head(TEXT, 5), frame(TEXT, b"hello")[:-1],
    frame(BINARY, b"x" * 5000)[:-1], frame(PING, b"12345678")[:-1],
    frame(TEXT, b"a", fin=False), frame(TEXT, b"", fin=False),
    frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False),
], ids=["first byte", "half a head", "head", "but one byte", "a longer one", "control frame",
        "fragment", "empty fragment", "fragments"])
def test_what_is_begun_must_be_complete_in_time(impatient, begun):
    with Client(impatient.port) as c, takes(0.3):
        c.send(begun)
        c.expect_close(1008)
    expect_ends(impatient, "message_timeout")
    expect_metric(impatient, "close_frames_sent_total", 1, code="1008")
    expect_nothing_left(impatient)


def test_control_frames_and_further_fragments_do_not_prolong_it(impatient):
    with Client(impatient.port) as c, takes(0.3):
        c.send(frame(TEXT, b"a", fin=False))
        c.sock.settimeout(0.05)
        end = time.monotonic() + 2
        while time.monotonic() < end:
            with contextlib.suppress(ConnectionError):
                c.send(frame(PING, b"p") + frame(PONG) + frame(CONT, b"b", fin=False))
            try:
                f = c.frame()
            except TimeoutError:
                continue
            if f.opcode == CLOSE:
                break
            assert f.opcode == PONG
            time.sleep(0.03)
        assert f.payload[:2] == (1008).to_bytes(2, "big")
    expect_ends(impatient, "message_timeout")


def test_each_message_has_its_own_time(impatient):
    with Client(impatient.port) as c:
        for i in range(5):
            c.send(frame(TEXT, b"%d" % i, fin=False))
            time.sleep(0.15)
            c.send(frame(CONT, b"!"))
            assert c.message() == (TEXT, b"%d!" % i)
        time.sleep(0.5)  # nothing is begun: no time runs
        c.expect_alive()
    expect_metric(impatient, "connections_closed_total", 0, reason="message_timeout")


def test_a_message_behind_a_complete_one_in_the_same_packet_has_its_time_too(impatient):
    with Client(impatient.port) as c, takes(0.3):
        c.send(frame(TEXT, b"whole") + frame(TEXT, b"part")[:-1])
        assert c.message() == (TEXT, b"whole")
        c.expect_close(1008)


def test_0_switches_these_times_off(new_server):
    s = new_server("--handshake-timeout", "0", "--message-timeout", "0", "--echo", "--drain-time",
                   "0")
    with Raw(s.port) as c:
        head = request("/echo", c.host)
        c.send(head[:10])
        time.sleep(0.2)
        assert c.ask(head[10:]).status == 101
        c.send(frame(TEXT, b"at leisure")[:5])
        time.sleep(0.2)
        c.send(frame(TEXT, b"at leisure")[5:])
        assert c.message() == (TEXT, b"at leisure")


# Closing ------------------------------------------------------------------------------------------

def test_close_timeout_ends_the_wait_for_a_peer_that_does_not_answer(new_server):
    s = new_server("--close-timeout", "300ms", "--drain-time", "0")
    with Client(s.port, "/rooms/close") as silent, Client(s.port, "/rooms/close") as polite:
        silent.expect_alive()
        polite.expect_alive()
        s.terminate()
        with takes(0.3):
            assert silent.frame().payload[:2] == (1012).to_bytes(2, "big")
            assert polite.frame().payload[:2] == (1012).to_bytes(2, "big")
            polite.send(close_frame(1012))
            with takes(0):
                assert polite.at_end()
            assert silent.at_end()
        s.stop()


def test_a_peer_that_does_not_close_after_an_error_is_left_after_close_timeout(new_server):
    s = new_server("--echo", "--close-timeout", "300ms")
    with Client(s.port) as c:
        c.send(frame(TEXT, b"unmasked", mask=None))
        c.expect_close(1002)  # FIN has come; ours does not
        expect_metric(s, "connections", lambda n: n == 2)
        with takes(0.0):
            until(lambda: s.metric("tidewire_connections"), 1)
        with contextlib.suppress(ConnectionError):
            for _ in range(50):
                c.send(b"x")
                time.sleep(0.01)
            raise AssertionError("the connection is still there")
    expect_ends(s, "protocol_error")


# Heartbeat ----------------------------------------------------------------------------------------

PONG_S = 1.0  # on a busy machine a client may answer late: this much it may


def beat(new_server, misses, interval="200ms"):
    return new_server("--echo", "--ping-interval", interval, "--pong-timeout", f"{PONG_S:.0f}s",
                      "--pong-misses", str(misses), "--drain-time", "0")


@pytest.mark.parametrize("misses", [1, 3])
def test_a_dead_peer_is_closed_after_the_last_miss(new_server, misses):
    s = beat(new_server, misses)
    begin = time.monotonic()  # before the server hears of anybody
    with Client(s.port) as dead, Client(s.port) as alive:
        dead.sock.settimeout(0.02)
        pings, last = 0, None
        while last is None or last.opcode != CLOSE:
            answer_pings(alive)
            try:
                last = dead.frame()
            except TimeoutError:
                assert time.monotonic() - begin < 10
                continue
            pings += last.opcode == PING
        passed = time.monotonic() - begin
        assert pings == misses
        assert last.payload[:2] == (1008).to_bytes(2, "big")
        least = 0.2 + PONG_S * misses
        assert least - 0.02 <= passed < least + LATE_S, f"{passed:.3f} s"
        dead.sock.settimeout(5)
        assert dead.at_end()
        answer_pings(alive)
        alive.send(frame(TEXT, b"still here"))
        until(lambda: answer_pings(alive), (TEXT, b"still here"))
    expect_ends(s, "no_pong")
    expect_metric(s, "pong_misses_total", misses)
    expect_metric(s, "pings_sent_total", lambda n: n >= misses)


def answer_pings(c):
    """Reads what has come, answers pings; the last frame that was none."""
    c.sock.settimeout(0.001)
    other = None
    try:
        while True:
            opcode, payload = c.message()
            if opcode == PING:
                c.send(frame(PONG, payload))
            else:
                other = opcode, payload
    except TimeoutError:
        return other
    finally:
        c.sock.settimeout(10)


def test_no_ping_to_one_that_is_heard_from(new_server):
    s = beat(new_server, 1, interval="1s")
    with Client(s.port) as c:
        for _ in range(50):
            c.echo(TEXT, b"I am here")
            time.sleep(0.03)
    expect_metric(s, "pings_sent_total", 0)


def test_any_byte_counts_as_life(new_server):
    s = beat(new_server, 1)
    with Client(s.port) as c:
        for byte in frame(TEXT, b"slow but there"):
            time.sleep(0.05)
            c.send(bytes([byte]))
        assert until(lambda: answer_pings(c), (TEXT, b"slow but there"))
    expect_metric(s, "connections_closed_total", 0, reason="no_pong")


def test_a_peer_that_vanished_without_a_word_is_noticed(new_server):
    """Its window is closed: what the server sends stays unanswered, as when a cable is cut."""
    s = beat(new_server, 1)
    c = Client(s.port)
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x00" * 8)
    expect_ends(s, "no_pong")
    c.sock.close()
    expect_nothing_left(s)
