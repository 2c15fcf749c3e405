# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Limits on counts and rates: connections of the node and of an address, messages, bytes; the
PROXY protocol, which says whose connection it is."""

import ipaddress
import itertools
import os
import resource
import socket
import struct
import threading
import time

import pytest

from probe import (Over, dial, dial_unix, expect_ends, expect_metric, expect_nothing_left,
                   open_or_code, proxy_v1, proxy_v2, until)
from wire import BINARY, CLOSE, PING, PONG, TEXT, Client, Raw, frame, request

pytestmark = pytest.mark.sanitize
KIB = 1 << 10


def get(c, path="/nowhere"):
    return c.ask(f"GET {path} HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode())


def leave(clients):
    for c in clients:
        c.sock.close()


def connect_in_parallel(count, connect):
    """The results of connect() from that many threads that begin together."""
    results, gate = [None] * count, threading.Barrier(count)

    def one(i):
        gate.wait()
        results[i] = connect()

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30)
    return results


# The node -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("shards", [1, 4])
def test_more_than_max_connections_are_turned_away_with_1013(new_server, shards):
    s = new_server("--max-connections", "20", "--shards", str(shards))
    inside = [Client(s.port, "/rooms/full") for _ in range(20)]
    for c in inside:
        c.expect_alive()
    for _ in range(10):
        with Client(s.port, "/rooms/full") as c:
            assert "full" in c.expect_close(1013)
    expect_ends(s, "node_full", 10)
    expect_metric(s, "close_frames_sent_total", 10, code="1013")
    with Raw(s.port) as c:
        answer = get(c)
        assert answer.status == 503 and "retry-after" in dict(answer.headers)
        assert c.at_end()
    expect_metric(s, "http_responses_total", 1, status="503")
    expect_ends(s, "node_full", 11)
    for c in inside:
        c.expect_alive()
    inside.pop().sock.close()
    expect_metric(s, "websockets", 19)
    until(lambda: came_in(s, inside), True)
    assert open_or_code(s.port) == (None, 1013)
    leave(inside)
    expect_nothing_left(s)


def came_in(server, inside):
    c, _ = open_or_code(server.port)
    if c is not None:
        inside.append(c)
    return c is not None


@pytest.mark.parametrize("shards", [1, 4])
def test_max_connections_is_exact_for_parallel_connects(new_server, shards):
    s = new_server("--max-connections", "10", "--shards", str(shards))
    results = connect_in_parallel(64, lambda: open_or_code(s.port))
    inside = [c for c, _ in results if c is not None]
    assert len(inside) == 10
    assert [code for c, code in results if c is None] == [1013] * 54
    leave(inside)
    expect_nothing_left(s)


def test_who_is_refused_and_says_nothing_is_told_within_a_second(new_server):
    s = new_server("--max-connections", "1")
    with Client(s.port, "/rooms/one") as inside:
        inside.expect_alive()
        begin = time.monotonic()
        with Raw(s.port) as c:
            assert c.response().status == 503
            assert c.at_end()
        assert 0.9 < time.monotonic() - begin < 2
        inside.expect_alive()
    expect_ends(s, "node_full")


def test_refused_ones_that_stay_take_no_place_of_others_who_are_refused(new_server):
    """There are 64 places for those who are told why; whoever has been told has left its own."""
    s = new_server("--max-connections", "1", "--shards", "1", "--close-timeout", "30s")
    with Client(s.port, "/rooms/one") as inside:
        told = [Client(s.port, "/rooms/two") for _ in range(100)]
        for c in told:
            f = c.frame()
            assert f.opcode == CLOSE and f.payload[:2] == struct.pack("!H", 1013)
        expect_metric(s, "connections_refusing", 0)
        inside.expect_alive()
        leave(told)
    expect_nothing_left(s)


def test_a_crowd_of_refused_that_say_nothing_all_have_an_answer_within_a_second(new_server):
    s = new_server("--max-connections", "1", "--shards", "2")
    with Client(s.port, "/rooms/one") as inside:
        begin = time.monotonic()
        crowd = [Raw(s.port) for _ in range(500)]
        answers = [c.response().status for c in crowd]
        assert answers == [503] * 500
        assert time.monotonic() - begin < 3
        leave(crowd)
        inside.expect_alive()
    expect_nothing_left(s)


def first_free(pid):
    """The lowest descriptor that a process does not have."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(n for n in itertools.count() if n not in taken)


