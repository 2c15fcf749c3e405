# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""TLS with the clients that people use: python3-websockets, Node, Chromium, curl, gnutls-cli, OpenSSL's
s_client, by either kind of certificate, by tickets and with certificates of their own; and what an
idle TLS connection costs."""

import asyncio
import json
import os
import ssl
import subprocess
import time

import pytest
import websockets
from cryptography.hazmat.primitives import serialization

from certs import Authority
from figures import pool_bytes
from lockstep import idle
from probe import expect_metric, private_dirty, until
from test_clients import BROWSER_TALK, NODE_DIR, node_modules  # noqa: F401 (a fixture)

BYTES_MAX = 640
FEW, MANY = 100, 3000
QUIET_S = 1.3


def trusting(certs):
    return ssl.create_default_context(cafile=certs.authority.file)


def test_python_websockets_talk_over_tls(tls_server, certs):
    url = f"wss://localhost:{tls_server.tls_port}/rooms/python"

    async def talk():
        how = {"ssl": trusting(certs), "host": "127.0.0.1", "compression": None,
               "server_hostname": "localhost"}
        async with websockets.connect(url, **how) as a, websockets.connect(url, **how) as b:
            await b.send("I am here")
            assert await b.recv() == "I am here"
            await a.send("me too")
            while await a.recv() != "me too":
                pass
            assert await b.recv() == "me too"
            for message in ("Grüße", b"\x00\x01\xfe\xff", "", "x" * 60000):
                await a.send(message)
                assert await a.recv() == message
                assert await b.recv() == message
            await (await a.ping(b"payload"))
            await b.close(4001, "done")
            assert b.close_code == 4001

    asyncio.run(asyncio.wait_for(talk(), 30))


def test_node_ws_clients_talk_over_tls(tls_server, certs, node_modules):  # noqa: F811
    url = f"wss://localhost:{tls_server.tls_port}/rooms/node"
    done = subprocess.run(["node", "--dns-result-order=ipv4first", str(NODE_DIR / "talk.js"), url, "off"],
                          text=True, timeout=60, capture_output=True,
                          env={**os.environ, "NODE_MODULES": str(node_modules),
                               "NODE_EXTRA_CA_CERTS": certs.authority.file})
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["same"] and said["long"] == len("text:") + 60000
    assert said["short"] == ["text:Grüße", "binary:0001feff", "text:", "text:fragmented"]
    assert (said["pong"], said["code"]) == ("payload", 4001)


def test_chromium_talks_in_a_room_and_on_the_page(tls_server, browser):
    tab = browser.open(f"https://localhost:{tls_server.tls_port}/?room=secure")
    tab.wait("connected", lambda t: t.run(
        "return document.getElementById('connection').dataset.state") == "open")
    said = tab.run_async(BROWSER_TALK.replace("ws://", "wss://"))
    assert isinstance(said, dict), said
    assert said["short"] == ["text:Grüße", "binary:0,1,254,255", "text:"]
    assert said["long"] == len("text:") + 60000
    assert (said["code"], said["clean"]) == (4001, True)


@pytest.mark.parametrize("flags", (["--tlsv1.3"], ["--tls-max", "1.2"], ["--http1.1"],
                                   ["--tlsv1.3", "--tls13-ciphers", "TLS_CHACHA20_POLY1305_SHA256"]))
def test_curl_gets_the_page(tls_server, certs, flags):
    done = subprocess.run(["curl", "-sS", "--max-time", "20", "--cacert", certs.authority.file,
                           "--resolve", f"localhost:{tls_server.tls_port}:127.0.0.1", *flags,
                           f"https://localhost:{tls_server.tls_port}/page.js"],
                          text=True, capture_output=True, timeout=30)
    assert done.returncode == 0 and "WebSocket" in done.stdout, done.stderr


@pytest.mark.parametrize("version", ("1.2", "1.3"))
def test_gnutls_resumes(tls_server, certs, version):
    done = subprocess.run(["gnutls-cli", "--x509cafile", certs.authority.file, "--sni-hostname",
                           "localhost", "--verify-hostname", "localhost", "--resume",
                           "--waitresumption", "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}",
                           "--port", str(tls_server.tls_port), "127.0.0.1"],
                          input="GET / HTTP/1.0\r\n\r\n", text=True, capture_output=True, timeout=30)
    assert done.returncode == 0 and "*** This is a resumed session" in done.stdout, done.stdout
    assert "- Handshake was completed" in done.stdout


# Either kind of certificate, tickets, certificates of clients -------------------------------------

HANDSHAKES = "tidewire_tls_handshakes_total"
GET = "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
VERSIONS = ("1.2", "1.3")


def ask(argv, send=""):
    return subprocess.run([str(a) for a in argv], input=send, text=True, capture_output=True,
                          timeout=30)


def by_curl(port, ca, version, own):
    done = ask(["curl", "-sS", "--max-time", "20", "--cacert", ca, "--resolve",
                f"localhost:{port}:127.0.0.1", f"--tlsv{version}", "--tls-max", version, "-o",
                "/dev/null", "-w", "%{http_code}", f"https://localhost:{port}/nowhere",
                *(("--cert", own.cert, "--key", own.key) if own else ())])
    return done.stdout == "404"


def by_gnutls(port, ca, version, own):
    done = ask(["gnutls-cli", "--x509cafile", ca, "--sni-hostname", "localhost", "--verify-hostname",
                "localhost", "--priority", f"NORMAL:-VERS-ALL:+VERS-TLS{version}", "--port", port,
                *(("--x509certfile", own.cert, "--x509keyfile", own.key) if own else ()),
                "127.0.0.1"], GET)
    return "HTTP/1.1 404" in done.stdout


def by_openssl(port, ca, version, own):
    done = ask(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", ca,
                "-verify_return_error", "-tls" + version.replace(".", "_"), "-ign_eof",
                *(("-cert", own.cert, "-key", own.key, "-cert_chain", own.chain) if own else ())],
               GET)
    return "HTTP/1.1 404" in done.stdout


def by_node(port, ca, version, own):
    done = ask(["node", NODE_DIR / "resume.js", port, ca, f"TLSv{version}", 1,
                *((own.cert, own.key) if own else ())])
    return done.returncode == 0 and json.loads(done.stdout)[0]["status"] == 404


def by_websockets(port, ca, version, own):
    ctx = ssl.create_default_context(cafile=ca)
    ctx.minimum_version = ctx.maximum_version = ssl.TLSVersion["TLSv" + version.replace(".", "_")]
    if own:
        ctx.load_cert_chain(own.cert, own.key)

    async def talk():
        async with websockets.connect(f"wss://localhost:{port}/rooms/own", ssl=ctx, host="127.0.0.1",
                                      server_hostname="localhost") as c:
            await c.send("by my own certificate")
            return await c.recv() == "by my own certificate"

    try:
        return asyncio.run(asyncio.wait_for(talk(), 30))
    except (ssl.SSLError, OSError, EOFError, websockets.exceptions.WebSocketException):
        return False


CLIENTS = {"curl": by_curl, "gnutls": by_gnutls, "openssl": by_openssl, "node": by_node,
           "websockets": by_websockets}


@pytest.mark.parametrize("kind", ("ecdsa", "rsa"))
def test_every_client_takes_either_kind_and_shows_its_own(new_server, certs, kind):
    """A server with one certificate, of that kind, that lets in only who shows one of the other
    kind."""
    clients = Authority(certs.folder, f"clients-of-{kind}")
    own = clients.pair(f"own-{kind}", {"ecdsa": "rsa", "rsa": "ecdsa"}[kind])
    own.chain = str(certs.folder / f"chain-{kind}.pem")
    with open(own.chain, "wb") as f:
        f.write(clients.middle.public_bytes(serialization.Encoding.PEM))
    s = new_server("--tls-port", "0", "--drain-time", "0", "--tls-client-ca", clients.file,
                   *getattr(certs, kind).flags())
    ca, refused = certs.authority.file, 0
    for version in VERSIONS:
        for count, (name, client) in enumerate(CLIENTS.items(), 1):
            assert client(s.tls_port, ca, version, own), (name, version, s.log())
            until(lambda: s.metric(HANDSHAKES, version=version, resumed="no"), count)
            assert not client(s.tls_port, ca, version, None), (name, version)
            refused += 1
            until(lambda: s.metric("tidewire_tls_handshake_failures_total",
                                   reason="client_certificate"), refused)


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_and_node_come_back_by_ticket(tls_server, certs, version):
    port, ca = tls_server.tls_port, certs.authority.file
    before = tls_server.metric(HANDSHAKES, version=version, resumed="yes")
    full = tls_server.metric(HANDSHAKES, version=version, resumed="no") + 1  # and Node's first
    done = ask(["node", NODE_DIR / "resume.js", port, ca, f"TLSv{version}", 4])
    said = json.loads(done.stdout)
    assert [one["status"] for one in said] == [404] * 4, done.stderr
    assert [one["resumed"] for one in said] == [False, True, True, True]
    until(lambda: tls_server.metric(HANDSHAKES, version=version, resumed="yes"), before + 3)
    url = f"https://localhost:{port}/nowhere"
    done = ask(["curl", "-sS", "--max-time", "20", "--cacert", ca, "--resolve",
                f"localhost:{port}:127.0.0.1", f"--tlsv{version}", "--tls-max", version, "-H",
                "Connection: close", "-w", "%{http_code} ", url, url, url])
    assert done.stdout.count("404") == 3, done.stderr
    by_curl_too = 2 if version == "1.3" else 0  # it takes no tickets of 1.2 (SSL_OP_NO_TICKET)
    until(lambda: tls_server.metric(HANDSHAKES, version=version, resumed="no"), full + 3 - by_curl_too)
    assert tls_server.metric(HANDSHAKES, version=version, resumed="yes") == before + 3 + by_curl_too


def test_chromium_takes_an_rsa_certificate(new_server, certs, browser):
    s = new_server("--tls-port", "0", "--drain-time", "0", "--page", "on", *certs.rsa.flags())
    tab = browser.open(f"https://localhost:{s.tls_port}/?room=rsa")
    tab.wait("connected", lambda t: t.run(
        "return document.getElementById('connection').dataset.state") == "open")
    assert s.metric(HANDSHAKES) > 0


# Memory -------------------------------------------------------------------------------------------

def test_an_idle_tls_connection_in_a_room_costs_at_most_640_bytes(new_server, certs, record_property):
    """TLS 1.3 with AES-128, as test_memory.py measures plain ones; with what is left of handshakes."""
    s = new_server("--shards", "1", "--drain-time", "0", "--ping-interval", "0", "--tls-port", "0",
                   *certs.ecdsa.flags())
    with idle(s.tls_port, FEW, tls=True):
        s.metrics()
        time.sleep(QUIET_S)
        few = private_dirty(s.process.pid), pool_bytes(s)
        with idle(s.tls_port, MANY - FEW, tls=True):
            expect_metric(s, "members", MANY)
            expect_metric(s, "tls_connections", MANY)
            time.sleep(QUIET_S)
            many = private_dirty(s.process.pid), pool_bytes(s)
    dirty, slots = ((m - f) / (MANY - FEW) for f, m in zip(few, many))
    print(f"{s.backend}: {dirty:.1f} B Private_Dirty, {slots:.1f} B in pools")
    record_property("bytes_per_idle_tls_connection", max(dirty, slots))
    assert max(dirty, slots) <= BYTES_MAX
