# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What Redis and the network do to nodes under load, with the oracle of nodes.py over everything
that was published."""

import contextlib
import re
import socket
import struct
import threading
import time

import pytest

from nodes import Nodes, chatter, redis_metrics
from peers import until
from proxy import Proxy
from redis_servers import RedisServer
from wire import BINARY, Client, Raw, frame, request


@pytest.fixture
def redis():
    with RedisServer() as r:
        yield r


def two_each(n, room):
    members = [n.join(i, room) for i in range(len(n.servers)) for _ in range(2)]
    n.begin(room)
    return members


def finish(n, room):
    """All is well again: who lacks what knows it."""
    n.wait_ready()
    n.mark(room)
    n.check(room)
    n.check_accounts(room)


def metric_sum(n, name):
    return sum(s.metric(name) for s in n.servers)


def test_a_restart_under_load(backend, redis):
    with Nodes(backend, 2, "--redis", redis.url) as n:
        members = two_each(n, "restart")
        with chatter(members):
            time.sleep(0.2)
            redis.kill()
            assert until(lambda: all(s.get("/health/ready")[0] == 503 for s in n.servers))
            late = n.join(0, "restart")
            time.sleep(0.2)
            redis.start()
            n.wait_ready()
            time.sleep(0.2)
        finish(n, "restart")
        assert metric_sum(n, "tidewire_redis_local_only_total") > 20
        assert late.is_here()
        own = [m for m in members if m.server is n.servers[0]]
        assert any(g in own[0].got and g not in members[2].got for g in own[0].got), \
            "nothing was delivered within the node alone"


def test_a_paused_redis_is_noticed_within_two_seconds(backend, redis):
    with Nodes(backend, 2, "--redis", redis.url) as n:
        members = two_each(n, "pause")
        with chatter(members):
            redis.pause()
            begin = time.monotonic()
            assert until(lambda: n.servers[0].get("/health/ready")[0] == 503, 5)
            noticed = time.monotonic() - begin
            assert until(lambda: n.servers[0].metric("tidewire_redis_local_only_total") > 0, 5)
            redis.resume()
            n.wait_ready()
        assert noticed < 2.3, f"noticed after {noticed:.2f} s"
        finish(n, "pause")
        assert metric_sum(n, "tidewire_redis_silent_total") >= 2
        assert metric_sum(n, "tidewire_redis_unknown_total") > 0


@pytest.mark.parametrize("kind", ("normal", "pubsub"))
def test_connections_killed_under_load(backend, redis, kind):
    with Nodes(backend, 3, "--redis", redis.url) as n:
        members = two_each(n, "kill")
        admin = redis.connect()
        with chatter(members, 0.001):
            for _ in range(10):
                time.sleep(0.1)
                admin.call("CLIENT", "KILL", "TYPE", kind)
        finish(n, "kill")
        assert metric_sum(n, "tidewire_redis_connects_total") > 24
        admin.close()


def test_flushall_in_a_loop_loses_nothing(backend, redis):
    with Nodes(backend, 2, "--redis", redis.url) as n:
        members = two_each(n, "flush")
        with chatter(members, 0.0005):
            end = time.monotonic() + 0.7
            while time.monotonic() < end:
                redis.call("FLUSHALL")
        finish(n, "flush")
        assert metric_sum(n, "tidewire_redis_lost_total") == 0


def test_a_redis_out_of_memory_goes_on_publishing(backend, redis):
    """It refuses what stores, and PUBLISH does not."""
    with Nodes(backend, 2, "--redis", redis.url) as n:
        members = two_each(n, "oom")
        redis.call("CONFIG", "SET", "maxmemory", "1")
        redis.call("CONFIG", "SET", "maxmemory-policy", "noeviction")
        with chatter(members):
            time.sleep(0.2)
        finish(n, "oom")
        assert metric_sum(n, "tidewire_redis_lost_total") == 0


def test_a_master_that_becomes_a_replica(backend, redis):
    """PUBLISH is no write: whoever is connected goes on. Whoever connects anew is told."""
    with RedisServer() as other, Nodes(backend, 2, "--redis", redis.url) as n:
        members = two_each(n, "replica")
        with chatter(members[1:]):
            redis.call("REPLICAOF", other.host, other.port)
            assert redis.call("ROLE")[0] == b"slave"
            members[2].wait_for(members[0].say())
            assert metric_sum(n, "tidewire_redis_local_only_total") == 0
            for kind in ("normal", "pubsub"):
                redis.call("CLIENT", "KILL", "TYPE", kind)
            for s in n.servers:
                assert until(lambda s=s: s.metric("tidewire_redis_downs_total",
                                                  reason="not_master") > 0), redis_metrics(s)
                assert s.get("/health/ready")[0] == 503
            redis.call("REPLICAOF", "NO", "ONE")
            n.wait_ready()
        finish(n, "replica")
        assert metric_sum(n, "tidewire_redis_local_only_total") > 0


def test_a_password_that_is_asked_for_all_at_once(backend, redis):
    """Whoever is connected stays; whoever connects anew is refused, until the password goes."""
    with Nodes(backend, 2, "--redis", redis.url) as n:
        members = two_each(n, "noauth")
        admin = redis.connect()
        with chatter(members[1:]):
            admin.call("CONFIG", "SET", "requirepass", "new")
            members[2].wait_for(members[0].say())
            assert metric_sum(n, "tidewire_redis_local_only_total") == 0
            admin.call("CLIENT", "KILL", "TYPE", "pubsub")
            for s in n.servers:
                assert until(lambda s=s: s.metric("tidewire_redis_errors_total",
                                                  error="noauth") > 0), redis_metrics(s)
                assert s.get("/health/ready")[0] == 503
            admin.call("CONFIG", "SET", "requirepass", "")
            n.wait_ready()
        finish(n, "noauth")
        assert metric_sum(n, "tidewire_redis_local_only_total") > 0
        assert any("NOAUTH" in line for line in n.servers[0].lines)
        admin.close()


def test_a_redis_that_loads_its_data_is_waited_for(backend):
    """It answers LOADING to whoever connects, for a second or two."""
    with RedisServer("key-load-delay 1000", "loading-process-events-interval-bytes 1024") as redis:
        admin = redis.connect()
        for i in range(1000):
            admin.send("SET", f"key{i}", "x" * 100)
        assert {admin.read() for i in range(1000)} == {b"OK"}
        with Nodes(backend, 2, "--redis", redis.url) as n:
            members = two_each(n, "loading")
            admin.call("SAVE")
            admin.close()
            with chatter(members):
                redis.kill()
                starting = threading.Thread(target=redis.start)
                starting.start()
                for s in n.servers:
                    assert until(lambda s=s: s.metric("tidewire_redis_errors_total",
                                                      error="loading") > 0), redis_metrics(s)
                    assert s.get("/health/ready")[0] == 503
                starting.join()
                n.wait_ready()
            finish(n, "loading")
            assert metric_sum(n, "tidewire_redis_local_only_total") > 0
            assert any("LOADING" in line for line in n.servers[0].lines)


def test_publishes_that_are_refused_go_to_the_nodes_own_members(backend, redis):
    """Whatever the error: nobody else has the message, and it is counted; then all is as before."""
    with Proxy(redis.port) as proxy:
        with Nodes(backend, 2, "--redis", proxy.url) as n:
            members = two_each(n, "refused")
            with chatter(members):
                for word in ("READONLY", "OOM"):
                    before = metric_sum(n, "tidewire_redis_local_only_total")
                    proxy.error = f"{word} not now"
                    for s in n.servers:
                        assert until(lambda s=s, w=word: s.metric(
                            "tidewire_redis_errors_total", error=w.lower()) > 0), redis_metrics(s)
                    assert until(lambda: all(s.get("/health/ready")[0] == 503 for s in n.servers))
                    proxy.error = ""
                    n.wait_ready()
                    assert metric_sum(n, "tidewire_redis_local_only_total") > before
            finish(n, "refused")


def test_rights_taken_away_and_given_back(backend, redis):
    with Nodes(backend, 2, "--redis", redis.url) as n:
        members = two_each(n, "rights")
        with chatter(members):
            redis.call("ACL", "SETUSER", "default", "-publish")
            assert until(lambda: all(s.get("/health/ready")[0] == 503 for s in n.servers), 5)
            redis.call("ACL", "SETUSER", "default", "+publish")
            n.wait_ready()
        finish(n, "rights")
        assert metric_sum(n, "tidewire_redis_local_only_total") > 0
        assert metric_sum(n, "tidewire_redis_errors_total") > 0


def test_a_link_that_swallows_everything(backend, redis):
    with Proxy(redis.port) as proxy:
        with Nodes(backend, 1, "--redis", proxy.url) as n:
            members = two_each(n, "swallow")
            with chatter(members):
                proxy.swallow = True
                begin = time.monotonic()
                assert until(lambda: n.servers[0].get("/health/ready")[0] == 503, 5)
                assert time.monotonic() - begin < 2.3
                proxy.swallow = False
                proxy.cut()
                n.wait_ready()
            finish(n, "swallow")


def test_a_slow_link_is_no_silent_one(backend, redis):
    with Proxy(redis.port) as proxy:
        with Nodes(backend, 2, "--redis", proxy.url) as n:
            members = two_each(n, "slow")
            proxy.delay_s = 0.15
            with chatter(members, 0.02):
                time.sleep(2.5)
            proxy.delay_s = 0
            finish(n, "slow")
            assert metric_sum(n, "tidewire_redis_silent_total") == 0
            assert metric_sum(n, "tidewire_redis_lost_total") == 0


def test_refuse_lets_nobody_in_and_keeps_who_is_there(backend, redis):
    with Nodes(backend, 1, "--redis", redis.url, "--engine-down", "refuse") as n:
        members = two_each(n, "refuse")
        server = n.servers[0]
        redis.kill()
        assert until(lambda: server.metric("tidewire_redis_pairs_up") == 0)
        assert until(lambda: server.metric("tidewire_redis_downs_total", reason="connect") >= 2)
        members[0].say()
        assert until(lambda: server.metric("tidewire_redis_refused_total") == 1)
        # Both shards have failed to connect, whoever of them has the room.
        assert until(lambda: server.metric("tidewire_redis_downs_total", reason="connect") >= 12)
        rooms = ["other"] + ["refuse"] * 8
        for room in rooms:
            with Raw(server.port) as c:
                c.send(request(f"/rooms/{room}", c.host))
                assert c.response().status == 101
                c.expect_close(1013)
        assert server.metric("tidewire_redis_joins_refused_total") == len(rooms)
        redis.start()
        n.wait_ready()
        n.join(0, "refuse")
        finish(n, "refuse")
        assert not any(b":1:" in g for g in members[1].got if g.startswith(b"m0:"))


def test_a_node_that_starts_before_its_redis(backend, redis):
    redis.kill()
    with Nodes(backend, 2, "--redis", redis.url) as n:
        a = n.join(0, "early")
        a.wait_for(a.say())
        assert n.servers[0].get("/health/ready")[0] == 503
        redis.start()
        n.wait_ready()
        b = n.join(1, "early")
        b.wait_for(a.say())


def test_what_redis_does_not_take_is_bounded(backend, redis):
    """A Redis that stands still: publishers are slowed down, the queue stays within its bound."""
    with Nodes(backend, 1, "--redis", redis.url, "--redis-queue", "256KiB",
               "--max-queue", "64MiB") as n:
        members = two_each(n, "bound")
        server = n.servers[0]
        redis.pause()

        def push():
            for _ in range(600):
                members[0].say(10000)

        t = threading.Thread(target=push, daemon=True)
        t.start()
        worst = 0
        while server.get("/health/ready")[0] == 200:
            worst = max(worst, server.metric("tidewire_redis_queue_bytes"))
        redis.resume()
        t.join(20)
        assert not t.is_alive()
        # At least one message: more depends on whether the room's home is the publisher's shard.
        assert 10000 < worst <= (256 << 10) + 11000, redis_metrics(server)
        assert server.metric("tidewire_redis_dropped_total") == 0
        finish(n, "bound")


def test_what_does_not_fit_the_queue_is_dropped_and_counted(backend, redis):
    """Each shard may have one message under way that is longer than its window: those of three are
    more than the queue takes."""
    with Nodes(backend, 2, "--redis", redis.url, "--redis-queue", "64KiB", "--shards", "4") as n:
        two_each(n, "drop")
        speakers = [n.join(0, "drop") for _ in range(14)]
        n.mark("drop")
        server = n.servers[0]

        def is_full():
            redis.pause()
            for m in speakers:
                m.say(60000)
            full = until(lambda: server.metric("tidewire_redis_dropped_total") > 0, 1)
            redis.resume()
            n.wait_ready()
            assert until(lambda: dealt_with() == sum(m.sent for m in n.members
                                                     if m.server is server)), redis_metrics(server)
            return full

        def dealt_with():
            return sum(server.metric(f"tidewire_redis_{what}_total")
                       for what in ("taken", "dropped", "unknown", "local_only"))

        # Where the machine is so busy that Redis is found silent before all have spoken: again.
        assert any(is_full() for _ in range(5)), redis_metrics(server)
        finish(n, "drop")
        assert n.missing("drop", 1) >= server.metric("tidewire_redis_dropped_total") > 0
        assert any("--redis-queue is full" in line for line in server.lines)


# The end ------------------------------------------------------------------------------------------

# Members do not answer the close frame.
QUICK = ("--close-timeout", "200ms")


def leave(server):
    """SIGTERM. Returns how long it took."""
    begin = time.monotonic()
    server.stop()
    return time.monotonic() - begin


def gives_up(server):
    return any("messages are given up" in line for line in server.lines)


def test_a_drain_waits_until_redis_has_all(backend, redis):
    """Four megabytes on a slow way when the node is told to end."""
    with Proxy(redis.port, rcvbuf=16384) as proxy, Nodes(backend, 1, "--redis", redis.url) as there, \
            Nodes(backend, 1, "--redis", proxy.url, "--redis-queue", "64MiB", *QUICK,
                  "--redis-timeout", "10s") as here:
        here.wait_ready()
        there.wait_ready()
        speaker, hearer = here.join(0, "drain", "?echo=0"), there.join(0, "drain")
        hearer.wait_for(speaker.say())
        proxy.delay_s = 0.005
        for _ in range(80):
            speaker.say(50000)
        server = here.servers[0]
        assert until(lambda: server.metric("tidewire_published_total") == speaker.sent)
        assert server.metric("tidewire_redis_taken_total") < speaker.sent
        leave(server)
        assert not gives_up(server)
        assert until(lambda: len(hearer.got) == speaker.sent), len(hearer.got)
        there.check("drain")


def test_messages_that_wait_when_their_clients_go_are_counted(backend, redis):
    """The queue to a slow Redis is full: of each who speaks one message waits with its connection."""
    with Proxy(redis.port, rcvbuf=16384) as proxy, contextlib.ExitStack() as stack, \
            Nodes(backend, 1, "--redis", proxy.url, "--redis-queue", "256KiB", *QUICK,
                  "--redis-timeout", "400ms") as n:
        n.wait_ready()
        server = n.servers[0]
        clients = [stack.enter_context(Client(server.port, f"/rooms/w{i}")) for i in range(8)]
        lost = lambda: server.metric("tidewire_credit_lost_total")
        proxy.delay_s = 0.1
        for c in clients:
            c.sock.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    c.sock.send(frame(BINARY, b"x" * 5000) * 20)
        assert until(lambda: server.metric("tidewire_receive_paused") == 8), server.log()
        assert lost() == 0
        for c in clients[:4]:
            c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.sock.close()
        assert until(lambda: 1 <= lost() <= 4)
        leave(server)
        told = [line for line in server.lines if "messages were dropped that waited" in line]
        assert 1 <= sum(int(re.search(r"messages=(\d+)", line).group(1)) for line in told) <= 4


def test_a_drain_does_not_wait_for_ever(backend, redis):
    with Nodes(backend, 1, "--redis", redis.url, *QUICK, "--redis-timeout", "400ms") as n:
        n.wait_ready()
        speaker, server = n.join(0, "drain"), n.servers[0]
        speaker.wait_for(speaker.say())
        redis.pause()
        for _ in range(10):
            speaker.say()
        assert until(lambda: server.metric("tidewire_published_total") == speaker.sent)
        assert 0.4 <= leave(server) < 2
        assert gives_up(server), server.log()
        redis.resume()
