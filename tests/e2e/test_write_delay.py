# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""--write-delay: what a room says fast leaves together, and nothing else changes."""

import threading
import time

import pytest

import wire
from conftest import client_context
from harness import Server
from nodes import Nodes
from probe import dial, expect_ends, expect_metric, expect_nothing_left, run
from redis_servers import RedisServer
from wire import BINARY, CLOSE, TEXT, Client, frame, join_all

pytestmark = pytest.mark.sanitize

LONG_S = 0.5  # a delay that no pause of this machine is mistaken for
LONG = ("--write-delay", f"{LONG_S * 1000:.0f}ms", "--shards", "1")


def say(client, message):
    client.send(frame(TEXT, message))


def begin_window(publisher, member):
    """What this room says from now on waits."""
    say(publisher, b"first")
    assert member.message() == (TEXT, b"first")


def members(server, path, count):
    """Their room has been quiet for a whole window."""
    clients = [Client(server.port, path) for _ in range(count)]
    join_all(clients)
    time.sleep(LONG_S)
    return clients


def close_all(clients):
    for c in clients:
        c.sock.close()


def timed(client):
    begin = time.monotonic()
    got = client.message()[1]
    return got, time.monotonic() - begin


def test_the_first_message_leaves_at_once_and_the_rest_together(new_server):
    s = new_server(*LONG)
    a, b = clients = members(s, "/rooms/delay", 2)
    runs, waited = s.metric("tidewire_runs_total"), s.metric("tidewire_write_delayed_total")
    say(a, b"first")
    got, first_s = timed(b)
    assert got == b"first" and first_s < LONG_S / 2
    for i in range(10):
        say(a, b"%d" % i)
        time.sleep(0.005)
    got, rest_s = timed(b)
    assert got == b"0" and LONG_S / 4 < rest_s < 2 * LONG_S
    assert [b.message()[1] for _ in range(9)] == [b"%d" % i for i in range(1, 10)]
    assert [a.message()[1] for _ in range(11)] == [b"first"] + [b"%d" % i for i in range(10)]
    expect_metric(s, "write_delayed_total", waited + 10)
    assert s.metric("tidewire_runs_total") == runs + 2
    expect_metric(s, "write_delay_bytes", 0)
    close_all(clients)
    expect_nothing_left(s)


def test_without_it_nothing_waits(new_server):
    s = new_server("--shards", "1")
    with Client(s.port, "/rooms/now") as a:
        for i in range(50):
            say(a, b"%d" % i)
            assert a.message() == (TEXT, b"%d" % i)
        assert s.metric("tidewire_write_delayed_total") == 0


def test_pongs_do_not_wait(new_server):
    s = new_server(*LONG)
    a, b = clients = members(s, "/rooms/pong", 2)
    begin_window(a, b)
    say(a, b"second")
    begin = time.monotonic()
    b.expect_alive()  # and "second" has not come before the pong
    assert time.monotonic() - begin < LONG_S / 2
    assert b.message() == (TEXT, b"second")
    close_all(clients)


def test_who_joins_in_between_gets_nothing_from_before(new_server):
    s = new_server(*LONG)
    a, b = clients = members(s, "/rooms/join", 2)
    begin_window(a, b)
    say(a, b"second")
    expect_metric(s, "write_delayed_total", lambda n: n >= 1)
    with Client(s.port, "/rooms/join") as late:
        assert b.message() == (TEXT, b"second")
        say(a, b"third")
        assert late.message() == b.message() == (TEXT, b"third")
    close_all(clients)


def test_a_publisher_that_leaves_is_heard_to_the_end(new_server):
    s = new_server(*LONG)
    a, b = members(s, "/rooms/leave", 2)
    begin_window(a, b)
    say(a, b"second")
    a.send(frame(CLOSE))
    a.sock.close()
    assert b.message() == (TEXT, b"second")
    b.sock.close()
    expect_nothing_left(s)


def test_a_drain_sends_what_waits_before_the_close_frame(backend):
    s = Server(backend, *LONG, "--drain-time", "0")
    a, b = clients = members(s, "/rooms/drain", 2)
    begin_window(a, b)
    say(a, b"second")
    expect_metric(s, "write_delayed_total", lambda n: n >= 1)
    begin = time.monotonic()
    s.terminate()
    assert b.message() == (TEXT, b"second")
    f = b.frame()
    assert f.opcode == CLOSE and f.payload[:2] == (1012).to_bytes(2, "big")
    assert time.monotonic() - begin < LONG_S
    close_all(clients)
    s.stop()


