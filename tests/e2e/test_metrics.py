# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Counters that belong to no limit: traffic, turns, mesh, pools. Each is made to move, exactly where
that can be told."""

import re
import signal
import time

import pytest

from faults import Faults
from harness import Server
from probe import dial, expect_metric, until
from test_counters import settled
from wire import (BINARY, PING, PONG, TEXT, Client, Raw, deflate_message, frame, join_all, request)

pytestmark = pytest.mark.sanitize
KIB = 1 << 10
OFFER = {"Sec-WebSocket-Extensions": "permessage-deflate"}


class Growth:
    """What counters have grown by since it was made, less what the reading itself adds."""

    def __init__(self, server):
        self.server = server
        self.first = self._read()
        second = self._read()
        self.reading = {name: value - self.first[name] for name, value in second.items()}
        self.first = second

    def _read(self):
        time.sleep(0.03)  # some are told up to 10 ms late
        return self.server.metrics()

    def of(self, name):
        return self._of(self._read(), name)

    def _of(self, now, name):
        name = "tidewire_" + name
        return now[name] - self.first[name] - self.reading[name]

    def all(self, *names):
        now = self._read()
        return {name: self._of(now, name) for name in names}


def exchange(sock, data, ends_with):
    """Sends, and reads to the answer's end: how many bytes came."""
    sock.sendall(data)
    got = b""
    while not got.endswith(ends_with):
        more = sock.recv(65536)
        assert more, got
        got += more
    return len(got)


