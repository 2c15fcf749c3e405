# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What may wait: for one connection that reads slowly, and for all of them together."""

import contextlib
import signal
import socket
import struct
import threading
import time

import pytest

from probe import dial, expect_ends, expect_metric, expect_nothing_left, settled, until
from wire import BINARY, CLOSE, PING, PONG, TEXT, Client, Raw, frame, frame_head, join_all

KIB = 1 << 10
MIB = 1 << 20
# A small send buffer, so that what a stalled peer does not read waits in the server's queue.
SNDBUF = ("--tcp-sndbuf", "16KiB")


def stalled(server, path):
    """A member that reads nothing from here on and whose kernel takes little for it."""
    return dial(server.port, rcvbuf=4096).open(path)


def collect(c, count, got):
    for _ in range(count):
        got.append(c.message())


def flood(server, path, count, payload, others, pace=None):
    """One member publishes; every other one that reads gets all of it, in order."""
    readers, got = [], [[] for _ in others]
    for c, list_ in zip(others, got):
        readers.append(threading.Thread(target=collect, args=(c, count, list_)))
        readers[-1].start()
    with Client(server.port, path + "?echo=0") as publisher:
        for i in range(count):
            publisher.send(frame(BINARY, struct.pack("!I", i) + payload))
            if pace:
                time.sleep(pace)
        for t in readers:
            t.join(30)
    want = [(BINARY, struct.pack("!I", i) + payload) for i in range(count)]
    assert all(g == want for g in got), [len(g) for g in got]


@pytest.mark.parametrize("shards", [1, 2])
def test_a_slow_consumer_is_ended_with_1013_and_the_others_get_everything(new_server, shards):
    s = new_server("--max-queue", "160KiB", "--max-message", "16KiB", "--shards", str(shards),
                   "--close-timeout", "500ms", *SNDBUF)
    path = "/rooms/slow"
    others = [Client(s.port, path) for _ in range(4)]
    join_all(others)
    slow = stalled(s, path)
    expect_metric(s, "members", 5)
    flood(s, path, 300, b"x" * 1000, others, 0.001)
    expect_ends(s, "slow_consumer")
    expect_metric(s, "close_frames_sent_total", 1, code="1013")
    for c in others:
        c.expect_alive()
        c.sock.close()
    expect_nothing_left(s)
    slow.sock.close()


def test_a_slow_consumer_that_reads_on_finds_its_close_code(new_server):
    s = new_server("--max-queue", "64KiB", "--max-message", "16KiB", "--shards", "1", *SNDBUF)
    path = "/rooms/late"
    slow = stalled(s, path)
    expect_metric(s, "members", 1)
    flood(s, path, 300, b"x" * 1000, [], 0.001)
    expect_ends(s, "slow_consumer")
    got = []
    while (f := slow.frame()).opcode == BINARY:
        got.append(struct.unpack("!I", f.payload[:4])[0])
    assert f.opcode == CLOSE and f.payload[:2] == struct.pack("!H", 1013)
    assert slow.at_end()
    assert got == list(range(len(got))) and 0 < len(got) < 300  # no gap, no half message
    slow.sock.close()
    expect_nothing_left(s)


def say_on(c, stop):
    with contextlib.suppress(OSError):
        while not stop.is_set():
            c.send(frame(BINARY, b"still here") * 10)
            time.sleep(0.001)


def test_a_slow_consumer_that_goes_on_sending_finds_its_close_code(new_server):
    """What it still sends must not become a reset, by which its kernel would lose the rest."""
    s = new_server("--max-queue", "64KiB", "--max-message", "16KiB", "--shards", "1", *SNDBUF)
    path = "/rooms/talks"
    slow = stalled(s, path + "?echo=0")
    expect_metric(s, "members", 1)
    stop = threading.Event()
    talk = threading.Thread(target=say_on, args=(slow, stop))
    talk.start()
    try:
        flood(s, path, 300, b"x" * 1000, [], 0.001)
        expect_ends(s, "slow_consumer")
        while (f := slow.frame()).opcode == BINARY:
            time.sleep(0.001)
        assert f.opcode == CLOSE and f.payload[:2] == struct.pack("!H", 1013)
        assert slow.at_end()
    finally:
        stop.set()
        talk.join()
    slow.sock.close()
    expect_nothing_left(s)


