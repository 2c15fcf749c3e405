# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Rooms over several nodes by a real Redis: who gets what, in which order; what ends and begins."""

import itertools
import os
import subprocess
import threading
import time

import pytest

from harness import binary, parse_logfmt
from nodes import Nodes, redis_metrics
from peers import until
from proxy import Proxy
from redis_servers import RedisServer
from wire import BINARY, TEXT, Client, Raw, frame, request


@pytest.fixture
def redis():
    with RedisServer() as r:
        yield r


@pytest.fixture
def nodes(backend):
    made = []

    def start(count, *flags):
        made.append(Nodes(backend, count, *flags))
        return made[-1]

    yield start
    for n in made:
        n.close()


def channel(room, prefix="tidewire:"):
    return f"{prefix}{room}"


def subscribers(redis, room):
    return redis.call("PUBSUB", "NUMSUB", channel(room))[1]


def message_of_n(seq, epoch=1):
    """As a node writes it whose name is N eight times; its payload is epoch/seq."""
    return (b"\xf7\x01\x02\x00NNNNNNNN" + epoch.to_bytes(4, "little") +
            seq.to_bytes(4, "little") + b"%d/%d" % (epoch, seq))


# Delivery -----------------------------------------------------------------------------------------

def test_members_on_three_nodes_see_one_order(nodes, redis):
    with nodes(3, "--redis", redis.url) as n:
        members = [n.join(i % 3, "order") for i in range(6)]
        n.begin("order")
        for _ in range(200):
            for m in members:
                m.say()
        n.mark("order")
        assert all(m.got[-1200:] == members[0].got[-1200:] for m in members)
        n.check("order")
        n.check_accounts("order")
        for s in n.servers:
            assert 0 < s.metric("tidewire_redis_canary_seconds") < 20
            returned = s.metric("tidewire_redis_canaries_returned_total")
            assert 2 <= returned <= s.metric("tidewire_redis_canaries_sent_total")


def test_echo_0_holds_over_nodes(nodes, redis):
    with nodes(2, "--redis", redis.url) as n:
        loud, quiet, other = n.join(0, "q"), n.join(0, "q", "?echo=0"), n.join(1, "q", "?echo=0")
        n.begin("q")
        for _ in range(50):
            for m in (loud, quiet, other):
                m.say()
        n.mark("q")
        n.check("q")


@pytest.mark.parametrize("size", (0, 1, 125, 126, 1024, 1025, 65536))
def test_payloads_come_unchanged(nodes, redis, size):
    with nodes(2, "--redis", redis.unix_url) as n:
        n.wait_ready()
        a, b = (Client(s.port, "/rooms/p") for s in n.servers)
        for opcode in (TEXT, BINARY):
            data = b"x" * size if opcode == TEXT else bytes(i * 7 % 256 for i in range(size))
            a.send(frame(opcode, data))
            assert b.message() == (opcode, data)
            assert a.message() == (opcode, data)
        a.sock.close()
        b.sock.close()


def test_prefixes_do_not_meet(nodes, redis):
    with nodes(1, "--redis", redis.url) as n, nodes(1, "--redis", redis.url, "--redis-prefix",
                                                   "other:") as m:
        n.wait_ready()
        m.wait_ready()
        a, b = n.join(0, "x"), m.join(0, "x")
        a.wait_for(a.say())
        b.wait_for(b.say())
        assert len(a.got) == len(b.got) == 1


def test_several_servers_share_the_rooms(nodes):
    with RedisServer() as one, RedisServer() as two:
        with nodes(2, "--redis", one.url, "--redis", two.url) as n:
            n.wait_ready()
            for i in range(20):
                a, b = n.join(0, f"room{i}"), n.join(1, f"room{i}")
                b.wait_for(a.say())
            counts = [sum(subscribers(r, f"room{i}") > 0 for i in range(20)) for r in (one, two)]
            assert sum(counts) == 20 and min(counts) > 2, counts
            on_two = next(m for m in n.members if subscribers(two, m.room) > 0)
            on_one = next(m for m in n.members if subscribers(one, m.room) > 0)
            two.kill()
            assert until(lambda: n.servers[0].metric("tidewire_redis_pairs_up") == 2)
            data = on_one.say()
            for m in n.of_room(on_one.room):
                m.wait_for(data)
            on_two.wait_for(on_two.say())
            assert n.servers[0].metric("tidewire_redis_local_only_total") == 1