def sent_so_far(server):
    """What the counter says, and how many bytes were sent to say it."""
    with dial(server.admin_port) as c:
        c.send(b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        text = b"".join(iter(lambda: c.sock.recv(65536), b""))
    (line,) = re.findall(rb"\ntidewire_sent_bytes_total (\d+)", text)
    return int(line), len(text)


def test_bytes_and_requests_are_counted_exactly(new_server):
    s = new_server("--echo", "--shards", "1")
    growth = Growth(s)
    before, told = sent_so_far(s)
    with dial(s.port) as c:
        head = request("/echo", c.host)
        back = exchange(c.sock, head, b"\r\n\r\n")
        data = b"".join(frame(BINARY, bytes([65 + i]) * 100) for i in range(10))
        back += exchange(c.sock, data, b"J" * 100)
        pings = frame(PING, b"p") * 3 + frame(PONG) * 2 + frame(TEXT, b"last")
        back += exchange(c.sock, pings, b"last")
        assert sent_so_far(s)[0] == before + told + back
        asked = 2 * len("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert growth.all("connections_accepted_total", "http_requests_total",
                          "received_bytes_total", "pings_received_total",
                          "pongs_received_total") == {
            "connections_accepted_total": 3, "http_requests_total": 3,
            "received_bytes_total": len(head + data + pings) + asked, "pings_received_total": 3,
            "pongs_received_total": 2}


def test_io_counts_what_the_transport_asks_of_it(new_server):
    s = new_server("--echo", "--shards", "1")
    growth = Growth(s)
    with Client(s.port) as c:
        for _ in range(20):
            c.echo(TEXT, b"one at a time")
        got = growth.all("sends_total", "io_sends_total", "io_receives_total", "io_polls_total",
                         "io_sends_pending_total", "turns_total")
    assert got["sends_total"] == got["io_sends_total"] == 21, got
    assert got["io_receives_total"] == 21, got
    assert got["io_sends_pending_total"] == (21 if s.backend == "uring" else 0), got
    assert got["io_polls_total"] > 10 and got["turns_total"] > 10, got  # readings make some, too


def test_a_run_is_counted_once_and_its_messages_each(new_server):
    s = new_server("--shards", "1")
    growth = Growth(s)
    with Client(s.port, "/rooms/run") as a, Client(s.port, "/rooms/run") as b:
        a.send(b"".join(frame(TEXT, b"%d" % i) for i in range(10)))
        for c in (a, b):
            assert [c.message()[1] for _ in range(10)] == [b"%d" % i for i in range(10)]
        got = growth.all("joins_total", "runs_total", "run_copies_total", "deliveries_total",
                         "ordered_total")
    assert got == {"joins_total": 2, "runs_total": 1, "run_copies_total": 10,
                   "deliveries_total": 20, "ordered_total": 10}


def test_the_mesh_loses_no_item_and_sleepers_are_woken(new_server):
    s = new_server("--shards", "2", "--mesh-slots", "16", "--mesh-spin", "0")
    clients = [Client(s.port, f"/rooms/{i % 4}") for i in range(16)]
    for room in range(4):
        join_all(clients[room::4])
    for c in clients:
        c.send(b"".join(frame(TEXT, b"%d" % i) for i in range(200)))
    for c in clients:
        for _ in range(4 * 200):
            c.message()
    expect_metric(s, "mesh_rings", 2)
    now = until(s.metrics, lambda now: now["tidewire_mesh_posted_total"] ==
                now["tidewire_mesh_drained_total"] > 1000)
    assert now["tidewire_mesh_backlogged_total"] > 0
    assert now["tidewire_mesh_backlog_items"] == now["tidewire_mesh_backlog_bytes"] == 0
    assert now["tidewire_messages_released_remote_total"] > 0
    expect_metric(s, "io_wakes_sent_total", lambda n: n > 0)
    expect_metric(s, "io_wakes_received_total", lambda n: n > 0)
    for c in clients:
        c.sock.close()


def test_a_home_whose_backlog_is_over_its_bound_withholds_credit(new_server):
    """Until it is not: then everything has come, and credit is whole again."""
    s = new_server("--shards", "2", "--mesh-slots", "16", "--mesh-backlog", "4KiB", "--mesh-window",
                   "64KiB")
    for room in range(8):  # homes on both shards, members on both
        members = [Client(s.port, f"/rooms/{room}") for _ in range(4)]
        join_all(members)
        for _ in range(2):
            members[0].send(b"".join(frame(BINARY, b"%4d" % i * 250) for i in range(200)))
            for c in members:
                assert [c.message()[1][:4] for _ in range(200)] == [b"%4d" % i for i in range(200)]
        for c in members:
            c.sock.close()
    expect_metric(s, "credit_withheld_total", lambda n: n > 0)
    expect_metric(s, "mesh_backlogged_total", lambda n: n > 0)
    expect_metric(s, "mesh_backlog_bytes", 0)
    expect_metric(s, "receive_paused", 0)


def test_receives_that_find_no_buffer_are_counted_and_lose_nothing(new_server):
    """More has come than a turn may hand over: 16 connections share the buffers of a ring. With epoll
    there are none to share."""
    s = new_server("--echo", "--shards", "1")
    clients = [Client(s.port) for _ in range(16)]
    data = [frame(BINARY, bytes([i]) * 60 * KIB) * 2 for i in range(len(clients))]
    s.process.send_signal(signal.SIGSTOP)
    for c, frames in zip(clients, data):
        c.send(frames)
    s.process.send_signal(signal.SIGCONT)
    for i, c in enumerate(clients):
        for _ in range(2):
            assert c.message() == (BINARY, bytes([i]) * 60 * KIB)
        c.sock.close()
    expect_metric(s, "io_receive_starved_total",
                  (lambda n: n > 0) if s.backend == "uring" else 0)


def test_pings_of_a_tick_leave_together(new_server, tmp_path):
    """With io_uring one system call takes them all; epoll needs one for each, and little more."""
    conf = tmp_path / "t.conf"
    conf.write_text("ping-interval = 0\n")
    s = new_server("--config", str(conf), "--shards", "1", "--pong-timeout", "60s")
    clients = [Client(s.port, "/rooms/idle") for _ in range(600)]
    time.sleep(0.6)  # all have been silent for longer than the interval to come
    growth = Growth(s)
    conf.write_text("ping-interval = 500ms\n")
    s.process.send_signal(signal.SIGHUP)
    assert all(c.frame().opcode == PING for c in clients)
    got = growth.all("pings_sent_total", "io_syscalls_total")
    assert got["pings_sent_total"] == len(clients)
    calls = got["io_syscalls_total"] / len(clients)
    assert calls < 0.25 if s.backend == "uring" else 1 <= calls < 1.25, calls
    for c in clients:
        c.sock.close()


def test_answers_that_end_their_connection_are_counted(new_server):
    s = new_server("--page", "on")
    growth = Growth(s)
    for _ in range(3):
        with Raw(s.port) as c:
            answer = c.ask(f"GET / HTTP/1.1\r\nHost: {c.host}\r\nConnection: close\r\n\r\n".encode())
            assert answer.status == 200 and c.at_end()
    assert growth.of('connections_closed_total{reason="http_done"}') == 3


def test_a_shard_that_was_stopped_tells_of_late_turns(new_server):
    s = new_server("--shards", "1", "--ping-interval", "1s")
    with Client(s.port, "/rooms/late"):
        before = settled(lambda: s.metric("tidewire_late_turns_total"))
        s.process.send_signal(signal.SIGSTOP)
        time.sleep(0.6)
        s.process.send_signal(signal.SIGCONT)
        expect_metric(s, "late_turns_total", lambda n: n > before)


def test_a_message_that_waits_for_the_inflater_pauses_its_connection(new_server):
    s = new_server("--echo", "--compress", "on", "--max-message", "1MiB", "--turn-budget", "100us",
                   "--shards", "1")
    assert s.metric("tidewire_deflate_bytes") == 0
    growth = Growth(s)
    with Client(s.port, headers=OFFER) as c:
        c.send(frame(BINARY, deflate_message(b"z" * KIB * KIB), rsv=4))
        assert c.any_message() == (BINARY, b"z" * KIB * KIB)
        assert growth.all("inflate_waits_total", "receive_pauses_total", "messages_inflated_total",
                          "compress_skipped_total") == {
            "inflate_waits_total": 1, "receive_pauses_total": 1, "messages_inflated_total": 1,
            "compress_skipped_total": 1}
        assert s.metric("tidewire_deflate_bytes") > 0
        assert growth.of("messages_large_total") >= 1


def test_connections_that_wait_for_their_refusal_are_shown(new_server):
    s = new_server("--max-connections", "1", "--shards", "1")
    with Client(s.port, "/rooms/one"), Raw(s.port) as silent:
        expect_metric(s, "connections_refusing", 1)
        assert silent.response().status == 503
    expect_metric(s, "connections_refusing", 0)


def test_pools_tell_what_they_hold_and_what_they_could_not_have(backend):
    with Faults() as faults:
        s = Server(backend, "--echo", "--shards", "1", env=faults.env)
        try:
            with Raw(s.port) as c:
                answer = c.ask(f"GET /none HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode())
                assert answer.status == 404
                faults.arm("mmap", 1, 1)
                c.send(b"GET /half")  # has to be kept, and there is nothing to keep it in
                assert c.response().status == 503
                faults.disarm("mmap")
            expect_metric(s, "pool_failures_total", 1, pool="receive_state")
            expect_metric(s, "connections_closed_total", 1, reason="no_memory")
            with Raw(s.port) as c:
                c.send(b"GET /half")
                expect_metric(s, "pool_bytes", lambda n: n > 0, pool="receive_state")
                with Client(s.port) as other:  # that pool has room now; no message is that large yet
                    faults.arm("mmap", 1, 1)
                    other.send(frame(BINARY, b"m" * 10000)[:-1])
                    other.expect_close(1011)
                    faults.disarm("mmap")
            expect_metric(s, "message_alloc_failures_total", 1)
            expect_metric(s, "connections_closed_total", 2, reason="no_memory")
            with Client(s.port) as c:
                c.sock.setsockopt(6, 10, 1024)  # TCP_WINDOW_CLAMP
                for _ in range(300):
                    c.send(frame(BINARY, b"q" * 20000))
                    if s.metric("tidewire_queue_bytes") > 100 * KIB:
                        break
                expect_metric(s, "pool_bytes", lambda n: n > 0, pool="queue_chunks")
        finally:
            s.stop()
