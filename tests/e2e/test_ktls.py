# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""TLS whose output the kernel seals (--ktls auto). The kernels that tests run on seldom have the
module, so tests/preload/fake_ktls.c stands in for it, under epoll: what these tests show is what the
server asks of a kernel, not what a kernel does. The last ones ask the kernel that is there."""

import errno
import os
import ssl
import subprocess
from pathlib import Path

import pytest

import wire
from harness import ROOT, Server, binary
from probe import expect_metric, until
from test_tls import Talk, context, get, connect, only, over_tls, slow_member
from wire import BINARY, CLOSE, TEXT, Client, frame, join_all

SUITES_12 = ("ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384",
             "ECDHE-ECDSA-CHACHA20-POLY1305")
SUITES_13 = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
NO_TLS = "can't seal"


def fake(mode=""):
    path = Path(os.environ.get("TW_BUILD", ROOT / "build" / "test")) / "tests" / "fake_ktls.so"
    assert path.exists(), f"{path} is missing: build the tests first, or set TW_BUILD"
    return {"LD_PRELOAD": str(path), "FAKE_KTLS": mode}


def start(certs, *flags, backend="epoll", env=None):
    return Server(backend, "--echo", "--shards", "2", "--drain-time", "0", "--tls-port", "0",
                  "--ktls", "auto", "--page", "on", *certs.ecdsa.flags(), *flags, env=env)


@pytest.fixture(scope="module")
def sealing(certs):
    """A server that the stand-in seals for."""
    server = start(certs, env=fake())
    yield server
    server.stop()


@pytest.fixture
def new(certs):
    servers = []

    def make(*flags, **how):
        servers.append(start(certs, *flags, **how))
        return servers[-1]

    yield make
    for server in servers:
        server.stop()


def metric(server, name, **labels):
    return server.metric("tidewire_" + name, **labels)


# The stand-in -------------------------------------------------------------------------------------

@pytest.mark.parametrize("suite", SUITES_13 + SUITES_12)
def test_every_suite_is_sealed_by_the_kernel(sealing, suite):
    version, flag = ("-tls1_3", "-ciphersuites") if suite in SUITES_13 else ("-tls1_2", "-cipher")
    begun = metric(sealing, "tls_kernel_started_total")
    sealed_here = metric(sealing, "tls_records_sent_total")
    with Talk(sealing, version, flag, suite) as t:
        for i in range(3):
            t.say(b"GET /page.js HTTP/1.1\nHost: localhost\n\n")
            t.until(b"WebSocket", i + 1)
        expect_metric(sealing, "tls_kernel_connections", 1)
        t.say(b"GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n")
        t.end()
    assert t.said.count(b"200 OK") == 4 and b"</html>" in t.said and suite.encode() in t.said
    expect_metric(sealing, "tls_kernel_started_total", begun + 1)
    assert metric(sealing, "tls_records_sent_total") == sealed_here
    expect_metric(sealing, "tls_kernel_connections", 0)


@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2))
def test_messages_of_all_sizes_come_back(sealing, certs, version):
    begun = metric(sealing, "tls_kernel_sent_bytes_total")
    with over_tls(sealing, only(certs, version)) as port, Client(port) as c:
        for size in (0, 1, 125, 126, 1350, 16383, 16384, 16385, 49152, 60000):
            c.echo(BINARY, os.urandom(size))
        expect_metric(sealing, "tls_kernel_connections", 1)
    expect_metric(sealing, "tls_kernel_sent_bytes_total", lambda n: n > begun + 145000)


def test_a_room_of_plain_and_sealed_members_hears_the_same(sealing, certs):
    clients = [Client(sealing.port, "/rooms/ktls")]
    for version in (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2):
        with over_tls(sealing, only(certs, version)) as port:
            clients += [Client(port, "/rooms/ktls") for _ in range(3)]
    join_all(clients)
    for i in range(40):
        said = os.urandom(1 + 997 * i)
        clients[i % len(clients)].send(frame(BINARY, said))
        for c in clients:
            assert c.message() == (BINARY, said)
    for c in clients:
        c.sock.close()


def test_keys_change_both_ways(sealing):
    """K asks for a key of ours too, k does not: s_client opens what follows by the right one."""
    before = metric(sealing, "tls_kernel_rekeys_total", result="ok")
    with Talk(sealing, "-tls1_3") as t:
        for i, command in enumerate((b"K\n", b"k\n", b"K\n", b"K\n")):
            t.say(command)
            t.until(b"KEYUPDATE", i + 1)
            if i < 3:
                t.say(b"GET /page.js HTTP/1.1\nHost: localhost\n\n")
                t.until(b"200 OK", i + 1)
        t.say(b"GET / HTTP/1.1\nHost: localhost\nConnection: close\n\n")
        t.until(b"</html>")
        t.end()
    expect_metric(sealing, "tls_kernel_rekeys_total", before + 3, result="ok")
    assert metric(sealing, "tls_kernel_rekeys_total", result="refused") == 0


@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2))
def test_the_end_is_close_notify(sealing, certs, version):
    with over_tls(sealing, only(certs, version)) as port:
        with Client(port) as c:
            c.echo(TEXT, "before")
            c.send(wire.close_frame(1000))
            assert c.frame().opcode == CLOSE
            assert c.sock.recv(100) == b"" and not c.sock.truncated
        with Client(port) as c:
            c.sock.notify()
            assert c.sock.recv(100) == b"" and not c.sock.truncated


@pytest.mark.parametrize("version", (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2))
def test_a_wrong_record_is_answered_by_its_alert(sealing, certs, version):
    with over_tls(sealing, only(certs, version)) as port, Client(port) as c:
        c.echo(TEXT, "before")
        c.sock.raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
            c.sock.recv(100)


def test_a_slow_reader_gets_everything_in_the_end(new, certs):
    s = new("--tcp-sndbuf", "16KiB", "--max-message", "1MiB", "--max-queue", "8MiB", env=fake())
    slow = slow_member(s, certs, "/rooms/slow")
    said = [os.urandom(300000 + i) for i in range(10)]
    with Client(s.port, "/rooms/slow?echo=0") as c:
        for one in said:
            c.send(frame(BINARY, one))
        until(lambda: metric(s, "queue_bytes"), lambda n: n > 2000000)
    for one in said:
        assert slow.message() == (BINARY, one)
    slow.send(wire.close_frame(1000))
    assert slow.frame().opcode == CLOSE
    assert slow.sock.recv(100) == b"" and not slow.sock.truncated
    slow.sock.close()
    assert metric(s, "tls_kernel_started_total") == 1


def test_the_alert_leaves_behind_a_message_that_has_begun(new, certs):
    s = new("--tcp-sndbuf", "16KiB", "--max-message", "1MiB", env=fake())
    slow = slow_member(s, certs, "/rooms/alert")
    with Client(s.port, "/rooms/alert?echo=0") as c:
        c.send(frame(TEXT, b"x" * 400000))
        until(lambda: metric(s, "queue_bytes"), lambda n: n > 200000)
    slow.sock.raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    expect_metric(s, "tls_record_failures_total", 1, reason="bad_record_mac")
    got = b""
    with pytest.raises(ssl.SSLError, match="(?i)alert"):
        while chunk := slow.sock.recv(65536):
            got += chunk
    assert got.count(b"x") == 400000
    slow.sock.close()


@pytest.mark.parametrize("code,reason", (
    (errno.ENOENT, "no_module"), (errno.EOPNOTSUPP, "unsupported"), (errno.EINVAL, "unsupported"),
    (errno.ENOMEM, "no_memory"), (errno.EBUSY, "socket_state"), (errno.EIO, "other")))
def test_a_refused_key_leaves_the_connection_to_us(new, certs, code, reason):
    s = new(env=fake(f"start:{code}"))
    with over_tls(s, context(certs)) as port, Client(port) as c:
        for size in (1, 20000, 60000):
            c.echo(BINARY, os.urandom(size))
        c.send(wire.close_frame(1000))
        assert c.frame().opcode == CLOSE
        assert c.sock.recv(100) == b"" and not c.sock.truncated
    expect_metric(s, "tls_kernel_fallbacks_total", 1, reason=reason)
    assert metric(s, "tls_kernel_fallbacks_total") == 1
    assert metric(s, "tls_kernel_started_total") == metric(s, "tls_kernel_connections") == 0


def test_a_refused_next_key_ends_the_connection(new):
    s = new(env=fake(f"rekey:{errno.ENOMEM}"))
    with Talk(s, "-tls1_3") as t:
        t.say(b"GET / HTTP/1.1\nHost: localhost\n\n")
        t.until(b"</html>")
        t.say(b"K\n")
        t.until(b"KEYUPDATE")
        t.say(b"GET / HTTP/1.1\nHost: localhost\n\n")
        t.end()
    assert t.said.count(b"</html>") == 1
    expect_metric(s, "tls_kernel_rekeys_total", 1, result="refused")
    expect_metric(s, "connections_closed_total", 1, reason="send_error")
    expect_metric(s, "tls_kernel_connections", 0)


def test_a_kernel_that_can_not_change_keys_gets_none_of_1_3(new, certs):
    s = new(env=fake("no_rekey"))
    assert any("changes_keys=false" in line for line in s.lines)
    for version, started in ((ssl.TLSVersion.TLSv1_3, 0), (ssl.TLSVersion.TLSv1_2, 1)):
        with over_tls(s, only(certs, version)) as port, Client(port) as c:
            c.echo(TEXT, "hello")
        expect_metric(s, "tls_kernel_started_total", started)
        expect_metric(s, "tls_kernel_fallbacks_total", 1, reason="suite")


def test_who_asks_but_once_is_answered_by_us(sealing, certs):
    before = metric(sealing, "tls_kernel_started_total"), metric(sealing, "tls_records_sent_total")
    assert get(connect(sealing, context(certs))) == 200
    expect_metric(sealing, "tls_records_sent_total", lambda n: n > before[1])
    assert metric(sealing, "tls_kernel_started_total") == before[0]


def test_who_wants_short_records_gets_them_from_us(sealing):
    before = metric(sealing, "tls_kernel_fallbacks_total", reason="short_records")
    with Talk(sealing, "-tls1_2", "-maxfraglen", "512") as t:
        t.say(b"GET /page.js HTTP/1.1\nHost: localhost\nConnection: close\n\n")
        t.end()
    assert b"200 OK" in t.said
    expect_metric(sealing, "tls_kernel_fallbacks_total", before + 1, reason="short_records")


# The kernel that is there -------------------------------------------------------------------------

def version_line(env=None):
    said = subprocess.run([binary(), "version"], text=True, capture_output=True, timeout=20,
                          env={**os.environ, **(env or {})}).stdout
    return next(line for line in said.splitlines() if line.startswith("kernel TLS:"))


def has_ktls():
    return "not on this host" not in version_line()


def test_version_tells_what_the_kernel_has():
    assert "1.2 AES-128-GCM" in version_line(fake()) and "changes keys" in version_line(fake())
    assert "1.3 is not used" in version_line(fake("no_rekey"))
    assert has_ktls() or "no \"tls\" module" in version_line() or "4.13" in version_line()


def test_a_ring_that_knows_no_options_of_sockets_is_told_of_and_not_asked(new, certs):
    assert "by epoll only" in version_line(fake("old_ring")) and "6.8" in version_line(fake("old_ring"))
    assert "by epoll only" not in version_line(fake())
    s = new(backend="uring", env=fake("old_ring"))
    said = [line for line in s.lines if "--ktls auto" in line]
    assert len(said) == 1 and "warn" in said[0].lower() and "6.8" in said[0] and "epoll" in said[0]
    with over_tls(s, context(certs)) as port, Client(port) as c:
        for size in (1, 20000, 60000):
            c.echo(BINARY, os.urandom(size))
        c.send(wire.close_frame(1000))
        assert c.frame().opcode == CLOSE
    expect_metric(s, "tls_connections", 0)
    assert metric(s, "tls_kernel_started_total") == metric(s, "tls_kernel_fallbacks_total") == 0


def test_auto_works_on_any_kernel(new, certs, backend):
    """Where the kernel has TLS, this is the one test that it takes part in."""
    s = new(backend=backend)
    assert any(NO_TLS in line for line in s.lines) == (not has_ktls())
    with over_tls(s, context(certs)) as port, Client(port) as c:
        for size in (1, 20000, 60000):
            c.echo(BINARY, os.urandom(size))
    if not has_ktls():
        assert metric(s, "tls_kernel_fallbacks_total") == 0, "nobody has asked the kernel"


def test_sockets_of_io_uring_ask_the_kernel_and_go_on_without_it(new, certs):
    """The stand-in answers the probe alone: the ring's requests reach the kernel."""
    s = new(backend="uring", env=fake())
    with over_tls(s, context(certs)) as port, Client(port) as c:
        for size in (1, 20000, 60000):
            c.echo(BINARY, os.urandom(size))
        c.send(wire.close_frame(1000))
        assert c.frame().opcode == CLOSE
        assert c.sock.recv(100) == b"" and not c.sock.truncated
    until(lambda: metric(s, "tls_kernel_fallbacks_total") + metric(s, "tls_kernel_started_total"), 1)
    assert metric(s, "tls_kernel_started_total") == int(has_ktls())


def test_it_is_off_unless_it_is_asked_for(certs):
    server = Server("epoll", "--tls-port", "0", "--shards", "1", "--drain-time", "0",
                    *certs.ecdsa.flags(), env=fake())
    try:
        get(connect(server, context(certs)))
        assert not any("ktls" in line for line in server.lines)
        assert metric(server, "tls_kernel_started_total") == 0
        assert metric(server, "tls_kernel_fallbacks_total") == 0
    finally:
        server.stop()


def test_without_a_tls_port_it_is_refused():
    done = subprocess.run([binary(), "serve", "--port", "0", "--ktls", "auto"], text=True,
                          capture_output=True, timeout=20)
    assert done.returncode != 0 and "ktls" in done.stderr and "tls-port" in done.stderr