def test_max_queue_is_how_much_may_wait(new_server):
    """Below the bound a reader that stalls gets everything when it goes on."""
    s = new_server("--max-queue", "2MiB", "--shards", "1", *SNDBUF)
    path = "/rooms/patient"
    slow = stalled(s, path)
    expect_metric(s, "members", 1)
    flood(s, path, 1000, b"y" * 1000, [])
    expect_metric(s, "ordered_total", 1000)
    waiting = s.metric("tidewire_queue_bytes")
    assert 500 * KIB < waiting <= 1008 * 1000
    for i in range(1000):
        assert slow.message() == (BINARY, struct.pack("!I", i) + b"y" * 1000)
    slow.expect_alive()
    expect_metric(s, "queue_bytes", 0)
    expect_metric(s, "connections_closed_total", 0, reason="slow_consumer")
    slow.sock.close()


def test_one_who_asks_and_never_reads_is_a_slow_consumer_too(new_server):
    s = new_server("--max-queue", "64KiB", "--echo", "--shards", "1", *SNDBUF)
    slow = stalled(s, "/echo")
    slow.sock.settimeout(0.5)
    ping = frame(0x9, b"p" * 125) * 500
    try:
        for _ in range(100):
            slow.send(ping)
    except (TimeoutError, ConnectionError):
        pass
    expect_ends(s, "slow_consumer")
    slow.sock.close()
    expect_nothing_left(s)


