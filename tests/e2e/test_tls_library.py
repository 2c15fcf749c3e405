# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A wolfSSL that does not give what a handshake's keys are taken over by: the server does not start
with it, takes no certificates by it, and where it fails later, closes the connection and counts it.
There is no such library at hand: tests/preload/other_wolfssl.c stands in for it."""

import os
import signal
import ssl
from pathlib import Path

import pytest

from harness import ROOT
from probe import run, until
from test_tls import FAILURES, connect, get, only
from wire import Raw

SELF_TEST = 6  # keys that it takes over for each certificate: of two versions with three AEADs
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def other(what, after=0):
    path = Path(os.environ.get("TW_BUILD", ROOT / "build" / "test")) / "tests" / "other_wolfssl.so"
    assert path.exists(), f"{path} is missing: build the tests first, or set TW_BUILD"
    return {"LD_PRELOAD": str(path), "OTHER_WOLFSSL": what, "OTHER_WOLFSSL_AFTER": str(after)}


@pytest.mark.parametrize("what,problem", (
    ("other_key_1.3", "with {}, TLS13-AES128-GCM-SHA256: keys can't be taken over"),
    ("other_key_1.2", "with {}, ECDHE-ECDSA-AES128-GCM-SHA256: the keys taken over are not those in use"),
    ("no_key", "with {}, TLS13-AES128-GCM-SHA256: keys can't be taken over"),
    ("no_secrets", "with {}, TLS13-AES128-GCM-SHA256: keys can't be taken over")))
def test_the_server_does_not_start_with_it_and_says_why(certs, what, problem):
    code, _, err = run("serve", "--port", "0", "--admin-address", "off", "--tls-port", "0",
                       *certs.ecdsa.flags(), env=other(what))
    assert code == 8 and err.count("\n") == 1, err
    assert err.startswith("tidewire: self-test of TLS " + problem.format(certs.ecdsa.cert)), err
    assert "install the libwolfssl that this program was built for (here runs " in err


@pytest.mark.parametrize("version,what", (("1.3", "other_key_1.3"), ("1.3", "no_key"),
                                          ("1.2", "no_key")))
def test_keys_that_are_refused_end_the_connection(new_server, certs, version, what):
    """After the start, so that the self-test has found nothing."""
    s = new_server("--tls-port", "0", "--drain-time", "0", *certs.ecdsa.flags(),
                   env=other(what, SELF_TEST))
    for count in (1, 2):
        with pytest.raises((ssl.SSLError, ConnectionError, IndexError)):
            get(connect(s, only(certs, VERSIONS[version])), "/nowhere")
        until(lambda: s.metric(FAILURES, reason="export_refused"), count)
    assert s.metric(FAILURES) == 2
    assert s.metric("tidewire_connections_closed_total", reason="tls_handshake") == 2
    assert s.metric("tidewire_tls_handshakes_total") == 0
    until(lambda: s.metric("tidewire_tls_connections"), 0)
    with Raw(s.port) as c:
        assert c.ask(b"GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n").status == 404


def test_new_certificates_are_not_taken_by_it(new_server, certs):
    s = new_server("--tls-port", "0", "--drain-time", "0", *certs.ecdsa.flags(),
                   env=other("other_key_1.3", SELF_TEST))
    s.process.send_signal(signal.SIGHUP)
    until(lambda: s.metric("tidewire_tls_reloads_total", result="refused"), 1)
    until(lambda: any("certificates not reloaded" in line and "keys can't be taken over" in line
                      for line in s.lines), True)
    assert get(connect(s, only(certs, VERSIONS["1.2"])), "/nowhere") == 404
