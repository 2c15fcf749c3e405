# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Rooms over nodes whose Redis is found by Sentinels: failovers, lost Sentinels, wrong names."""

import pytest

from nodes import Nodes, chatter, redis_metrics
from peers import until
from redis_servers import Sentinels

FAILOVER_S = 15.0


@pytest.fixture
def sentinels():
    with Sentinels() as s:
        yield s


def two_each(n, room):
    members = [n.join(i, room) for i in range(len(n.servers)) for _ in range(2)]
    n.begin(room)
    return members


def uses(server, nodes):
    """Whether all links of the nodes are at that server: a pair for each shard, no more."""
    links = server.call("CLIENT", "LIST").count(b"name=tidewire")
    return links == 2 * 2 * len(nodes.servers)


def masters_named(nodes):
    return [s.metric("tidewire_redis_masters_total") for s in nodes.servers]


def test_nodes_follow_a_failover(backend, sentinels):
    """Whoever was master is killed under load: everyone stays, and what is lost is counted."""
    with Nodes(backend, 2, "--redis", sentinels.url) as n:
        members = two_each(n, "f")
        assert masters_named(n) == [2, 2], "one for each shard"
        old = sentinels.master()
        assert uses(old, n)
        with chatter(members):
            old.kill()
            new = sentinels.wait_other_master(old)
            assert until(lambda: uses(new, n), FAILOVER_S), n.servers[0].log()
            n.wait_ready(FAILOVER_S)
        n.mark("f")
        n.check("f")
        n.check_accounts("f")
        assert masters_named(n) == [4, 4], redis_metrics(n.servers[0])
        assert new.call("PUBSUB", "NUMSUB", "tidewire:f")[1] == 2


def test_a_master_that_stood_still_is_left_behind(backend, sentinels):
    with Nodes(backend, 2, "--redis", sentinels.url) as n:
        two_each(n, "p")
        old = sentinels.master()
        old.pause()
        new = sentinels.wait_other_master(old)
        assert until(lambda: uses(new, n), FAILOVER_S), n.servers[0].log()
        n.wait_ready(FAILOVER_S)
        old.resume()
        assert old.call("ROLE")[0] == b"master", "it does not know yet"
        n.mark("p")
        n.check("p")
        assert uses(new, n), "nobody went back"


def test_one_sentinel_is_enough_and_passwords_are_two(backend):
    with Sentinels(password="of the master".replace(" ", "-"), sentinel_password="s/e:c@r%et") as s:
        for sentinel in s.sentinels[:2]:
            sentinel.kill()
        with Nodes(backend, 2, "--redis", s.url) as n:
            two_each(n, "one")
            n.check("one")
            assert not any("s/e:c@r%et" in line for line in n.servers[0].lines)


def test_a_master_that_no_sentinel_knows_leaves_rooms_to_the_node(backend, sentinels):
    url = sentinels.url.replace("mymaster", "other")
    with Nodes(backend, 1, "--redis", url, "--redis-timeout", "200ms") as n:
        members = [n.join(0, "x") for _ in range(2)]
        n.mark("x")
        n.check("x")
        server = n.servers[0]
        assert server.get("/health/ready") == (503, "redis is away\n")
        assert any("No such master with that name" in line for line in server.lines), server.log()
        assert server.metric("tidewire_redis_sentinel_failures_total") > 0
        assert server.metric("tidewire_redis_masters_total") == 0
        assert server.metric("tidewire_redis_local_only_total") == sum(m.sent for m in members)