@pytest.mark.parametrize("shards", (1, 2))
def test_one_order_and_nothing_lost(new_server, shards):
    s = new_server("--write-delay", "20ms", "--shards", str(shards), "--compress", "on",
                   "--compress-min", "0")
    deflate = {"Sec-WebSocket-Extensions": "permessage-deflate"}
    count, each = 6, 150
    clients = [Client(s.port, "/rooms/order", deflate if i % 2 else None) for i in range(count)]
    join_all(clients)
    quiet = Client(s.port, "/rooms/order?echo=0")
    got = [[] for _ in range(count + 1)]

    def read(i, c, messages):
        got[i] = [c.any_message() for _ in range(messages)]

    readers = [threading.Thread(target=read, args=(i, c, (count + 1) * each))
               for i, c in enumerate(clients)]
    readers.append(threading.Thread(target=read, args=(count, quiet, count * each)))
    for t in readers:
        t.start()
    for n in range(each):
        for i, c in enumerate((*clients, quiet)):
            c.send(frame(BINARY, b"%d:%d" % (i, n)))
    for t in readers:
        t.join(30)
    assert all(g == got[0] for g in got[:count])
    assert got[count] == [m for m in got[0] if not m[1].startswith(b"%d:" % count)]
    for i in range(count + 1):
        mine = [m for _, m in got[0] if m.startswith(b"%d:" % i)]
        assert mine == [b"%d:%d" % (i, n) for n in range(each)]
    assert s.metric("tidewire_write_delayed_total") > 0
    assert s.metric("tidewire_payload_copies_total") == (count + 1) * each + count
    close_all([*clients, quiet])
    expect_nothing_left(s)


def test_a_slow_consumer_is_ended_all_the_same(new_server):
    s = new_server("--write-delay", "20ms", "--shards", "1", "--max-queue", "256KiB",
                   "--tcp-sndbuf", "16KiB", "--close-timeout", "500ms")
    reader = Client(s.port, "/rooms/slow?echo=0")
    slow = dial(s.port, rcvbuf=4096).open("/rooms/slow?echo=0")
    got = []
    t = threading.Thread(target=lambda: got.extend(reader.message() for _ in range(400)))
    t.start()
    with Client(s.port, "/rooms/slow?echo=0") as publisher:
        for i in range(400):
            publisher.send(frame(BINARY, b"%03d" % i + b"x" * 1000))
            time.sleep(0.0005)
        t.join(30)
    assert [int(m[:3]) for _, m in got] == list(range(400))
    expect_ends(s, "slow_consumer")
    reader.sock.close()
    slow.sock.close()
    expect_nothing_left(s)


def test_over_tls_a_record_holds_what_left_together(new_server, certs):
    s = new_server(*LONG, "--tls-port", "0", *certs.ecdsa.flags())
    wire.TLS_PORTS[s.tls_port] = (client_context(certs), "localhost")
    clients = [Client(s.tls_port, "/rooms/tls?echo=0") for _ in range(2)]
    publisher = Client(s.port, "/rooms/tls?echo=0")
    time.sleep(LONG_S)
    begin_window(publisher, clients[0])
    assert clients[1].message() == (TEXT, b"first")
    records = s.metric("tidewire_tls_records_sent_total")
    for i in range(20):
        say(publisher, b"%d" % i)
        time.sleep(0.002)
    for c in clients:
        assert [c.message()[1] for _ in range(20)] == [b"%d" % i for i in range(20)]
    expect_metric(s, "tls_records_sent_total", records + 2)
    close_all([*clients, publisher])
    del wire.TLS_PORTS[s.tls_port]


def test_over_redis_one_order_holds(backend):
    with RedisServer() as redis, \
            Nodes(backend, 2, "--redis", redis.url, "--write-delay", "20ms") as n:
        talkers = [n.join(i % 2, "delay") for i in range(4)]
        n.begin("delay")
        for _ in range(100):
            for m in talkers:
                m.say()
        n.mark("delay")
        n.check("delay")
        n.check_accounts("delay")
        assert all(s.metric("tidewire_write_delayed_total") > 0 for s in n.servers)


@pytest.mark.parametrize("value", ("1us", "2s", "-1ms", "soon"))
def test_a_delay_out_of_range_is_told(value):
    code, _, err = run("serve", "--write-delay", value)
    assert code == 2 and "--write-delay" in err