def test_local_order_delivers_at_once(nodes, redis):
    with nodes(2, "--redis", redis.url, "--redis-order", "local") as n:
        a, same, b = n.join(0, "l"), n.join(0, "l", "?echo=0"), n.join(1, "l")
        n.begin("l")
        redis.pause()
        data = [a.say() for _ in range(10)]
        same.wait_for(data[-1], 1.0)
        assert data[0] not in b.got
        redis.resume()
        b.wait_for(data[-1])
        n.mark("l")
        n.check("l", over_nodes=False)
        assert a.got.count(data[0]) == 1
        assert n.servers[0].metric("tidewire_redis_own_copies_total") >= 10


# Subscriptions ------------------------------------------------------------------------------------

def test_a_room_is_subscribed_once_and_given_up_after_a_while(nodes, redis):
    with nodes(1, "--redis", redis.url, "--redis-linger", "300ms") as n:
        n.wait_ready()
        members = [n.join(0, "linger") for _ in range(6)]
        assert subscribers(redis, "linger") == 1
        for m in members[:-1]:
            m.close()
        time.sleep(0.6)
        assert subscribers(redis, "linger") == 1
        members[-1].close()
        left = time.monotonic()
        assert until(lambda: subscribers(redis, "linger") == 0)
        assert time.monotonic() - left >= 0.25
        again = n.join(0, "linger")
        assert subscribers(redis, "linger") == 1
        again.wait_for(again.say())


def test_what_comes_for_a_room_that_lingers_is_counted(nodes, redis):
    with nodes(1, "--redis", redis.url) as n:
        n.wait_ready()
        server, numbers = n.servers[0], itertools.count(1)
        n.join(0, "gone").close()

        def is_stale():
            redis.call("PUBLISH", channel("gone"), message_of_n(next(numbers)))
            return server.metric("tidewire_redis_stale_total") > 0

        assert until(is_stale), redis_metrics(server)
        assert server.metric("tidewire_redis_lost_total") == 0
        assert server.metric("tidewire_redis_subscriptions") == 1


def test_the_101_comes_when_redis_has_confirmed(nodes, redis):
    with nodes(1, "--redis", redis.url, "--redis-timeout", "10s") as n:
        n.wait_ready()
        redis.pause()
        with Raw(n.servers[0].port) as c:
            c.send(request("/rooms/wait", c.host))
            c.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                c.sock.recv(1)
            c.sock.settimeout(10)
            redis.resume()
            assert c.response().status == 101
            assert subscribers(redis, "wait") == 1


def test_who_comes_back_while_the_room_is_given_up_misses_nothing(nodes, redis):
    """What passes between the end of the subscription and the new one is nobody's loss."""
    flags = ("--redis-linger", "0", "--redis-timeout", "10s", "--shards", "1")
    with Proxy(redis.port) as slow, nodes(1, "--redis", slow.url, *flags) as n, \
            nodes(1, "--redis", redis.url) as other:
        n.wait_ready()
        other.wait_ready()
        server, far = n.servers[0], other.join(0, "back")
        first = n.join(0, "back")
        first.wait_for(far.say())
        far.wait_for(first.say())
        slow.delay_s = 0.3
        first.close()
        assert until(lambda: server.metric("tidewire_redis_subscriptions_confirmed") == 0)
        again = []
        coming = threading.Thread(target=lambda: again.append(n.join(0, "back")))
        coming.start()
        assert until(lambda: subscribers(redis, "back") == 1)
        missed = [far.say() for _ in range(5)]
        coming.join(10)
        slow.delay_s = 0
        again[0].wait_for(far.say())
        far.wait_for(again[0].say())
        assert not set(missed) & set(again[0].got)
        assert subscribers(redis, "back") == 2
        assert server.metric("tidewire_redis_lost_total") == 0, redis_metrics(server)


# Messages that are none of ours -------------------------------------------------------------------

def test_foreign_messages_are_counted_and_skipped(nodes, redis):
    with nodes(1, "--redis", redis.url) as n:
        n.wait_ready()
        m = n.join(0, "f")
        head = b"\xf7\x01\x02\x00" + b"N" * 8 + b"\x01\0\0\0" + b"\x01\0\0\0"
        bad = {"no_header": (b"hello", b"", b"{}"), "version": (b"\xf7\x02" + head[2:], b"\xf7"),
               "broken": (head[:19], head[:2] + b"\x22" + head[3:], head[:2] + b"\x03" + head[3:],
                          head[:16] + bytes(4), head[:2] + b"\x12" + head[3:] + b"abc"),
               "too_big": (head + b"x" * 65537,)}
        for payloads in bad.values():
            for payload in payloads:
                redis.call("PUBLISH", channel("f"), payload)
        redis.call("PUBLISH", channel("f"), head + b"from another implementation")
        m.wait_for(b"from another implementation")
        assert m.got == [b"from another implementation"]
        for reason, payloads in bad.items():
            assert until(lambda r=reason, k=len(payloads): n.servers[0].metric(
                "tidewire_redis_foreign_total", reason=r) == k), reason


