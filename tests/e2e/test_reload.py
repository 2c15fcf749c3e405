# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""SIGHUP: settings change under connections that stay; what is wrong changes nothing."""

import signal
import socket
import ssl
import time

import pytest

from harness import parse_logfmt
from probe import expect_ends, expect_metric, is_sanitized, private_dirty, until
from wire import CONT, PING, TEXT, Client, Raw, frame, request

pytestmark = pytest.mark.sanitize

BASE = {"ping-interval": "0", "drain-time": "0", "echo": "on", "shards": "2"}


class Configured:
    """A server whose settings come from a file, and the reloads of it."""

    def __init__(self, new_server, folder, **settings):
        self.file = folder / "tidewire.conf"
        self.done = {"ok": 0, "refused": 0}
        self.write(**settings)
        self.server = new_server("--config", str(self.file))
        self.port = self.server.port

    def write(self, **settings):
        rows = {**BASE, **{k.replace("_", "-"): v for k, v in settings.items()}}
        self.file.write_text("".join(f"{k} = {v}\n" for k, v in rows.items()))

    def reload(self, result="ok", **settings):
        """Returns the lines of the log that it made."""
        before = len(self.server.lines)
        self.write(**settings)
        self.server.process.send_signal(signal.SIGHUP)
        self.done[result] += 1
        expect_metric(self.server, "config_reloads_total", self.done[result], result=result)
        end = "settings reloaded" if result == "ok" else "settings not reloaded"
        return until(lambda: [parse_logfmt(line) for line in self.server.lines[before:]],
                     lambda rows: any(row["msg"].startswith(end) for row in rows))


@pytest.fixture
def configured(new_server, tmp_path):
    return lambda **settings: Configured(new_server, tmp_path, **settings)


def test_connections_that_are_open_follow_new_limits(configured):
    s = configured()
    clients = [Client(s.port) for _ in range(4)]  # on both shards, most likely
    for c in clients:
        c.echo(TEXT, b"before")
    rows = s.reload(max_fragments="2")
    assert {"setting": "max-fragments", "from": "16384", "to": "2"}.items() <= rows[0].items()
    for c in clients:
        c.echo(TEXT, b"after")
        c.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c"))
        c.expect_close(1008)
    expect_ends(s.server, "too_many_fragments", len(clients))
    s.reload(max_fragments="3")
    with Client(s.port) as c:
        c.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c"))
        assert c.message() == (TEXT, b"abc")


def test_heartbeats_can_be_switched_on(configured):
    """Nothing else wakes the shards of an idle server."""
    s = configured()
    with Client(s.port) as c:
        s.reload(ping_interval="200ms")
        assert c.frame().opcode == PING


def test_newcomers_meet_new_limits(configured):
    s = configured()
    foreign = {"Origin": "https://elsewhere.example"}

    def ask():
        with Raw(s.port) as c:
            return c.ask(request("/echo", c.host, foreign)).status

    assert ask() == 403
    s.reload(allow_origin="https://elsewhere.example")
    assert ask() == 101
    s.reload(allow_origin="https://elsewhere.example", message_rate="1/2")
    with Client(s.port) as c:
        c.send(frame(TEXT, b"x") * 3)
        c.message(), c.message()
        c.expect_close(1008)
    s.reload(max_connections_per_ip="1")
    with Client(s.port) as first, Client(s.port) as second:
        second.expect_close(1013)
        first.echo(TEXT, b"still here")
    s.reload()
    assert ask() == 403


def test_networks_of_proxies_are_taken_anew(configured):
    s = configured()
    s.reload(proxy_from="127.0.0.0/8")
    with Raw(s.port) as c:
        c.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n" + request("/echo", c.host))
        assert c.response().status == 101
    s.reload()
    with Client(s.port) as c:
        c.echo(TEXT, b"no header is needed")


def test_a_head_that_has_come_in_part_meets_a_lower_limit(configured):
    s = configured()
    with Raw(s.port) as c:
        head = request("/echo", c.host, {"Cookie": "x" * 6000})
        c.send(head[:4000])
        expect_metric(s.server, "received_bytes_total", lambda n: n >= 4000)
        s.reload(max_head="1KiB")
        c.send(head[4000:])
        assert c.response().status == 431


def test_what_only_a_start_changes_is_told_and_stays(configured):
    s = configured()
    rows = s.reload(max_message="1MiB", redis="redis://:secret@127.0.0.1", pong_misses="3")
    warned = {row["setting"] for row in rows if row["level"] == "warn"}
    changed = {row["setting"] for row in rows if row["msg"] == "setting changed"}
    assert (warned, changed) == ({"max-message", "redis"}, {"pong-misses"})
    assert not any("secret" in line for line in s.server.lines)
    with Client(s.port) as c:
        c.send(frame(TEXT, b"x" * 65537))
        c.expect_close(1009)


@pytest.mark.parametrize("wrong", ({"max_headers": "many"}, {"no_such_setting": "1"},
                                   {"message_rate": "0/5"}))
def test_what_is_wrong_changes_nothing(configured, wrong):
    s = configured(max_fragments="2")
    rows = s.reload("refused", max_fragments="100", **wrong)
    told = next(row for row in rows if row["level"] == "error")
    assert str(s.file) in told["reason"] and next(iter(wrong)).replace("_", "-") in told["reason"]
    with Client(s.port) as c:
        c.echo(TEXT, b"served as before")
        c.send(frame(TEXT, b"a", fin=False) + frame(CONT, b"b", fin=False) + frame(CONT, b"c"))
        c.expect_close(1008)
    s.reload(max_fragments="100")


