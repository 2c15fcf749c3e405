# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Two nodes behind HAProxy and nginx, with the configurations that tools/deploy ships."""

import contextlib
import select
import signal

import pytest

from balancers import balanced
from probe import dial, until
from redis_servers import RedisServer
from wire import BINARY, PING, PONG, Client, close_frame, frame, join_all, request

KINDS = ("haproxy", "nginx")
PROXIED = ("--proxy-from", "127.0.0.1")
ROOMS = 24
BY_ROOM, BY_LOAD, AS_TCP = 8080, 8081, 8082


def flags_for(kind):
    return PROXIED if kind == "haproxy" else ()


def websockets(nodes):
    return [node.metric("tidewire_websockets") for node in nodes]


@pytest.mark.parametrize("kind", KINDS)
def test_by_room_all_members_meet_on_one_node(backend, kind):
    with balanced(kind, backend, *flags_for(kind)) as (balancer, nodes), \
            contextlib.ExitStack() as stack:
        for i in range(ROOMS):
            join_all([stack.enter_context(Client(balancer.ports[BY_ROOM], f"/rooms/{i}"))
                      for _ in range(3)])
        counts = websockets(nodes)
        assert sum(counts) == 3 * ROOMS
        assert min(counts) >= 3 and all(count % 3 == 0 for count in counts), counts


@pytest.mark.parametrize("kind", KINDS)
def test_by_load_both_nodes_get_the_same_number(backend, kind):
    with balanced(kind, backend, *flags_for(kind)) as (balancer, nodes), \
            contextlib.ExitStack() as stack:
        for _ in range(20):
            stack.enter_context(Client(balancer.ports[BY_LOAD], "/rooms/one"))
        assert websockets(nodes) == [10, 10]


@pytest.mark.parametrize("kind", KINDS)
def test_over_redis_a_room_is_whole_on_both_nodes(backend, kind):
    with RedisServer() as redis, \
            balanced(kind, backend, "--redis", redis.url, *flags_for(kind)) as (balancer, nodes), \
            contextlib.ExitStack() as stack:
        for n in nodes:
            assert until(lambda n=n: n.get("/health/ready")[0], 200) == 200
        for way in (BY_LOAD, BY_ROOM):
            members = [stack.enter_context(Client(balancer.ports[way], f"/rooms/{way}"))
                       for _ in range(6)]
            for i, c in enumerate(members):
                c.send(frame(BINARY, b"%d" % i))
                for other in members:
                    assert other.message() == (BINARY, b"%d" % i)
            assert min(websockets(nodes)) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_that_is_killed_is_replaced_by_the_other(backend, kind):
    with balanced(kind, backend, *flags_for(kind)) as (balancer, nodes), \
            contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(balancer.ports[BY_ROOM], f"/rooms/{i}"))
                   for i in range(ROOMS)]
        lost = int(websockets(nodes)[0])
        nodes[0].process.kill()
        nodes[0].process.wait()
        ended = [c for c in clients if not is_answered(c)]
        assert len(ended) == lost > 0
        # Whoever comes again is served, in every room, without waiting for a health check.
        for i in range(ROOMS):
            stack.enter_context(Client(balancer.ports[BY_ROOM], f"/rooms/{i}")).expect_alive()


def is_answered(c):
    with contextlib.suppress(AssertionError, OSError):
        c.expect_alive()
        return True
    return False


def test_a_draining_node_gets_no_new_connections_from_haproxy(backend):
    """It says so on its admin address; those that it has are told to come again: 1012."""
    flags = (*PROXIED, "--drain-time", "4s", "--close-timeout", "500ms")
    with balanced("haproxy", backend, *flags) as (balancer, nodes), contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(balancer.ports[BY_ROOM], f"/rooms/{i}"))
                   for i in range(ROOMS)]
        leaving = int(websockets(nodes)[0])
        nodes[0].process.send_signal(signal.SIGTERM)
        until(lambda: nodes[0].get("/health/ready")[0], 503)
        for i in range(ROOMS):
            stack.enter_context(Client(balancer.ports[BY_ROOM], f"/rooms/{i}")).expect_alive()
        assert nodes[0].process.wait(20) == 0
        closed = [c for c in clients if select.select([c.sock], [], [], 0)[0]]
        assert len(closed) == leaving > 0
        for c in closed:
            c.expect_close(1012)
        for c in clients:
            assert c in closed or is_answered(c)


def test_the_clients_address_reaches_the_node(backend):
    """By the PROXY protocol: a limit per address counts clients, not the balancer."""
    flags = (*PROXIED, "--max-connections-per-ip", "2")
    for kind, port in (("haproxy", BY_LOAD), ("nginx", AS_TCP)):
        with balanced(kind, backend, *flags) as (balancer, nodes), \
                contextlib.ExitStack() as stack:
            took = {}
            for host in ("127.0.0.8", "127.0.0.9"):
                took[host] = [opened_from(stack, host, balancer.ports[port]) for _ in range(8)]
            # Two at most on each node; as TCP a client's address leads to one node.
            for host, results in took.items():
                assert results.count(True) == (4 if kind == "haproxy" else 2), (kind, took)
            assert sum(node.metric("tidewire_connections_closed_total", reason="address_full")
                       for node in nodes) == sum(r.count(False) for r in took.values())


def opened_from(stack, host, port):
    """Whether a client of that address may stay in a room."""
    c = stack.enter_context(dial(port, source=host))
    assert c.ask(request("/rooms/x", c.host)).status == 101
    return is_answered(c)


@pytest.mark.parametrize("kind", KINDS)
def test_a_silent_connection_lives_by_its_heartbeats(backend, kind):
    """Time-outs of the balancers shorter than the interval of pings would end it."""
    replace = {"haproxy": [("timeout tunnel 1h", "timeout tunnel 2s"),
                           ("timeout client 30s", "timeout client 1s"),
                           ("timeout server 30s", "timeout server 1s")],
               "nginx": [("proxy_read_timeout 1h", "proxy_read_timeout 2s")]}[kind]
    flags = (*flags_for(kind), "--ping-interval", "1s")
    with balanced(kind, backend, *flags, replace=replace) as (balancer, _), \
            Client(balancer.ports[BY_ROOM], "/rooms/x") as c:
        for _ in range(3):  # three times longer than the shortest time-out
            ping = c.frame()
            assert ping is not None and ping.opcode == PING, ping
            c.send(frame(PONG, ping.payload))
        c.expect_alive()


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_message_crosses_unchanged(backend, kind):
    with balanced(kind, backend, *flags_for(kind), "--max-message", "4MiB", "--max-queue",
                  "8MiB") as (balancer, _), \
            Client(balancer.ports[BY_ROOM], "/rooms/x", timeout=20) as c:
        payload = bytes(range(256)) * 8192
        c.send(frame(BINARY, payload))
        assert c.message() == (BINARY, payload)
        c.send(close_frame(1000))
        c.expect_close(1000)