def test_gaps_and_repeats_are_counted_and_logged(nodes, redis):
    with nodes(1, "--redis", redis.url) as n:
        n.wait_ready()
        m, server = n.join(0, "g"), n.servers[0]
        for seq, epoch in ((5, 1), (6, 1), (6, 1), (4, 1), (10, 1), (2, 2), (9, 1), (3, 2)):
            redis.call("PUBLISH", channel("g"), message_of_n(seq, epoch))
        m.wait_for(b"2/3")
        assert m.got == [b"1/5", b"1/6", b"1/10", b"2/2", b"2/3"]
        assert until(lambda: server.metric("tidewire_redis_repeated_total") == 3)
        assert server.metric("tidewire_redis_gaps_total") == 2
        assert server.metric("tidewire_redis_lost_total") == 4
        gaps, repeats = ([parse_logfmt(line) for line in server.lines if words in line]
                         for words in ("messages of a node did not come", "came twice, or behind"))
        assert [(row["from"], row["missing"]) for row in gaps] == [("4e" * 8, "3"), ("4e" * 8, "1")]
        assert [(row["from"], row["number"]) for row in repeats] == \
            [("4e" * 8, "6"), ("4e" * 8, "4"), ("4e" * 8, "9")]


# Who may ------------------------------------------------------------------------------------------

def test_a_password_and_an_acl_that_is_enough(nodes):
    user = ("node on >pass &tidewire:* -@all +publish +subscribe +unsubscribe +ping "
            "+client|setname +auth +select")
    with RedisServer(users=[user], password="root") as r:
        url = r.url.replace(":root@", "node:pass@")
        with nodes(2, "--redis", f"{url}/2") as n:
            a, b = n.join(0, "acl"), n.join(1, "acl")
            n.begin("acl")
            b.wait_for(a.say())
        assert not any("pass@" in line for s in n.servers for line in s.lines)


def test_a_wrong_password_is_told_and_never_logged(nodes):
    with RedisServer(password="root") as r:
        with nodes(1, "--redis", r.url.replace("root", "hunter2")) as n:
            server = n.servers[0]
            assert until(lambda: server.metric("tidewire_redis_errors_total", error="wrongpass"))
            assert server.get("/health/ready") == (503, "redis is away\n")
            assert server.get("/health")[0] == 200
            m = n.join(0, "alone")
            m.wait_for(m.say())
        assert any("WRONGPASS" in line for line in server.lines)
        assert not any("hunter2" in line for line in server.lines)


def test_channels_that_are_not_allowed_keep_the_node_unready(nodes):
    user = "default on nopass &wrong:* +@all"
    with RedisServer(users=[user]) as r:
        with nodes(1, "--redis", r.url) as n:
            server = n.servers[0]
            assert until(lambda: server.metric("tidewire_redis_errors_total", error="noperm"))
            assert server.get("/health/ready")[0] == 503
            assert any("NOPERM" in line and "remedy=" in line for line in server.lines)
            r.call("ACL", "SETUSER", "default", "resetchannels", "&tidewire:*")
            n.wait_ready()
            m = n.join(0, "now")
            m.wait_for(m.say())
            assert subscribers(r, "now") == 1


def test_rooms_that_redis_refuses_are_told_and_go_on_within_the_node(nodes):
    """Canaries pass, so nothing else would tell it."""
    with RedisServer(users=["default on nopass &tidewire:?canary* &tidewire:a* +@all"]) as r:
        with nodes(1, "--redis", r.url, "--redis-timeout", "200ms") as n:
            n.wait_ready()
            server, allowed, banned = n.servers[0], n.join(0, "allowed"), n.join(0, "banned")
            for m in (allowed, banned):
                m.wait_for(m.say())
            told = [parse_logfmt(line) for line in server.lines if "refuses to subscribe" in line]
            assert "NOPERM" in told[0]["error"] and "ACL SETUSER" in told[0]["remedy"]
            assert until(lambda: server.metric("tidewire_redis_joined_alone_total") == 1)
            assert server.metric("tidewire_redis_local_only_total") == 1
            assert server.metric("tidewire_redis_subscriptions_confirmed") == 1
            assert server.metric("tidewire_redis_errors_total", error="noperm") > 0
            assert server.metric("tidewire_redis_queue_bytes") == 0
            assert server.get("/health/ready")[0] == 200
            r.call("ACL", "SETUSER", "default", "&tidewire:b*")
            assert until(lambda: subscribers(r, "banned") == 1)
            assert until(lambda: server.metric("tidewire_redis_subscriptions_confirmed") == 2)
            banned.wait_for(banned.say())
            assert server.metric("tidewire_redis_local_only_total") == 1


