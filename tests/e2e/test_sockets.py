# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Where it listens, and HTTP as such on a connection: keep-alive, pipelining, HEAD."""

import os
import re
import socket
import stat
import time
from email.utils import parsedate_to_datetime

import pytest

from harness import parse_logfmt, port_of
from probe import (dial, dial_unix, expect_metric, expect_nothing_left, is_refused, started,
                   until)
from wire import PONG, TEXT, Raw, close_frame, frame, join_all, request

pytestmark = pytest.mark.sanitize


def addresses(server):
    """What the log says is listened on for clients."""
    rows = [parse_logfmt(line) for line in server.lines]
    return [r["address"] for r in rows if r.get("msg") == "listening"]


# Listeners ----------------------------------------------------------------------------------------

@pytest.mark.parametrize("shards", [1, 4])
def test_members_over_every_kind_of_socket_share_a_room(new_server, tmp_path, shards):
    path = str(tmp_path / "tidewire.sock")
    s = new_server("--address", "127.0.0.1", "--address", "::1", "--address", f"unix:{path}",
                   "--shards", str(shards))
    told = addresses(s)
    assert len(told) == 3
    six = next(port_of(a) for a in told if a.startswith("["))
    assert f"unix:{path}" in told
    room = "/rooms/mixed"
    clients = [dial(s.port).open(room), dial(six, "::1").open(room), dial_unix(path).open(room)]
    join_all(clients)
    for i, sender in enumerate(clients):
        sender.send(frame(TEXT, b"%d" % i))
        for c in clients:
            assert c.message() == (TEXT, b"%d" % i)
    for c in clients:
        c.sock.close()
    expect_nothing_left(s)


def test_several_addresses_on_one_port(new_server):
    s = new_server("--address", "127.0.0.1", "--address", "127.0.0.2")
    ports = {a.rsplit(":", 1)[0]: port_of(a) for a in addresses(s)}
    assert set(ports) == {"127.0.0.1", "127.0.0.2"}
    for host, port in ports.items():
        with dial(port, host).open("/rooms/both") as c:
            c.expect_alive()
    assert is_refused(ports["127.0.0.1"], "127.0.0.3")


def test_many_clients_over_a_unix_socket(new_server, tmp_path):
    path = str(tmp_path / "s")
    s = new_server("--address", f"unix:{path}", "--shards", "4")
    assert stat.S_ISSOCK(os.stat(path).st_mode)
    clients = [dial_unix(path).open("/rooms/unix") for _ in range(64)]
    join_all(clients)
    for c in clients:
        c.sock.close()
    expect_nothing_left(s)
    s.stop()
    assert not os.path.exists(path)


def test_a_stale_unix_socket_is_taken_over(new_server, tmp_path):
    path = str(tmp_path / "s")
    first = new_server("--address", f"unix:{path}")
    first.kill()
    assert os.path.exists(path)
    new_server("--address", f"unix:{path}")
    with dial_unix(path).open("/rooms/again") as c:
        c.expect_alive()