def test_who_comes_when_descriptors_have_run_out_is_told_at_once(new_server):
    """With io_uring nobody need be turned away: a connection takes none of the process's."""
    s = new_server("--shards", "1")
    pid, limits = s.process.pid, resource.prlimit(s.process.pid, resource.RLIMIT_NOFILE)
    with Client(s.port, "/rooms/old") as old:
        old.expect_alive()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (first_free(pid), limits[1]))
        for _ in range(5):
            begin = time.monotonic()
            with Raw(s.port) as c:
                if s.backend == "epoll":
                    assert c.response().status == 503 and c.at_end()
                else:
                    assert get(c).status == 404
            assert time.monotonic() - begin < 1
        old.expect_alive()
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        with Client(s.port, "/rooms/old") as c:
            c.expect_alive()
    turned_away = 5 if s.backend == "epoll" else 0
    expect_metric(s, "io_accept_errors_total", turned_away)
    expect_metric(s, "connections_turned_away_total", turned_away)
    expect_nothing_left(s)


def test_the_admin_address_does_not_count(new_server):
    s = new_server("--max-connections", "1", "--max-connections-per-ip", "1", "--connect-rate",
                   "1/1", "--connect-rate-per-ip", "1/1")
    with Client(s.port, "/rooms/one") as c:
        c.expect_alive()
        for _ in range(5):
            assert s.get("/health")[0] == 200
        c.expect_alive()


# One address --------------------------------------------------------------------------------------

@pytest.mark.parametrize("shards", [1, 4])
def test_64_parallel_connects_at_a_limit_of_10_leave_10(new_server, shards):
    s = new_server("--max-connections-per-ip", "10", "--shards", str(shards))
    for _ in range(3):
        results = connect_in_parallel(64, lambda: open_or_code(s.port))
        inside = [c for c, _ in results if c is not None]
        assert len(inside) == 10
        assert [code for c, code in results if c is None] == [1013] * 54
        with dial(s.port, source="127.0.0.2").open("/rooms/other") as other:
            other.expect_alive()
        leave(inside)
        expect_metric(s, "websockets", 0)
        until(lambda: s.metric("tidewire_addresses"), 0)
    expect_ends(s, "address_full", 3 * 54)


def test_room_of_an_address_is_free_again_when_one_leaves(new_server):
    s = new_server("--max-connections-per-ip", "2", "--shards", "4")
    inside = [Client(s.port, "/rooms/two") for _ in range(2)]
    assert open_or_code(s.port) == (None, 1013)
    inside.pop().sock.close()
    until(lambda: came_in(s, inside), True)
    with Raw(s.port) as c:
        answer = get(c)
        assert answer.status == 503
        assert b"address" in answer.body
    leave(inside)
    expect_nothing_left(s)


def test_bytes_that_come_before_the_address_is_judged_are_served(new_server):
    """The whole handshake and a frame in one packet, while another shard is asked."""
    s = new_server("--max-connections-per-ip", "100", "--shards", "4", "--echo")
    for i in range(40):
        with Client(s.port, also=frame(TEXT, b"early %d" % i)) as c:
            assert c.message() == (TEXT, b"early %d" % i)
    expect_nothing_left(s)


# Rates --------------------------------------------------------------------------------------------

def test_connect_rate_lets_the_burst_in_then_the_rate(new_server):
    s = new_server("--connect-rate", "10/5", "--shards", "4")
    begin = time.monotonic()
    results = connect_in_parallel(30, lambda: open_or_code(s.port))
    passed = time.monotonic() - begin
    inside = [c for c, _ in results if c is not None]
    assert 5 <= len(inside) <= 5 + passed * 10 + 1
    assert {code for c, code in results if c is None} == {1013}
    expect_ends(s, "connect_rate", 30 - len(inside))
    until(lambda: came_in(s, inside), True, 2)
    leave(inside)