def ask(slow, pings):
    with contextlib.suppress(TimeoutError, ConnectionError):
        for _ in range(pings // 1000):
            slow.send(frame(PING) * 1000)


def test_answers_that_wait_are_bounded_by_their_number_too(new_server):
    """Those to empty pings have two bytes: long before they fill a queue there are too many."""
    s = new_server("--shards", "1", "--close-timeout", "500ms", *SNDBUF)
    slow = stalled(s, "/rooms/asks")
    ask(slow, 200_000)
    expect_ends(s, "slow_consumer")
    expect_metric(s, "close_frames_sent_total", 1, code="1013")
    assert s.metric("tidewire_pings_received_total") < 50_000  # one for every 64 bytes, and what has left
    assert s.metric("tidewire_connections_closed_total", reason="no_memory") == 0
    slow.sock.close()
    expect_nothing_left(s)


@contextlib.contextmanager
def at_once(server):
    """What is sent meanwhile the server finds in one turn."""
    server.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        server.process.send_signal(signal.SIGCONT)


SMALL_QUEUE = ("--max-queue", "16KiB", "--max-message", "16KiB", "--echo", "--shards", "1")


def test_what_one_turn_brings_is_no_reason_to_end_who_reads(new_server):
    s = new_server(*SMALL_QUEUE)
    messages = [bytes([i]) * 15 * KIB for i in range(4)]
    with Client(s.port, "/echo") as c:
        for _ in range(10):
            with at_once(s):
                c.send(b"".join(frame(BINARY, m) for m in messages))
            assert [c.message() for _ in messages] == [(BINARY, m) for m in messages]
    expect_ends(s, "slow_consumer", 0)
    expect_nothing_left(s)


def test_members_who_read_are_not_ended_by_what_others_say_in_one_turn(new_server):
    s = new_server(*SMALL_QUEUE)
    members = [Client(s.port, "/rooms/loud") for _ in range(3)]
    join_all(members)
    said = [bytes([i]) * 15 * KIB for i in range(3)]
    with at_once(s):
        for c, m in zip(members, said):
            c.send(frame(BINARY, m) * 3)
    for c in members:
        assert sorted(c.message()[1] for _ in range(9)) == sorted(said * 3)
        c.expect_alive()
        c.sock.close()
    expect_ends(s, "slow_consumer", 0)
    expect_nothing_left(s)


def test_pings_of_one_turn_are_all_answered_to_who_reads(new_server):
    s = new_server(*SMALL_QUEUE)
    with Client(s.port, "/echo") as c:
        with at_once(s):
            c.send(frame(PING) * 2000)
        assert [c.frame().opcode for _ in range(2000)] == [PONG] * 2000
        c.expect_alive()
    expect_ends(s, "slow_consumer", 0)
    expect_nothing_left(s)


def test_answers_that_wait_take_no_more_memory_than_they_need(new_server):
    """Memory is made ready for answers to come only where nothing waits."""
    s = new_server("--max-queue", "1MiB", "--echo", "--shards", "1", *SNDBUF)
    slow = stalled(s, "/echo")
    slow.sock.settimeout(0.5)
    full = frame(BINARY, b"f" * 4000)
    while s.metric("tidewire_queue_bytes") < 16 * KIB:
        slow.send(full)
    settled(lambda: s.metric("tidewire_queue_bytes"))
    waited = s.metric("tidewire_queue_bytes")
    before = s.metric("tidewire_message_pool_bytes")
    slow.send((frame(BINARY, b"1") * 2 + frame(PING, b"")) * 2000)
    expect_metric(s, "pings_received_total", 2000)
    assert s.metric("tidewire_queue_bytes") == waited + 2000 * (3 + 3 + 2)
    grown = s.metric("tidewire_message_pool_bytes") - before
    assert grown < 4 * MIB, "12 KiB for each of two answers would be 24 MiB"
    slow.sock.close()
    expect_nothing_left(s)


@pytest.mark.parametrize("shards", [1, 2])
def test_queue_memory_ends_the_longest_queue(new_server, shards):
    """Three stall, one of them with the most before it; only as many go as must."""
    s = new_server("--max-queue", "1MiB", "--queue-memory", "1MiB", "--shards", str(shards),
                   "--close-timeout", "500ms", *SNDBUF)
    alone, shared = "/rooms/alone", "/rooms/shared"
    others = [Client(s.port, shared) for _ in range(2)]
    join_all(others)
    longest = stalled(s, alone)
    expect_metric(s, "members", 3)
    flood(s, alone, 650, b"z" * 1000, [])
    expect_metric(s, "ordered_total", lambda n: n >= 650)
    small = [stalled(s, shared) for _ in range(2)]
    expect_metric(s, "members", 5)
    for i in range(20):
        flood(s, shared, 20, b"z" * 1000, others)
        if s.metric("tidewire_connections_closed_total", reason="queue_memory"):
            break
    expect_ends(s, "queue_memory", 1)
    expect_metric(s, "queue_bytes", lambda n: n <= MIB)
    expect_metric(s, "websockets", 4)
    expect_metric(s, "close_frames_sent_total", 1, code="1013")
    for c in others:
        c.expect_alive()
    for c in others + small + [longest]:
        c.sock.close()
    expect_nothing_left(s)


def test_queue_memory_counts_short_messages_by_what_they_take(new_server):
    """The answers to a hundred thousand empty pings have 200 KB."""
    s = new_server("--queue-memory", "1MiB", "--max-queue", "8MiB", "--shards", "1",
                   "--close-timeout", "500ms", *SNDBUF)
    slow = stalled(s, "/rooms/asks")
    while not s.metric("tidewire_queue_bytes"):
        ask(slow, 1000)
        settled(lambda: s.metric("tidewire_pings_received_total"))
    ask(slow, 5000)
    expect_metric(s, "queue_cost_bytes", lambda n: 5000 * (2 + 64) <= n < MIB)
    ask(slow, 100_000)
    expect_ends(s, "queue_memory")
    expect_metric(s, "close_frames_sent_total", 1, code="1013")
    slow.sock.close()
    expect_nothing_left(s)
    expect_metric(s, "queue_cost_bytes", 0)


@pytest.mark.parametrize("shards", [1, 2])
def test_assembly_memory_ends_the_largest_holder(new_server, shards):
    s = new_server("--echo", "--max-message", "512KiB", "--assembly-memory", "1MiB", "--shards",
                   str(shards))
    largest = Client(s.port)
    largest.send(frame_head(BINARY, 512 * KIB) + bytes(500 * KIB))
    expect_metric(s, "assembly_bytes", lambda n: n >= 500 * KIB)
    rest = []
    while s.metric("tidewire_connections_closed_total", reason="assembly_memory") == 0:
        assert len(rest) < 200
        rest.append(Client(s.port))
        rest[-1].send(frame_head(BINARY, 60 * KIB) + bytes(59 * KIB))
        before = s.metric("tidewire_assembly_bytes")
        until(lambda: s.metric("tidewire_assembly_bytes"), lambda n: n != before or n > 0)
        time.sleep(0.012)
    expect_metric(s, "assembly_bytes", lambda n: n <= MIB)
    # With two, each shard that is over its share gives, and one more may come before that is told.
    expect_ends(s, "assembly_memory", 1 if shards == 1 else lambda n: 1 <= n <= 3)
    if shards == 1:
        assert len(rest) >= 5
        largest.expect_close(1013)
        for c in rest:
            c.send(bytes(KIB))
            assert c.message() == (BINARY, bytes.fromhex("37fa213d") * (15 * KIB))
    for c in rest + [largest]:
        c.sock.close()
    expect_nothing_left(s)


def test_assembly_memory_within_a_request_head_is_answered_with_503(new_server):
    s = new_server("--assembly-memory", "64KiB", "--max-message", "4KiB", "--shards", "1")
    largest = Raw(s.port)
    largest.send(b"GET / HTTP/1.1\r\nX: " + b"y" * 7000)
    expect_metric(s, "assembly_bytes", lambda n: n >= 7000)
    others = []
    while s.metric("tidewire_connections_closed_total", reason="assembly_memory") == 0:
        assert len(others) < 100
        others.append(Raw(s.port))
        others[-1].send(b"GET / HTTP/1.1\r\nX: " + b"z" * 900)
    answer = largest.response()
    assert answer.status == 503 and "retry-after" in dict(answer.headers)
    assert b"memory" in answer.body
    assert largest.at_end() and not largest.reset
    largest.sock.close()
    expect_ends(s, "assembly_memory")
    for c in others:
        c.send(b"\r\nHost: a\r\n\r\n")
        assert c.response().status == 200
        c.sock.close()
    expect_nothing_left(s)


def test_assembly_memory_ends_only_as_many_as_must_when_all_grow_at_once(new_server):
    """All holders' bytes wait in the sockets and are read in few turns."""
    s = new_server("--echo", "--max-message", "512KiB", "--assembly-memory", "4MiB", "--shards",
                   "1")
    clients = [Client(s.port) for _ in range(100)]
    for c in clients:
        c.send(frame_head(BINARY, 60 * KIB) + bytes(32 * KIB))
    time.sleep(0.2)
    gone = expect_metric(s, "connections_closed_total", lambda n: n > 0, reason="assembly_memory")
    held = s.metric("tidewire_assembly_bytes")
    assert 3 * MIB < held <= 4 * MIB, f"{held} bytes left when {gone} had to go"
    for c in clients:
        c.sock.close()
    expect_nothing_left(s)


def test_bytes_that_wait_in_the_kernel_are_not_lost_when_the_sender_leaves(new_server):
    s = new_server("--shards", "2")
    with Client(s.port, "/rooms/will") as heir:
        join_all([heir])
        with Client(s.port, "/rooms/will?echo=0") as sender:
            sender.send(frame(TEXT, b"last words") * 200)
            sender.sock.shutdown(socket.SHUT_WR)
            for _ in range(200):
                assert heir.message() == (TEXT, b"last words")
