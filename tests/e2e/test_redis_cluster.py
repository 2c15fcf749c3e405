# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Rooms over nodes whose Redis is a cluster of six: three masters with a replica each. Slots move,
masters fail over, stand still, or become replicas, under load."""

import contextlib
import re
import time
from pathlib import Path

import pytest

from nodes import Nodes, chatter, redis_metrics
from peers import until
from redis_servers import Cluster, RedisServer

ROOM = "tidewire:"
FAILOVER_S = 20.0


@pytest.fixture(scope="module")
def one_cluster():
    with Cluster() as c:
        yield c


@pytest.fixture
def cluster(one_cluster):
    """As it was: whoever was stopped is started, and all agree."""
    yield one_cluster
    for node in one_cluster.nodes:
        node.resume()
        if node.process.poll() is not None:
            node.start()
    one_cluster.wait_whole()


def two_each(n, room):
    members = [n.join(i, room) for i in range(len(n.servers)) for _ in range(2)]
    n.begin(room)
    return members


def finish(n, room):
    n.wait_ready(FAILOVER_S)
    n.mark(room)
    n.check(room)
    n.check_accounts(room)


def metric_sum(n, name):
    return sum(s.metric(f"tidewire_redis_{name}") for s in n.servers)


def subscribers(server, room):
    return server.call("PUBSUB", "SHARDNUMSUB", ROOM + room)[1]


def pairs_of(n):
    return [s.metric("tidewire_redis_pairs") for s in n.servers]


def rooms_by_master(cluster, names):
    rooms = {}
    for name in names:
        rooms.setdefault(cluster.owner(ROOM + name).port, name)
    return rooms


def test_each_master_carries_its_rooms(backend, cluster):
    """A pair of links and canaries for each master; a room's messages go through its own alone."""
    rooms = rooms_by_master(cluster, [f"r{i}" for i in range(40)])
    assert len(rooms) == 3
    with Nodes(backend, 2, "--redis", cluster.url) as n:
        n.wait_ready()
        assert until(lambda: pairs_of(n) == [6, 6]), "for each shard and master"
        for name, count in (("maps", 2), ("masters", 6)):
            for s in n.servers:
                assert s.metric(f"tidewire_redis_cluster_{name}_total") == count, redis_metrics(s)
        for port, room in rooms.items():
            two_each(n, room)
            n.check(room)
            owner = next(s for s in cluster.nodes if s.port == port)
            assert subscribers(owner, room) == 2, "one for each node"
        assert until(lambda: all(s.metric("tidewire_redis_canaries_returned_total") > 6
                                 for s in n.servers), 5)
        assert metric_sum(n, "lost_total") == 0
        assert metric_sum(n, "errors_total") == 0


def test_rooms_follow_their_slot(backend, cluster):
    """The slot moves under load: its master ends the subscriptions, and nothing is lost that was
    published after that."""
    room = "slot"
    with Nodes(backend, 2, "--redis", cluster.url) as n:
        members = two_each(n, room)
        bystander = two_each(n, "by")
        source = cluster.owner(ROOM + room)
        for to in (next(m for m in cluster.masters() if m is not source), source):
            with chatter(members + bystander):
                time.sleep(0.1)
                cluster.move(ROOM + room, to)
                assert until(lambda to=to: subscribers(to, room) == 2, 5), n.servers[0].log()
                time.sleep(0.1)
        n.mark("by")
        n.check("by")
        finish(n, room)
        assert metric_sum(n, "rooms_moved_total") >= 4, redis_metrics(n.servers[0])
        assert metric_sum(n, "local_only_total") == 0
        assert metric_sum(n, "connects_total") == 2 * 2 * (6 + 1), "no link has ended"