@pytest.mark.parametrize("shards", [1, 4])
def test_connect_rate_per_ip_is_of_one_address(new_server, shards):
    s = new_server("--connect-rate-per-ip", "5/3", "--shards", str(shards))
    for source in ("127.0.0.1", "127.0.0.2", "127.0.0.3"):
        inside, refused = [], 0
        begin = time.monotonic()
        for _ in range(8):
            c = dial(s.port, source=source).open("/rooms/rate")
            c.send(frame(PING, b"?"))
            f = c.frame()
            refused += f.opcode == CLOSE and f.payload[:2] == struct.pack("!H", 1013)
            inside += [c] * (f.opcode == PONG)
        assert 3 <= len(inside) <= 4 + (time.monotonic() - begin) * 5
        assert refused == 8 - len(inside) > 0
        leave(inside)
    expect_ends(s, "address_rate", lambda n: n > 0)
    until(lambda: s.metric("tidewire_addresses"), 0)  # forgotten when the rate has rested


@pytest.mark.parametrize("shards", [1, 4])
def test_one_address_does_not_use_up_the_nodes_connect_rate(new_server, shards):
    s = new_server("--connect-rate", "2/20", "--connect-rate-per-ip", "1/1", "--shards", str(shards))
    flood = [open_or_code(s.port) for _ in range(60)]
    inside = [c for c, _ in flood if c is not None]
    assert len(inside) < 20
    with dial(s.port, source="127.0.0.2").open("/rooms/rate") as other:
        other.expect_alive()
    expect_ends(s, "address_rate", 60 - len(inside))
    expect_ends(s, "connect_rate", 0)
    leave(inside)


def test_message_rate_lets_the_burst_pass_and_ends_what_goes_on(new_server):
    s = new_server("--echo", "--message-rate", "10/20")
    with Client(s.port) as c:
        c.send(b"".join(frame(TEXT, b"%d" % i) for i in range(20)))
        for i in range(20):
            assert c.message() == (TEXT, b"%d" % i)
        time.sleep(0.25)
        c.echo(TEXT, b"two more have been earned")
        c.send(frame(TEXT, b"x") * 20)
        got = list(itertools.takewhile(lambda f: f.opcode == TEXT, iter(c.frame, None)))
        assert 1 <= len(got) <= 4
        assert c.at_end()
    expect_ends(s, "message_rate")
    expect_metric(s, "close_frames_sent_total", 1, code="1008")


def test_pings_count_as_messages(new_server):
    s = new_server("--echo", "--message-rate", "1/5")
    with Client(s.port) as c:
        c.send(frame(PING, b"p") * 6)
        for _ in range(5):
            assert c.message() == (PONG, b"p")
        assert "rate" in c.expect_close(1008)
    expect_ends(s, "message_rate")


def test_who_keeps_the_rate_lives(new_server):
    s = new_server("--echo", "--message-rate", "50/2", "--byte-rate", "100KiB/64KiB")
    with Client(s.port) as c:
        for _ in range(30):
            c.echo(TEXT, b"steady")
            time.sleep(0.025)
    expect_metric(s, "connections_closed_total", 0, reason="message_rate")


def test_byte_rate_lets_the_burst_pass_and_ends_what_goes_on(new_server):
    s = new_server("--echo", "--byte-rate", "1KiB/70KiB")
    with Client(s.port) as c:
        c.echo(BINARY, b"x" * 64 * KIB)
        c.send(frame(BINARY, b"y" * 10 * KIB))
        f = c.frame()
        assert f.opcode == CLOSE and f.payload[:2] == struct.pack("!H", 1008)
    expect_ends(s, "byte_rate")


