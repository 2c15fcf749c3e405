# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Rooms and the few HTTP resources: who gets what, in which order, under which names."""

import threading

import pytest

from wire import BINARY, TEXT, Client, Raw, frame, join_all, request

pytestmark = pytest.mark.sanitize


def get(server, path, method="GET", extra=""):
    with Raw(server.port) as c:
        return c.ask(f"{method} {path} HTTP/1.1\r\nHost: {c.host}\r\n{extra}\r\n".encode(),
                     has_body=method != "HEAD")


def members(server, path, count):
    clients = [Client(server.port, path) for _ in range(count)]
    join_all(clients)
    return clients


# Delivery -----------------------------------------------------------------------------------------

def test_every_member_gets_every_message_in_one_order(server):
    path, count, each = "/rooms/order", 8, 100
    clients = members(server, path, count)
    got = [None] * count

    def read(i):
        got[i] = [clients[i].message() for _ in range(count * each)]

    readers = [threading.Thread(target=read, args=(i,)) for i in range(count)]
    for t in readers:
        t.start()
    for n in range(each):
        for i, c in enumerate(clients):
            c.send(frame(TEXT if n % 2 else BINARY, b"%d:%d" % (i, n)))
    for t in readers:
        t.join(30)
    assert all(g == got[0] for g in got)
    for i in range(count):
        mine = [p for _, p in got[0] if p.startswith(b"%d:" % i)]
        assert mine == [b"%d:%d" % (i, n) for n in range(each)]
    for c in clients:
        c.sock.close()


def test_echo_0_leaves_out_only_its_own(server):
    path = "/rooms/quiet"
    with Client(server.port, path) as loud:
        join_all([loud])
        quiet = Client(server.port, path + "?echo=0")
        quiet.send(frame(TEXT, b"0"))
        assert loud.message() == (TEXT, b"0")
        loud.send(frame(TEXT, b"1"))
        assert loud.message() == (TEXT, b"1")
        assert quiet.message() == (TEXT, b"1")
        quiet.send(frame(TEXT, b"2"))
        assert loud.message() == (TEXT, b"2")
        quiet.expect_alive()
        quiet.sock.close()


def test_rooms_are_separate(server):
    with Client(server.port, "/rooms/one") as a, Client(server.port, "/rooms/two") as b:
        join_all([a])
        join_all([b])
        a.send(frame(TEXT, b"for one"))
        assert a.message() == (TEXT, b"for one")
        b.expect_alive()


def test_rooms_of_different_shards_are_one(server):
    path = "/rooms/shards"
    clients = members(server, path, 16)
    for i, c in enumerate(clients):
        c.send(frame(TEXT, b"from %d" % i))
        for other in clients:
            assert other.message() == (TEXT, b"from %d" % i)
    for c in clients:
        c.sock.close()


def test_who_comes_and_goes_leaves_the_others_in_peace(server):
    path = "/rooms/turnover"
    with Client(server.port, path) as stays:
        join_all([stays])
        for i in range(100):
            with Client(server.port, path) as guest:
                guest.send(frame(TEXT, b"%d" % i))
                assert guest.message() == (TEXT, b"%d" % i)
            assert stays.message() == (TEXT, b"%d" % i)


def test_echo_needs_its_flag(new_server):
    s = new_server()
    with Raw(s.port) as c:
        assert c.ask(request("/echo", c.host)).status == 404


# Names --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["a", "%41", "caf%C3%A9", "%F0%9F%98%80", "a%2Fb", "a%20b", "%25",
                                  "a+b", "~a-b_c.d", "%00", "x" * 255, "%C3%A9" * 127])
def test_a_name_of_1_to_255_bytes_is_a_room(server, name):
    with Client(server.port, f"/rooms/{name}") as c:
        c.send(frame(TEXT, b"x"))
        assert c.message() == (TEXT, b"x")


@pytest.mark.parametrize("name", ["", "x" * 256, "%C3%A9" * 128, "%FF", "a%C3", "%zz", "%4", "%",
                                  "%ED%A0%80"])
def test_another_name_is_refused(server, name):
    with Raw(server.port) as c:
        assert c.ask(request(f"/rooms/{name}", c.host)).status == 400


def test_a_name_is_the_same_however_it_is_escaped(server):
    with Client(server.port, "/rooms/%61%2d1") as a, Client(server.port, "/rooms/a-1") as b:
        join_all([a, b])


# HTTP ---------------------------------------------------------------------------------------------

def test_a_room_without_an_upgrade_is_426(server):
    answer = get(server, "/rooms/x")
    assert answer.status == 426
    assert ("upgrade", "websocket") in [(n, v.lower()) for n, v in answer.headers]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_405(server, method):
    answer = get(server, "/rooms/x", method, "Content-Length: 0\r\n")
    assert answer.status == 405
    assert "GET" in dict(answer.headers)["allow"]


@pytest.mark.parametrize("path", ["/nowhere", "/room/x", "/page.jsx", "/../etc/passwd", "/rooms"])
def test_what_is_not_there_is_404(server, path):
    assert get(server, path).status == 404


def test_health_and_metrics_answer_on_the_admin_address(server):
    status, _ = server.get("/health")
    assert status == 200
    assert server.metrics()


def test_requests_share_a_connection(server):
    with Raw(server.port) as c:
        one = f"GET /nowhere HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode()
        c.send(one * 3)
        assert [c.response().status for _ in range(3)] == [404] * 3
        assert c.ask(request("/rooms/kept-alive", c.host)).status == 101
        c.expect_alive()
