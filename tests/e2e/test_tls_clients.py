# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""TLS with the clients that people use: python3-websockets, the ws package of Node, Chromium, curl,
gnutls-cli; and what an idle TLS connection costs."""

import asyncio
import json
import os
import ssl
import subprocess
import time

import pytest
import websockets

from figures import pool_bytes
from lockstep import idle
from probe import expect_metric, private_dirty
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