def test_a_file_that_is_gone_changes_nothing(configured):
    s = configured()
    s.file.unlink()
    s.server.process.send_signal(signal.SIGHUP)
    expect_metric(s.server, "config_reloads_total", 1, result="refused")
    with Client(s.port) as c:
        c.echo(TEXT, b"served as before")


def test_the_log_can_be_made_to_say_more(configured):
    s = configured()

    def ends():
        rows = [parse_logfmt(line) for line in s.server.lines]
        return [row["websocket"] for row in rows if row["msg"] == "connection ended"].count("true")

    Client(s.port).sock.close()
    expect_metric(s.server, "websockets", 0)
    assert ends() == 0
    s.reload(log_level="debug")
    Client(s.port).sock.close()
    until(ends, lambda n: n > 0)


def test_the_drain_follows_the_settings_in_force(configured):
    s = configured(drain_time="60s")
    clients = [Client(s.port) for _ in range(8)]
    s.reload(drain_time="0")
    begin = time.monotonic()
    s.server.terminate()
    for c in clients:
        c.expect_close(1012)
    s.server.stop()
    assert time.monotonic() - begin < 10


def files(pair):
    return {"tls_cert": pair.cert, "tls_key": pair.key}


def test_certificates_of_other_files_are_taken_or_nothing_is(configured, certs, tmp_path):
    s = configured(tls_port="0", **files(certs.ecdsa))
    before = s.server.metric("tidewire_tls_reloads_total", result="ok")
    s.reload(tls_port="0", **files(certs.rsa), max_headers="100")
    assert s.server.metric("tidewire_tls_reloads_total", result="ok") == before + 1
    (tmp_path / "none.pem").write_text("nothing\n")
    rows = {**files(certs.rsa), "tls_cert": str(tmp_path / "none.pem"), "max_headers": "2"}
    s.write(tls_port="0", **rows)
    s.server.process.send_signal(signal.SIGHUP)
    expect_metric(s.server, "config_reloads_total", 1, result="refused")
    with Client(s.port) as c:
        c.echo(TEXT, b"more than two header fields are still allowed")


def handshake(server, certs):
    """Shakes hands twice; whether the second resumed the first's session."""
    context = ssl.create_default_context(cafile=certs.authority.file)
    session = None
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", server.tls_port), 5) as plain, \
                context.wrap_socket(plain, server_hostname="localhost", session=session) as tls:
            tls.sendall(b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            assert tls.recv(12) == b"HTTP/1.1 404"
            session, resumed = tls.session, tls.session_reused
    return resumed


def test_clients_need_certificates_no_longer(configured, certs):
    """And have tickets from then on, which those with certificates are not given."""
    rows = files(certs.ecdsa)
    s = configured(tls_port="0", tls_client_ca=certs.authority.file, **rows)
    with pytest.raises(OSError):
        handshake(s.server, certs)
    s.reload(tls_port="0", **rows)
    assert handshake(s.server, certs)
    s.reload(tls_port="0", tls_client_ca=certs.authority.file, **rows)
    with pytest.raises(OSError):
        handshake(s.server, certs)


def test_ports_of_tls_whose_settings_are_gone_stay_until_a_restart(configured, certs):
    s = configured(tls_port="0", **files(certs.ecdsa))
    rows = s.reload()
    assert [row["setting"] for row in rows if row["level"] == "warn"] == ["tls-port"]
    assert handshake(s.server, certs)


def test_a_rate_that_is_raised_forgets_what_was_used_of_the_lower_one(configured):
    """20 messages at 1 a second are 20 s ahead; at 100 a second a burst of 20 is 0.2 s."""
    s = configured(message_rate="1/20")
    with Client(s.port) as c:
        for _ in range(20):
            c.echo(TEXT, b"x")
        s.reload(message_rate="100/20")
        c.echo(TEXT, b"x")
    s.reload(connect_rate="1/100")
    clients = [Client(s.port) for _ in range(50)]
    s.reload(connect_rate="1000/10")
    with Client(s.port) as c:
        c.echo(TEXT, b"x")
    for c in clients:
        c.sock.close()


def test_limits_that_change_go_with_those_that_stay(configured):
    """A burst that does not hold the longest message would end whoever sends it."""
    s = configured(max_message="1MiB")
    rows = s.reload("refused", max_message="64KiB", byte_rate="1MiB/64KiB")
    assert "byte-rate" in next(row for row in rows if row["level"] == "error")["reason"]


def test_many_reloads_under_load_lose_nothing_and_keep_nothing(configured):
    s = configured()
    clients = [Client(s.port) for _ in range(6)]
    sizes = []
    for i in range(120):
        s.write(ping_interval=f"{300 + i}ms", allow_origin=f"https://{i}.example",
                max_fragments=str(10 + i % 5))
        s.server.process.send_signal(signal.SIGHUP)
        for c in clients:
            payload = f"{i}".encode()
            c.send(frame(TEXT, payload))
            assert until(c.frame, lambda f: f.opcode != PING).payload == payload
        sizes.append(private_dirty(s.server.process.pid))
    expect_metric(s.server, "config_reloads_total", lambda n: 1 <= n <= 120, result="ok")
    assert s.server.metric("tidewire_config_reloads_total", result="refused") == 0
    # Of a sanitizer's memory only what is lost counts, and its own report at the end tells that.
    assert is_sanitized() or max(sizes[100:]) - max(sizes[20:40]) < 256 << 10, sizes