def test_byte_rate_within_a_request_head_is_answered_with_429(new_server):
    s = new_server("--byte-rate", "1KiB/4KiB", "--max-message", "4KiB")
    with Raw(s.port) as c:
        c.send(b"GET / HTTP/1.1\r\n" + b"X: " + b"y" * 6 * KIB)
        answer = c.response()
        assert answer.status == 429 and "retry-after" in dict(answer.headers)
        assert c.at_end()
    expect_ends(s, "byte_rate")
    expect_metric(s, "http_responses_total", 1, status="429")
    expect_nothing_left(s)


def test_the_rate_of_one_is_not_that_of_another(new_server):
    s = new_server("--echo", "--message-rate", "1/3", "--shards", "1")
    clients = [Client(s.port) for _ in range(10)]
    for c in clients:
        c.send(frame(TEXT, b"a") * 3)
    for c in clients:
        for _ in range(3):
            assert c.message() == (TEXT, b"a")
    leave(clients)


# PROXY protocol -----------------------------------------------------------------------------------

@pytest.fixture
def behind(new_server):
    return new_server("--proxy-from", "127.0.0.1", "--max-connections-per-ip", "2", "--shards",
                      "4", "--handshake-timeout", "500ms")


def through(server, header, path="/rooms/proxied"):
    """An upgrade behind that header: the connection and its answer's first frame, or a code."""
    c = Raw(server.port)
    c.send(header + request(path, c.host) + frame(PING, b"in"))
    assert c.response().status == 101
    f = c.frame()
    return c, None if f.opcode == PONG else struct.unpack("!H", f.payload[:2])[0]


@pytest.mark.parametrize("header", [proxy_v1, proxy_v2])
@pytest.mark.parametrize("first,second", [("192.0.2.1", "192.0.2.2"),
                                          ("2001:db8:0:1::1", "2001:db8:0:2::1")])
def test_the_limit_per_address_is_of_the_announced_one(behind, header, first, second):
    inside = []
    for source, want in ((first, None), (first, None), (first, 1013), (second, None)):
        c, code = through(behind, header(source))
        assert code == want
        inside.append(c)
    expect_ends(behind, "address_full")
    leave(inside)
    expect_nothing_left(behind)
    until(lambda: behind.metric("tidewire_addresses"), 0)


def test_addresses_of_one_64_network_count_together(behind):
    hosts = [f"2001:db8:1:1:{i:x}::{i}" for i in range(1, 4)]
    assert len({ipaddress.ip_network(h + "/64", strict=False) for h in hosts}) == 1
    inside, codes = zip(*[through(behind, proxy_v2(h)) for h in hosts])
    assert codes == (None, None, 1013)
    c, code = through(behind, proxy_v2("2001:db8:1:2::1"))
    assert code is None
    leave([c, *inside])


def test_an_ipv4_address_is_the_same_when_it_is_mapped(behind):
    results = [through(behind, proxy_v2(a)) for a in ("192.0.2.9", "::ffff:192.0.2.9",
                                                      "192.0.2.9")]
    assert [code for _, code in results] == [None, None, 1013]
    leave([c for c, _ in results])


@pytest.mark.parametrize("header", [proxy_v1("192.0.2.1"), proxy_v2("192.0.2.1")],
                         ids=["v1", "v2"])
def test_a_header_may_come_in_any_pieces(behind, header):
    for cut in range(1, len(header)):
        with Raw(behind.port) as c:
            c.send_pieces([header[:cut], header[cut:] + request("/rooms/cut", c.host)], 0.001)
            assert c.response().status == 101


def test_local_and_unknown_leave_the_address_of_the_proxy(behind):
    headers = [proxy_v2("192.0.2.1", command=0), b"PROXY UNKNOWN\r\n", proxy_v2("192.0.2.1",
                                                                                command=0)]
    results = [through(behind, h) for h in headers]
    assert [code for _, code in results] == [None, None, 1013]
    leave([c for c, _ in results])