def test_a_room_is_told_that_its_slot_has_gone(backend, cluster):
    """Nobody speaks, so nobody is told MOVED: only the unasked sunsubscribe says it."""
    room = "quiet"
    with Nodes(backend, 2, "--redis", cluster.url) as n:
        two_each(n, room)
        source = cluster.owner(ROOM + room)
        to = next(m for m in cluster.masters() if m is not source)
        cluster.move(ROOM + room, to)
        assert until(lambda: subscribers(to, room) == 2, 3), n.servers[0].log()
        assert metric_sum(n, "rooms_ended_total") == 2
        assert metric_sum(n, "sent_back_total") == 0
        finish(n, room)
        assert metric_sum(n, "lost_total") == 0
        cluster.move(ROOM + room, source)


def test_nodes_follow_a_failover_of_a_cluster(backend, cluster):
    """A master is killed under load: everyone stays, and what is lost is counted."""
    room = "f"
    with Nodes(backend, 2, "--redis", cluster.url) as n:
        members = two_each(n, room)
        old = cluster.owner(ROOM + room)
        with chatter(members):
            old.kill()
            new = cluster.wait_other_owner(ROOM + room, old)
            assert until(lambda: subscribers(new, room) == 2, FAILOVER_S), n.servers[0].log()
            n.wait_ready(FAILOVER_S)
        finish(n, room)
        assert until(lambda: pairs_of(n) == [6, 6])
        assert metric_sum(n, "local_only_total") > 0


def test_a_master_that_becomes_a_replica_is_left(backend, cluster):
    """A failover by hand: the old master goes on as a replica, which would take publishes in an
    order of its own."""
    room = "hand"
    with Nodes(backend, 2, "--redis", cluster.url) as n:
        members = two_each(n, room)
        old = cluster.owner(ROOM + room)
        new = cluster.replica_of(old)
        with chatter(members):
            new.call("CLUSTER", "FAILOVER")
            assert until(lambda: subscribers(new, room) == 2, FAILOVER_S), n.servers[0].log()
            time.sleep(0.2)
        finish(n, room)
        assert subscribers(old, room) == 0
        assert until(lambda: b"name=tidewire " not in old.call("CLIENT", "LIST", "TYPE", "pubsub"))


def test_a_master_that_stands_still_is_noticed_within_two_seconds(backend, cluster):
    room = "still"
    with Nodes(backend, 2, "--redis", cluster.url) as n:
        members = two_each(n, room)
        other = next(r for r in (f"o{i}" for i in range(40))
                     if cluster.owner(ROOM + r) is not cluster.owner(ROOM + room))
        two_each(n, other)
        old = cluster.owner(ROOM + room)
        with chatter(members):
            old.pause()
            begin = time.monotonic()
            assert until(lambda: n.servers[0].get("/health/ready")[0] == 503, 5)
            noticed = time.monotonic() - begin
            n.mark(other)  # the others' rooms go on over nodes
            new = cluster.wait_other_owner(ROOM + room, old)
            assert until(lambda: subscribers(new, room) == 2, FAILOVER_S), n.servers[0].log()
            old.resume()
        assert noticed < 2.3, f"noticed after {noticed:.2f} s"
        finish(n, room)
        assert metric_sum(n, "silent_total") >= 2


def test_a_slot_without_master_leaves_its_rooms_to_the_node(backend, cluster):
    room = "hole"
    with Nodes(backend, 2, "--redis", cluster.url) as n:
        two_each(n, room)
        slot, owner = cluster.slot(ROOM + room), cluster.owner(ROOM + room)
        for node in cluster.nodes:
            with contextlib.suppress(Exception):  # replicas have been told
                node.call("CLUSTER", "DELSLOTS", slot)
        server = n.servers[0]
        try:
            assert until(lambda: server.metric("tidewire_redis_cluster_slots_uncovered"), 15)
            assert server.get("/health/ready") == (503, "redis is away\n")
            a, b = [m for m in n.of_room(room) if m.server is server]
            b.wait_for(a.say())
            assert metric_sum(n, "local_only_total") >= 1
        finally:
            for node in cluster.masters():
                node.call("CLUSTER", "SETSLOT", slot, "NODE", owner.call("CLUSTER", "MYID"))
        assert until(lambda: subscribers(owner, room) == 2, 15), server.log()
        finish(n, room)