def test_admin_addresses_may_be_several_and_unix_sockets(backend, tmp_path):
    paths = [str(tmp_path / name) for name in ("a", "b")]
    flags = [f"--admin-address=unix:{path}" for path in paths]
    with started(backend, "--port", "0", *flags):
        for path in paths:
            with dial_unix(path) as c:
                answer = c.ask(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert (answer.status, answer.body) == (200, b"ok\n")
    assert not any(os.path.exists(path) for path in paths)


@pytest.mark.parametrize("shards", [2, 4])
def test_all_shards_take_connections(new_server, shards):
    s = new_server("--shards", str(shards))
    clients = [dial(s.port).open("/rooms/spread") for _ in range(128)]
    join_all(clients[:2])
    rows = until(lambda: {k: v for k, v in s.metrics().items()
                          if re.match(r"tidewire_io_accepts_total\b", k)},
                 lambda rows: sum(rows.values()) >= 128)
    if any("shard" in k for k in rows):
        busy = [v for v in rows.values() if v > 0]
        assert len(busy) == shards
    for c in clients:
        c.sock.close()


def test_frames_leave_at_once_without_nagles_delay(new_server):
    """Two small frames in separate turns; with Nagle the second waits for the delayed ACK."""
    s = new_server("--echo", "--shards", "1")
    with dial(s.port).open("/echo") as c:
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
        c.sock.settimeout(2)
        for i in range(200):
            c.send(frame(TEXT, b"%d" % i))
            assert c.message() == (TEXT, b"%d" % i)


def test_a_port_is_free_again_when_the_server_has_gone(new_server):
    s = new_server("--drain-time", "0")
    with dial(s.port).open("/rooms/x") as c:
        c.expect_alive()
        s.terminate()
        c.send(close_frame(1012) if c.frame() else b"")
        s.stop()
    again = new_server(port=s.port)
    with dial(again.port).open("/rooms/x") as c:
        c.expect_alive()


def test_a_port_is_free_soon_after_a_crash(new_server):
    """What a ring held is given back a little after the process has gone."""
    s = new_server()
    s.kill()
    with dial(new_server(port=s.port).port).open("/rooms/x") as c:
        c.expect_alive()


# HTTP on a connection -----------------------------------------------------------------------------

@pytest.fixture
def paged(new_server):
    # No heartbeat and no time-outs: nothing but the sockets wakes this server.
    return new_server("--page", "on", "--shards", "1", "--ping-interval", "0",
                      "--handshake-timeout", "0", "--drain-time", "0")


def dateless(answer):
    """Its headers without Date, which may be another in the next second."""
    return {name: value for name, value in answer.headers if name != "date"}


def ask(path, host, method="GET", extra=""):
    return f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n{extra}\r\n".encode()


def test_requests_of_a_connection_are_answered_one_by_one(paged):
    with Raw(paged.port) as c:
        for path, status in (("/", 200), ("/none", 404), ("/page.js", 200), ("/rooms/x", 426),
                             ("/", 200)):
            answer = c.ask(ask(path, c.host))
            assert (answer.status, status) == (status, answer.status)
            if status == 426:
                break
    expect_metric(paged, "http_responses_total", 1, status="426")


def test_pipelined_requests_are_answered_in_order(paged):
    with Raw(paged.port) as c:
        paths = ["/", "/page.css", "/none", "/page.js"] * 25
        c.send(b"".join(ask(p, c.host) for p in paths))
        for p in paths:
            answer = c.response()
            assert answer.status == (404 if p == "/none" else 200)
            kind = {"/": "text/html", "/page.css": "text/css", "/page.js": "text/javascript"}
            assert dict(answer.headers)["content-type"].startswith(kind.get(p, "text/plain"))
        c.send(request("/rooms/x", c.host) + frame(0x9, b"p"))
        assert c.response().status == 101
        assert c.message() == (PONG, b"p")


def test_a_pipeline_whose_answers_are_not_read_waits_and_loses_nothing(paged):
    with Raw(paged.port) as warm:
        size = len(warm.ask(ask("/page.js", warm.host)).body)
    count = 4 * (1 << 20) // size
    with dial(paged.port, rcvbuf=4096) as c:
        c.sock.settimeout(0.3)
        sent, data = 0, ask("/page.js", c.host) * count
        while sent < len(data):
            try:
                sent += c.sock.send(data[sent:sent + 65536])
            except TimeoutError:
                break
        expect_metric(paged, "receive_paused", 1)
        assert paged.metric("tidewire_queue_bytes") < 1 << 20
        c.sock.settimeout(10)
        for _ in range(sent // len(ask("/page.js", c.host))):
            answer = c.response()
            assert (answer.status, len(answer.body)) == (200, size)
    expect_nothing_left(paged)


@pytest.mark.parametrize("path", ["/", "/page.js", "/none"])
def test_head_tells_what_get_would_and_sends_no_body(paged, path):
    with Raw(paged.port) as c:
        full = c.ask(ask(path, c.host))
        only = c.ask(ask(path, c.host, "HEAD"), has_body=False)
        assert (only.status, dateless(only)) == (full.status, dateless(full))
        again = c.ask(ask(path, c.host))
        assert (again.status, dateless(again)) == (full.status, dateless(full))
        assert again.body == full.body


@pytest.mark.parametrize("request_line,extra,status", [
    ("GET / HTTP/1.1", "", 200), ("GET /none HTTP/1.1", "", 404),
    ("POST /rooms/a HTTP/1.1", "", 405), ("GET /rooms/a HTTP/1.1", "", 426),
    ("GET / HTTP/1.1", "Host: twice\r\n", 400), ("GET /" + "a" * 9000 + " HTTP/1.1", "", 414),
])
def test_an_answer_has_the_date_of_now(paged, request_line, extra, status):
    """RFC 9110 6.6.1: MUST in all 2xx, 3xx and 4xx answers of a server with a clock."""
    before = int(time.time())
    with Raw(paged.port) as c:
        answer = c.ask(f"{request_line}\r\nHost: {c.host}\r\n{extra}\r\n".encode())
    assert answer.status == status
    (date,) = [value for name, value in answer.headers if name == "date"]
    assert re.fullmatch(r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT", date), date
    at = parsedate_to_datetime(date).timestamp()
    assert before - 1 <= at <= time.time()


@pytest.mark.parametrize("version,extra,stays", [
    ("HTTP/1.1", "", True), ("HTTP/1.1", "Connection: close\r\n", False), ("HTTP/1.0", "", False),
    ("HTTP/1.1", "Connection: Keep-Alive\r\n", True),
])
def test_a_connection_stays_or_ends_as_its_request_says(paged, version, extra, stays):
    with Raw(paged.port) as c:
        answer = c.ask(f"GET / {version}\r\nHost: {c.host}\r\n{extra}\r\n".encode())
        assert answer.status == 200
        want = "keep-alive" if stays else "close"
        assert dict(answer.headers)["connection"].lower() == want
        if stays:
            assert c.ask(ask("/", c.host)).status == 200
        else:
            assert c.at_end() and not c.reset


def test_a_client_that_half_closes_still_gets_its_answers(paged):
    with Raw(paged.port) as c:
        c.send(ask("/", c.host) * 3)
        c.sock.shutdown(socket.SHUT_WR)
        assert [c.response().status for _ in range(3)] == [200] * 3
        assert c.at_end()
    expect_nothing_left(paged)


def test_a_head_in_pieces_of_one_byte_is_the_same_head(paged):
    with Raw(paged.port) as c:
        for byte in ask("/", c.host):
            c.send(bytes([byte]))
        assert c.response().status == 200
