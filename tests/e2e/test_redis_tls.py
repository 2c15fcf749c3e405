# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Rooms over nodes that reach Redis by TLS: messages, certificates of both sides, ports of the wrong
kind, restarts, reloads, Sentinels and a cluster; and what is never sent in the clear."""

import contextlib
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from certs import Authority
from harness import Server, binary, parse_logfmt
from nodes import Nodes, chatter, redis_metrics
from peers import until
from redis_servers import Cluster, RedisServer, RedisTls, Sentinels
from wire import BINARY, Client, frame

HOSTS = ("localhost", "127.0.0.1")
FAILOVER_S = 15.0


@pytest.fixture(scope="module")
def redis_pair(certs):
    return certs.authority.pair("redis", hosts=HOSTS)


@pytest.fixture(scope="module")
def other(certs):
    return Authority(certs.folder, "other")


@pytest.fixture
def tls(certs, redis_pair):
    return RedisTls(certs.authority, redis_pair)


def flags(redis, ca):
    return "--redis", redis.url, "--redis-ca", ca


def details(server, reason):
    """What the log says of connections that failed for that reason."""
    return [row["detail"] for row in map(parse_logfmt, server.lines) if row.get("reason") == reason]


def downs(server, reason):
    return server.metric("tidewire_redis_downs_total", reason=reason)


def connections(server):
    """Handshakes of TLS, and connections that came to be used."""
    m = server.metrics()
    return tuple(sum(v for k, v in m.items() if k.startswith(f"tidewire_redis_{name}_total"))
                 for name in ("tls_handshakes", "connects"))


def expect_problem(backend, words, *server_flags, reason="tls"):
    """A node that does not come to be ready, says why, and lets its own members talk."""
    server = Server(backend, "--shards", "2", "--drain-time", "0", *server_flags)
    try:
        assert until(lambda: any(words in d for d in details(server, reason)), 10), server.log()
        assert server.get("/health/ready")[0] == 503
        assert until(lambda: downs(server, reason) > 0, 3), redis_metrics(server)
        assert server.metric("tidewire_redis_connects_total") == 0
        with Client(server.port, "/rooms/r") as a, Client(server.port, "/rooms/r") as b:
            a.send(frame(BINARY, b"within the node"))
            assert b.message() == (BINARY, b"within the node")
    finally:
        server.stop()


# Delivery -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("protocols", ("", "TLSv1.2"))
def test_members_on_two_nodes_see_one_order(backend, certs, redis_pair, protocols):
    with RedisServer(tls=RedisTls(certs.authority, redis_pair, protocols=protocols)) as redis:
        with Nodes(backend, 2, *flags(redis, certs.authority.file), "--max-queue", "16MiB") as n:
            members = [n.join(i % 2, "order") for i in range(4)]
            n.begin("order")
            for i in range(40):
                for m in members:
                    m.say((0, 100, 5000, 60000)[i % 4])
            n.mark("order")
            n.check("order")
            n.check_accounts("order")
            for s in n.servers:
                handshakes, connects = connections(s)
                assert handshakes >= connects >= 4, "2 for each shard, and none without"


def test_without_tls_nothing_of_it_runs(backend):
    with RedisServer() as redis, Nodes(backend, 1, "--redis", redis.url) as n:
        n.wait_ready()
        assert until(lambda: connections(n.servers[0])[1] >= 4, 3)
        assert connections(n.servers[0])[0] == 0


def test_a_restart_under_load_by_tls(backend, certs, tls):
    with RedisServer(tls=tls, password="hunter2") as redis:
        with Nodes(backend, 2, *flags(redis, certs.authority.file)) as n:
            members = [n.join(i % 2, "f") for i in range(4)]
            n.begin("f")
            with chatter(members):
                for _ in range(2):
                    redis.kill()
                    redis.start()
                    n.wait_ready()
            n.mark("f")
            n.check("f")
            n.check_accounts("f")
            assert n.servers[0].metric("tidewire_redis_tls_handshakes_total") >= 12


def test_a_name_is_looked_up_and_sent(backend, certs, tls):
    with RedisServer(tls=tls) as redis:
        url = redis.url.replace("127.0.0.1", "localhost")
        with Nodes(backend, 1, "--redis", url, "--redis-ca", certs.authority.file) as n:
            n.wait_ready()


# Certificates -------------------------------------------------------------------------------------

def test_a_server_of_another_authority_is_refused(backend, tls, other):
    with RedisServer(tls=tls) as redis:
        expect_problem(backend, "signed by no authority in --redis-ca", *flags(redis, other.file))
        expect_problem(backend, "signed by no authority in --redis-ca", "--redis", redis.url)


def test_a_server_of_another_name_is_refused(backend, certs):
    pair = certs.authority.pair("elsewhere", hosts=("redis.example", "127.0.0.9"))
    with RedisServer(tls=RedisTls(certs.authority, pair)) as redis:
        expect_problem(backend, "for another name", *flags(redis, certs.authority.file))


def test_an_expired_certificate_of_redis_is_refused(backend, certs):
    pair = certs.authority.pair("redis-old", hosts=HOSTS, begin=-20, end=-1)
    with RedisServer(tls=RedisTls(certs.authority, pair)) as redis:
        expect_problem(backend, "has expired", *flags(redis, certs.authority.file))


@pytest.mark.parametrize("protocols", ("", "TLSv1.2"))
def test_a_client_certificate_that_is_wanted(backend, certs, redis_pair, other, protocols):
    """Behind the handshake of TLS 1.3 an alert may be lost to a reset: there are two texts."""
    own, foreign = certs.authority.pair("node", kind="rsa"), other.pair("foreign")
    with RedisServer(tls=RedisTls(certs.authority, redis_pair, "yes", protocols)) as redis:
        common = flags(redis, certs.authority.file)
        with Nodes(backend, 1, *common, "--redis-cert", own.cert, "--redis-key", own.key) as n:
            n.wait_ready()
        expect_problem(backend, "--redis-cert", *common)
        expect_problem(backend, "--redis-cert", *common, "--redis-cert", foreign.cert,
                       "--redis-key", foreign.key)


def test_files_that_are_not_right_are_named_at_start(certs):
    own = certs.authority.pair("unused")
    rows = ((("--redis-ca", "/nowhere/ca.pem"), "--redis-ca /nowhere/ca.pem: can't be read"),
            (("--redis-ca", own.key), f"--redis-ca {own.key}: holds no PEM"),
            (("--redis-cert", own.cert, "--redis-key", certs.ecdsa.key),
             f"--redis-key {certs.ecdsa.key}: is not the key"))
    for extra, words in rows:
        done = subprocess.run([binary(), "serve", "--port", "0", "--redis", "rediss://127.0.0.1",
                               *extra], capture_output=True, text=True, timeout=20)
        assert done.returncode == 8, done.stderr
        assert len(done.stderr.splitlines()) == 1 and words in done.stderr, done.stderr


def test_a_reload_reads_the_files_again(backend, certs, tls, other, tmp_path):
    ca = tmp_path / "ca.pem"
    ca.write_text(open(other.file).read())
    with RedisServer(tls=tls) as redis:
        with Nodes(backend, 1, *flags(redis, str(ca))) as n:
            s = n.servers[0]
            assert until(lambda: downs(s, "tls") > 0, 10), s.log()
            ca.write_text(open(certs.authority.file).read())
            s.process.send_signal(signal.SIGHUP)
            n.wait_ready()
            ca.write_text("nothing")
            s.process.send_signal(signal.SIGHUP)
            assert until(lambda: any("certificates not reloaded" in x for x in s.lines), 10)
            assert s.metric("tidewire_config_reloads_total", result="refused") == 1
            redis.kill()
            redis.start()
            assert until(lambda: s.metric("tidewire_redis_pairs_up") == 2, 10), s.log()


def test_the_expiry_of_the_client_certificate_is_told_and_warned_of(backend, certs, redis_pair):
    metric = "tidewire_redis_certificate_expiry_timestamp_seconds"
    own = certs.authority.pair("node-soon", end=3)
    with RedisServer(tls=RedisTls(certs.authority, redis_pair, "yes")) as redis:
        common = flags(redis, certs.authority.file)
        with Nodes(backend, 1, *common, "--redis-cert", own.cert, "--redis-key", own.key) as n:
            s = n.servers[0]
            n.wait_ready()
            assert abs(s.metric(metric) - time.time() - 3 * 86400) < 7200
            warned = [line for line in s.lines if "certificate for Redis expires soon" in line]
            assert len(warned) == 1 and own.cert in warned[0], s.log()
            certs.authority.pair("node-soon", end=40)
            s.process.send_signal(signal.SIGHUP)
            assert until(lambda: s.metric(metric) - time.time() > 39 * 86400, 10)
            assert len([line for line in s.lines if "expires soon" in line]) == 1
        with Nodes(backend, 1, *common) as n:
            assert n.servers[0].metric(metric) == 0


# Ports of the wrong kind --------------------------------------------------------------------------

def test_a_port_without_tls_and_one_with(backend, certs, tls):
    with RedisServer() as plain, RedisServer(tls=tls) as secured:
        expect_problem(backend, "use redis://", "--redis", plain.url.replace("redis:", "rediss:"),
                       "--redis-ca", certs.authority.file, reason="timeout")
        server = Server(backend, "--shards", "1", "--drain-time", "0", "--redis",
                        secured.url.replace("rediss:", "redis:"))
        try:
            said = lambda: details(server, "closed") + details(server, "reset")
            assert until(lambda: any("use rediss://" in d for d in said()), 10), server.log()
        finally:
            server.stop()


class Listener:
    """Notes all bytes that come, as they are; with a context what TLS makes of them, too."""

    def __init__(self, answer=b"", context=None):
        self.answer = answer
        self.context = context
        self.heard = []
        self.plain = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.heard.append(b"")
            self.plain.append(b"")
            threading.Thread(target=self._serve, args=(s, len(self.heard) - 1), daemon=True).start()

    def _serve(self, s, i):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = self.context and self.context.wrap_bio(incoming, outgoing, server_side=True)
        with s, contextlib.suppress(ConnectionError):
            while data := s.recv(65536):
                self.heard[i] += data
                if tls is None:
                    s.sendall(self.answer)
                    continue
                incoming.write(data)
                try:
                    self.plain[i] += tls.read(65536)
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    return
                s.sendall(outgoing.read())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()


@pytest.mark.parametrize("how", ("silent", "error", "untrusted", "trusted"))
def test_passwords_are_never_sent_before_the_handshake_is_through(backend, certs, redis_pair, other,
                                                                  how):
    pair = other.pair("imposter", hosts=HOSTS) if how == "untrusted" else redis_pair
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    with Listener(b"-ERR unknown command\r\n" if how == "error" else b"",
                  context if "trusted" in how else None) as liar:
        s = Server(backend, "--shards", "1", "--drain-time", "0", "--redis-timeout", "200ms",
                   "--redis", f"rediss://alice:hunter2hunter2@127.0.0.1:{liar.port}",
                   "--redis-ca", certs.authority.file)
        try:
            assert until(lambda: len(liar.heard) >= 6, 10), s.log()
        finally:
            s.stop()
        heard = [h for h in liar.heard if h]
        assert len(heard) >= 4
        assert all(h[0] == 22 and b"hunter2" not in h for h in heard)
        if how == "trusted":  # so this test would see it
            assert any(b"hunter2hunter2" in p for p in liar.plain)
        else:
            assert not any(liar.plain)


# Sentinels and clusters ---------------------------------------------------------------------------

def test_sentinels_and_their_master_by_tls(backend, certs, tls):
    with Sentinels(tls=tls, password="hunter2") as sentinels:
        with Nodes(backend, 2, *flags(sentinels, certs.authority.file)) as n:
            members = [n.join(i % 2, "s") for i in range(4)]
            n.begin("s")
            old = sentinels.master()
            with chatter(members):
                old.kill()
                new = sentinels.wait_other_master(old)
                assert until(lambda: new.call("CLIENT", "LIST").count(b"name=tidewire") == 8,
                             FAILOVER_S), n.servers[0].log()
                n.wait_ready()
            n.mark("s")
            n.check("s")
            n.check_accounts("s")


@pytest.mark.parametrize("kind,rest", (("sentinel", "/mymaster"), ("cluster", "")))
def test_who_is_asked_for_masters_is_counted_when_tls_fails(backend, tls, other, kind, rest):
    with RedisServer(tls=tls) as redis:
        url = redis.url.replace("rediss://", f"rediss+{kind}://") + rest
        with Nodes(backend, 1, "--redis", url, "--redis-ca", other.file) as n:
            server = n.servers[0]
            assert until(lambda: downs(server, "tls") > 0, 10), server.log()
            assert server.get("/health/ready")[0] == 503
            pairs = [server.metric(f"tidewire_redis_pairs{s}") for s in ("", "_up")]
            assert pairs == [2, 0]


def test_a_cluster_by_tls(backend, certs, tls):
    with Cluster(tls=tls) as cluster:
        with Nodes(backend, 2, *flags(cluster, certs.authority.file)) as n:
            n.wait_ready()
            for i in range(12):
                a, b = n.join(0, f"room{i}"), n.join(1, f"room{i}")
                b.wait_for(a.say())
            for s in n.servers:
                assert until(lambda s=s: connections(s)[0] >= connections(s)[1] >= 12, 3), \
                    redis_metrics(s)
            a, b = n.of_room("room0")
            target = next(m for m in cluster.masters() if m is not cluster.owner("tidewire:room0"))
            cluster.move("tidewire:room0", target)
            assert until(lambda: target.call("PUBSUB", "SHARDNUMSUB", "tidewire:room0")[1] == 2, 10)
            b.wait_for(a.say())