def test_the_password_is_that_of_all_nodes_and_never_told(backend):
    with Cluster(password="s/e:c@r%et") as c, Nodes(backend, 1, "--redis", c.url) as n:
        n.wait_ready()
        a, b = (n.join(0, "p") for _ in range(2))
        b.wait_for(a.say())
        assert not any("s/e:c@r%et" in line for line in n.servers[0].lines)


README = Path(__file__).parents[2] / "pubsub" / "README.md"


def documented_rights():
    """Those that pubsub/README.md names for a cluster."""
    one, cluster = re.search(r"Of an ACL: `([^`]+)`; in a cluster `([^`]+)` instead of the first "
                             "three", " ".join(README.read_text().split())).groups()
    return [right.replace("PREFIX", ROOM) for right in one.split()[3:] + cluster.split()]


@pytest.fixture(scope="module")
def guarded():
    """A cluster with a user that has just these rights."""
    rights = documented_rights()
    with Cluster(users=[f"node on >pass resetchannels -@all {' '.join(rights)}"]) as c:
        c.node_url = c.url.replace("redis+cluster://", "redis+cluster://node:pass@")
        yield c


def test_the_documented_rights_are_enough(backend, guarded):
    rooms = rooms_by_master(guarded, [f"r{i}" for i in range(40)])
    with Nodes(backend, 2, "--redis", guarded.node_url, "--redis-linger", "0") as n:
        n.wait_ready()
        for room in rooms.values():
            two_each(n, room)
            n.mark(room)
        room = rooms[guarded.nodes[0].port]
        guarded.move(ROOM + room, guarded.nodes[1])
        assert until(lambda: subscribers(guarded.nodes[1], room) == 2, 5), n.servers[0].log()
        finish(n, room)
        n.of_room(room)[0].close()
        n.of_room(room)[1].close()
        assert until(lambda: subscribers(guarded.nodes[1], room) == 1, 5)
        guarded.move(ROOM + room, guarded.nodes[0])
        assert not any("NOPERM" in line for s in n.servers for line in s.lines)
        assert sum(s.metric("tidewire_redis_errors_total", error="noperm") for s in n.servers) == 0


@pytest.mark.parametrize("right", ("+spublish", "+ssubscribe", "+sunsubscribe", "+cluster|slots",
                                   "+ping", f"&{ROOM}*"))
def test_a_right_that_is_missing_is_named_with_the_remedy(guarded, right):
    rights = documented_rights()
    assert right in rights
    given = [r for r in rights if r != right]
    for node in guarded.nodes:
        node.call("ACL", "SETUSER", "node", "resetchannels", "-@all", *given)
    try:
        with Nodes("epoll", 1, "--redis", guarded.node_url, "--redis-linger", "0") as n:
            server = n.servers[0]
            n.join(0, "x").close()
            assert until(lambda: any("NOPERM" in line and "ACL SETUSER" in line
                                     for line in server.lines), 10), server.log()
            for node in guarded.nodes:
                node.call("ACL", "SETUSER", "node", *rights)
            n.wait_ready()
    finally:
        for node in guarded.nodes:
            node.call("ACL", "SETUSER", "node", *rights)


def test_a_server_that_is_no_cluster_is_told_in_the_log(backend):
    with RedisServer() as redis:
        url = redis.url.replace("redis://", "redis+cluster://")
        with Nodes(backend, 1, "--redis", url) as n:
            server = n.servers[0]
            assert until(lambda: server.metric("tidewire_redis_cluster_failures_total") > 0)
            assert any("cluster support disabled" in line for line in server.lines), server.log()
            a, b = (n.join(0, "x") for _ in range(2))
            b.wait_for(a.say())
            assert server.get("/health/ready")[0] == 503