@pytest.mark.parametrize("garbage", [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY TCP4 1.2.3 1.2.3.4 1 2\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", b"PROXY TCP4 ::1 ::1 1 2\r\n", b"PROXY \r\n",
    b"PROXY " + b"x" * 200, b"\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0c" + bytes(12),
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04" + bytes(4),
], ids=["none", "address", "port", "family", "empty", "endless", "v3", "short"])
def test_what_is_no_header_is_cut_off(behind, garbage):
    with Raw(behind.port) as c:
        c.send(garbage)
        assert c.at_end()
    expect_ends(behind, "proxy_header")
    expect_nothing_left(behind)


def test_who_has_not_sent_its_header_yet_counts_as_a_connection(new_server):
    s = new_server("--proxy-from", "127.0.0.1", "--max-connections", "3")
    waiting = [Raw(s.port) for _ in range(2)]
    expect_metric(s, "connections", 3)  # who asks is one
    inside, code = through(s, proxy_v1("192.0.2.1"))
    assert code is None
    assert through(s, proxy_v1("192.0.2.2"))[1] == 1013
    with Raw(s.port) as silent:  # and this one is told, though it has sent no header either
        assert silent.response().status == 503
        assert silent.at_end()
    expect_ends(s, "node_full", 2)
    for c in waiting:  # their places are their own
        c.send(proxy_v1("192.0.2.3") + request("/rooms/proxied", c.host) + frame(PING, b"in"))
        assert c.response().status == 101 and c.frame().opcode == PONG
    leave([inside, *waiting])
    expect_nothing_left(s)
    c, code = through(s, proxy_v1("192.0.2.4"))
    assert code is None
    leave([c])


def test_connect_rate_counts_a_connection_when_it_is_accepted(new_server):
    s = new_server("--proxy-from", "127.0.0.1", "--connect-rate", "1/8")
    waiting = [Raw(s.port) for _ in range(8)]
    # Several, as the other shard may accept one before those, and each second has a place.
    came = [through(s, proxy_v1("192.0.2.1")) for _ in range(4)]
    assert 1013 in [code for _, code in came]
    expect_ends(s, "connect_rate", lambda n: n >= 1)
    leave([*waiting, *(c for c, code in came if code is None)])


def test_a_header_that_does_not_come_is_waited_for_no_longer_than_the_handshake(behind):
    begin = time.monotonic()
    with Raw(behind.port) as silent, Raw(behind.port) as half:
        half.send(b"PROXY TCP4 192.0.2")
        assert silent.at_end() and half.at_end()
    assert 0.45 < time.monotonic() - begin < 3
    expect_ends(behind, "handshake_timeout", 2)
    expect_nothing_left(behind)


def test_a_header_from_elsewhere_is_no_header(behind):
    with dial(behind.port, source="127.0.0.2") as c:
        c.send(proxy_v1("192.0.2.1") + b"\r\n")
        assert c.response().status == 400
    with dial(behind.port, source="127.0.0.3").open("/rooms/direct") as c:
        c.expect_alive()


def test_the_admin_address_needs_no_header(behind):
    assert behind.get("/health")[0] == 200


def test_a_header_over_a_unix_socket(new_server, tmp_path):
    path = tmp_path / "s"
    s = new_server("--address", f"unix:{path}", "--proxy-from", "unix",
                   "--max-connections-per-ip", "1")
    results = []
    for source in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        c = dial_unix(str(path))
        c.send(proxy_v2(source) + request("/rooms/unix", "localhost") + frame(PING, b"in"))
        assert c.response().status == 101
        results.append((c, c.frame().opcode))
    assert [opcode for _, opcode in results] == [PONG, CLOSE, PONG]
    leave([c for c, _ in results])
    expect_ends(s, "address_full")


def test_ipv6_clients_are_counted_by_64_network(new_server):
    s = new_server("--address", "::1", "--max-connections-per-ip", "2")
    results = []
    for _ in range(3):
        c = dial(s.port, "::1").open("/rooms/six")
        c.send(frame(PING, b"?"))
        results.append((c, c.frame().opcode))
    assert [opcode for _, opcode in results] == [PONG, PONG, CLOSE]
    assert isinstance(results[0][0], Over) and results[0][0].sock.family == socket.AF_INET6
    leave([c for c, _ in results])