def test_rooms_that_are_allowed_come_back_beside_one_that_is_not(nodes):
    """After a restart they are asked for together."""
    with RedisServer(users=["default on nopass &tidewire:?canary* &tidewire:a* +@all"]) as r:
        with nodes(1, "--redis", r.url, "--redis-timeout", "200ms") as n:
            n.wait_ready()
            server = n.servers[0]
            members = [n.join(0, room) for room in ("a1", "banned", "a2", "a3", "a4", "a5", "a6")]
            r.kill()
            assert until(lambda: server.metric("tidewire_redis_pairs_up") == 0)
            r.start()
            n.wait_ready()
            confirmed = "tidewire_redis_subscriptions_confirmed"
            assert until(lambda: server.metric(confirmed) == 6), redis_metrics(server)
            for m in members:
                m.wait_for(m.say())
            assert server.metric("tidewire_redis_local_only_total") == 1


# Flags --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("url,says", (
    ("http://localhost", "redis://"),
    ("redis://:secret@", "the host must be"),
    ("redis+sentinel://:secret@localhost", "stands /MASTER"),
    ("redis+sentinel://localhost/m?sentinel=secret", "USER:PASSWORD"),
    ("redis+cluster://localhost/1", "databases"),
))
def test_a_url_that_is_not_right_is_refused(url, says):
    done = subprocess.run([binary(), "serve", "--redis", url], capture_output=True, text=True,
                          timeout=10)
    assert done.returncode == 2
    assert says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert "secret" not in done.stderr


def print_config(*flags, **env):
    done = subprocess.run([binary(), "serve", "--print-config", *flags], capture_output=True,
                          text=True, timeout=10, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return [line.split(" ; ")[0].split(" = ")[1].strip() for line in done.stdout.splitlines()
            if line.startswith("redis = ")]


def test_passwords_are_printed_nowhere(tmp_path):
    sentinel = "redis+sentinel://:secret@a,b/m?sentinel=s:secret"
    assert print_config("--redis", "redis://u:secret@h", "--redis", sentinel) == \
        ["redis://u:***@h", "redis+sentinel://:***@a,b/m?sentinel=s:***"]
    for url in (f"redis://:secret{'x' * 165}@h", f"redis://u:secret{'x' * 165}"):
        (tmp_path / "conf").write_text(f"redis = {url}\n")
        for how, env in ((("serve", "--redis", url), {}), (("serve",), {"TIDEWIRE_REDIS": url}),
                         (("check-config", tmp_path / "conf"), {})):
            done = subprocess.run([binary(), *how], capture_output=True, text=True, timeout=10,
                                  env={**os.environ, **env})
            assert done.returncode == 2, (how, done.stdout)
            assert "redis" in done.stderr and "secret" not in done.stderr, done.stderr


def test_the_environment_takes_several_urls_with_commas_in_them():
    urls = "redis+sentinel://redis-1,redis-2:26380/m, redis://h ,unix:/run/r.sock"
    assert print_config(TIDEWIRE_REDIS=urls) == \
        ["redis+sentinel://redis-1,redis-2:26380/m", "redis://h", "unix:/run/r.sock"]


def test_a_prefix_can_not_be_the_beginning_of_another():
    for prefix in ("a", "a:b:", "a:b"):
        done = subprocess.run([binary(), "serve", "--redis-prefix", prefix], capture_output=True,
                              text=True, timeout=10)
        assert done.returncode == 2 and "colon" in done.stderr, done.stderr


def test_nothing_of_it_runs_without_the_flag(server):
    assert not redis_metrics(server)
    assert not any(k.startswith("tidewire_redis") for k in server.metrics())


def test_version_names_the_engine():
    text = subprocess.run([binary(), "version"], capture_output=True, text=True, check=True).stdout
    assert "hiredis" in text and "nettle" in text and "redis" in text.split("engines:")[1]
