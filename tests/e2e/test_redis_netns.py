# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Redis and nodes in network namespaces of their own, and the links between them cut: nothing tells
either end. With the oracle of nodes.py over everything that was published."""

import time

import pytest

from netns import FarNodes, Star
from nodes import chatter, redis_metrics
from peers import until
from proxy import Proxy
from redis_servers import RedisServer

# A silent link is found within 2 s; and the time to ask.
NOTICED_S = 2.3
FLAGS = ("--redis-timeout", "200ms")


@pytest.fixture
def star():
    with Star(3) as s:
        yield s


@pytest.fixture
def redis(star):
    with star.centre.inside():
        server = RedisServer(host="0.0.0.0")
    server.far_url = f"redis://{star.ADDRESS}:{server.port}"
    with server:
        yield server


def two_each(n, room):
    members = [n.join(i, room) for i in range(len(n.servers)) for _ in range(2)]
    n.begin(room)
    return members


def is_away(server):
    return server.get("/health/ready") == (503, "redis is away\n")


def notices(servers, begin):
    for s in servers:
        assert until(lambda s=s: is_away(s), 5), redis_metrics(s)
        took = time.monotonic() - begin
        assert took < NOTICED_S, f"noticed after {took:.2f} s"


def finish(n, room):
    """All is well again: who lacks what knows it."""
    n.wait_ready()
    n.mark(room)
    n.check(room)
    n.check_accounts(room)


@pytest.mark.parametrize("how", ("link", "out", "back"))
def test_one_of_three_is_cut_off(backend, star, redis, how):
    """The others go on, one of them by a slow way; it goes on alone, and comes back."""
    with star.leaves[2].inside():
        slow = Proxy(redis.port, host=star.ADDRESS)
    with slow:
        slow.delay_s = 0.02
        with FarNodes(backend, star, (redis.far_url, redis.far_url, slow.url), *FLAGS) as n:
            members = two_each(n, "cut")
            alone, others = n.servers[0], n.servers[1:]
            with chatter(members[:-1]):
                star.cut(0, how)
                notices([alone], time.monotonic())
                had = alone.metric("tidewire_redis_local_only_total")
                assert until(lambda: alone.metric("tidewire_redis_local_only_total") > had + 20)
                assert not any(is_away(s) for s in others)
                last = members[-1].say()
                members[2].wait_for(last)
                star.heal(0, how)
                n.wait_ready()
            finish(n, "cut")
            assert alone.metric("tidewire_redis_silent_total") > 0
            assert alone.metric("tidewire_redis_lost_total") > 0
            assert last not in members[0].got
            for s in others:
                assert s.metric("tidewire_redis_silent_total") == 0, redis_metrics(s)
                assert s.metric("tidewire_redis_local_only_total") == 0, redis_metrics(s)


def test_all_are_cut_off_from_redis(backend, star, redis):
    """Each node goes on by itself; then all are one again. Who comes meanwhile is let in."""
    with FarNodes(backend, star, (redis.far_url,) * 2, *FLAGS) as n:
        members = two_each(n, "all")
        with chatter(members):
            star.cut(0, "link")
            star.cut(1, "back")
            notices(n.servers, time.monotonic())
            assert until(lambda: n.servers[0].metric("tidewire_redis_pairs_up") == 0)
            late = n.join(0, "all")
            data = late.say()
            members[0].wait_for(data)
            assert data not in members[2].got
            star.heal(0, "link")
            star.heal(1, "back")
            n.wait_ready()
        finish(n, "all")
        for s in n.servers:
            assert s.metric("tidewire_redis_local_only_total") > 0, redis_metrics(s)
