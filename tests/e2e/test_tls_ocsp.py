# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""OCSP responses from files: to whom they are stapled and to whom not, reload and expiry, which are
refused, and that nothing is left behind by clients that ask. In TLS 1.3 they are stapled only where
the linked wolfSSL does not leak; the server finds out at start and says so."""

import ctypes
import os
import signal
import subprocess
import time

import pytest
from cryptography.hazmat.primitives import serialization

from certs import Authority
from figures import Heap
from probe import is_sanitized, until
from test_tls import FAILURES, client_hello, connect, context, start_refused
from wire import Client, Raw

pytestmark = pytest.mark.sanitize

STAPLES = "tidewire_tls_ocsp_staples_total"
EXPIRY = "tidewire_tls_ocsp_expiry_timestamp_seconds"
SUITES = [0xC02B, 0xC02F]
STATUS = (5, b"\x01\x00\x00\x00\x00")  # RFC 6066 8: an OCSP response, of whatever responder
STATUS_V2 = (17, b"\x00\x07\x02\x00\x04\x00\x00\x00\x00")  # RFC 6961: of the whole chain


def stapled(server, version, *more):
    """The serial number in the response that OpenSSL has asked for; None: there was no response."""
    out = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{server.tls_port}", version,
                          "-status", "-servername", "localhost", *more], input=b"", timeout=30,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout.decode()
    assert "Cipher is TLS" in out or "Cipher is ECDHE" in out, out
    if "OCSP Response Status" not in out:
        return None
    assert "Cert Status: good" in out, out
    return out.split("Serial Number: ")[1].split()[0].lstrip("0").lower()


def serial(pair):
    return f"{pair.certificate.serial_number:x}"


def told(server):
    return [line for line in server.lines if "OCSP responses loaded" in line]


def staples_13(server):
    """What the server has found out about the library that is linked."""
    assert told(server), server.log()
    return "1.2 and 1.3" in told(server)[-1]


@pytest.mark.parametrize("delegated", (False, True), ids=("issuer", "responder"))
def test_a_response_is_stapled_to_its_certificate(new_server, certs, delegated):
    a = certs.authority
    ecdsa, rsa = a.pair("stapled"), a.pair("stapled-rsa", "rsa")
    files = [a.ocsp("stapled-rsa", rsa, delegated=delegated),
             a.ocsp("stapled", ecdsa, delegated=delegated)]  # in any order
    s = new_server("--tls-port", "0", "--drain-time", "0", *ecdsa.flags(), *rsa.flags(),
                   "--tls-ocsp", files[0], "--tls-ocsp", files[1])
    versions = {"-tls1_2": True, "-tls1_3": staples_13(s)}
    for version, is_due in versions.items():
        for signatures, pair in {"ECDSA+SHA256": ecdsa, "RSA-PSS+SHA256:RSA+SHA256": rsa}.items():
            for groups in ("X25519:P-256", "P-521:X25519:P-256"):  # then with a HelloRetryRequest
                found = stapled(s, version, "-sigalgs", signatures, "-groups", groups)
                assert found == (serial(pair) if is_due else None), (version, signatures, groups)
    assert s.metric(STAPLES, version="1.2") == 4
    assert s.metric(STAPLES, version="1.3") == (4 if staples_13(s) else 0)
    connect(s, context(certs)).close()  # who does not ask is not told
    assert s.metric(STAPLES) == (8 if staples_13(s) else 4)
    assert abs(s.metric(EXPIRY) - time.time() - 5 * 86400) < 7200


def flight(server, hello):
    """The handshake messages' types of the answer to a ClientHello of TLS 1.2."""
    types = []
    with Raw(server.tls_port) as c:
        c.send(hello)
        while not types or types[-1] != 14:  # ServerHelloDone
            head = c._take(5)
            body = c._take(int.from_bytes(head[3:], "big"))
            assert head[0] == 22, (head, body)
            while body:
                types.append(body[0])
                body = body[4 + int.from_bytes(body[1:4], "big"):]
    return types


def test_who_asks_in_the_way_of_rfc_6961_as_well_gets_none(new_server, certs):
    pair = certs.authority.pair("asked")
    s = new_server("--tls-port", "0", "--drain-time", "0", *pair.flags(),
                   "--tls-ocsp", certs.authority.ocsp("asked", pair))
    asks = {(): False, (STATUS,): True, (STATUS, STATUS_V2): False, (STATUS_V2, STATUS): False,
            (STATUS_V2,): False, ((5, b"\x02\x00\x00\x00\x00"),): False}
    for more, is_due in asks.items():
        types = flight(s, client_hello(SUITES, more=more))
        assert types == [2, 11, *([22] if is_due else []), 12, 14], more  # 22: CertificateStatus


def test_a_resumed_handshake_has_none(new_server, certs, tmp_path):
    pair = certs.authority.pair("resumed")
    s = new_server("--tls-port", "0", "--drain-time", "0", *pair.flags(),
                   "--tls-ocsp", certs.authority.ocsp("resumed", pair))
    session = str(tmp_path / "session")
    assert stapled(s, "-tls1_2", "-sess_out", session) == serial(pair)
    assert stapled(s, "-tls1_2", "-sess_in", session) is None
    assert s.metric("tidewire_tls_handshakes_total", version="1.2", resumed="yes") == 1
    assert s.metric(STAPLES) == 1


def test_sighup_takes_a_new_response(new_server, certs):
    a = certs.authority
    pair, other = a.pair("renewed"), a.pair("other-renewed")
    file = a.ocsp("renewed", pair, end=0.5)
    s = new_server("--tls-port", "0", "--drain-time", "0", *pair.flags(), "--tls-ocsp", file)
    assert any("level=warn" in line and "OCSP response expires soon" in line for line in s.lines)
    a.ocsp("renewed", pair, end=9)
    s.process.send_signal(signal.SIGHUP)
    until(lambda: abs(s.metric(EXPIRY) - time.time() - 9 * 86400) < 7200, True)
    expiry = s.metric(EXPIRY)
    a.ocsp("renewed", other)  # of another certificate: what there is stays
    s.process.send_signal(signal.SIGHUP)
    until(lambda: s.metric("tidewire_tls_reloads_total", result="refused"), 1)
    assert s.metric(EXPIRY) == expiry
    assert stapled(s, "-tls1_2") == serial(pair)


def children(server):
    """Page faults of the server's children that have ended: 0 as long as it had none."""
    with open(f"/proc/{server.process.pid}/stat", encoding="ascii") as f:
        return int(f.read().rpartition(")")[2].split()[8])


def test_a_first_response_by_sighup_makes_no_child(new_server, certs, tmp_path):
    """A child has duplicates of the shards' sockets, which then are not closed when they are."""
    pair, conf = certs.authority.pair("first"), tmp_path / "first.conf"
    rows = [f"tls-cert = {pair.cert}", f"tls-key = {pair.key}", "tls-port = 0"]
    conf.write_text("\n".join(rows) + "\n")
    s = new_server("--drain-time", "0", "--config", str(conf))
    assert children(s) == 0
    rows.append(f"tls-ocsp = {certs.authority.ocsp('first', pair)}")
    conf.write_text("\n".join(rows) + "\n")
    for count in (1, 2):
        s.process.send_signal(signal.SIGHUP)
        until(lambda: len(told(s)), count)
        assert "found out by a restart" in told(s)[-1], s.log()
    assert children(s) == 0
    assert stapled(s, "-tls1_2") == serial(pair)
    assert stapled(s, "-tls1_3") is None


def test_without_an_answer_the_library_is_not_blamed(new_server, certs):
    """With SIGCHLD ignored nobody can wait for a child."""
    pair = certs.authority.pair("unwaited")
    s = new_server("--tls-port", "0", "--drain-time", "0", *pair.flags(),
                   "--tls-ocsp", certs.authority.ocsp("unwaited", pair),
                   prefix=("env", "--ignore-signal=CHLD"))
    assert any("could not find out" in line for line in s.lines), s.log()
    assert stapled(s, "-tls1_2") == serial(pair)
    assert stapled(s, "-tls1_3") is None


def test_an_answer_from_the_start_holds_after_sighup(new_server, certs):
    pair = certs.authority.pair("held")
    s = new_server("--tls-port", "0", "--drain-time", "0", *pair.flags(),
                   "--tls-ocsp", certs.authority.ocsp("held", pair))
    found, faults = staples_13(s), children(s)
    assert faults > 0
    s.process.send_signal(signal.SIGHUP)
    until(lambda: len(told(s)), 2)
    assert staples_13(s) == found and children(s) == faults
    assert not any("found out by a restart" in line for line in s.lines)


def test_each_response_that_expires_soon_is_warned_of(new_server, certs):
    a = certs.authority
    pairs = {name: a.pair(name) for name in ("soon", "sooner", "late")}
    ends = {"soon": 0.5, "sooner": 0.2, "late": 5}
    flags = [flag for name, pair in pairs.items()
             for flag in (*pair.flags(), "--tls-ocsp", a.ocsp(name, pair, end=ends[name]))]
    s = new_server("--tls-port", "0", "--drain-time", "0", *flags)
    warned = [line.rpartition("file=")[2].split(".ocsp")[0].rpartition("/")[2]
              for line in s.lines if "OCSP response expires soon" in line]
    assert sorted(warned) == ["soon", "sooner"], s.log()


def test_a_chain_is_read_once(new_server, certs):
    """Both contexts of a certificate are of one reading, whenever its file is renewed."""
    pair = certs.authority.pair("once-read")
    libc, event_bytes = ctypes.CDLL(None), 16
    in_open, in_close = 0x20, 0x10
    fd = libc.inotify_init1(os.O_NONBLOCK)
    flags = [*pair.flags(), "--tls-ocsp", certs.authority.ocsp("once-read", pair)]
    try:
        assert libc.inotify_add_watch(fd, os.fsencode(pair.cert), in_open | in_close) >= 0
        s = new_server("--tls-port", "0", "--drain-time", "0", *flags)
        assert len(os.read(fd, 4096)) == 2 * event_bytes  # opened and closed
    finally:
        os.close(fd)
    assert stapled(s, "-tls1_2") == serial(pair)


def test_a_response_stops_being_stapled_when_it_expires(new_server, certs):
    a = certs.authority
    pair = a.pair("short")
    file = a.ocsp("short", pair, end=5 / 86400)
    s = new_server("--tls-port", "0", "--drain-time", "0", *pair.flags(), "--tls-ocsp", file)
    expiry = s.metric(EXPIRY)
    assert stapled(s, "-tls1_2") or time.time() > expiry
    until(lambda: (stapled(s, "-tls1_2"), stapled(s, "-tls1_3")), (None, None), 15)
    assert time.time() >= expiry
    with Client(s.port, "/rooms/a"):
        pass


def test_responses_that_are_not_right_are_refused(certs):
    a, stranger = certs.authority, Authority(certs.folder, "forger")
    pair, other = a.pair("answered"), a.pair("unanswered")
    lone = a.pair("lone")
    with open(lone.cert, encoding="ascii") as f:
        leaf = f.read().split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    with open(lone.cert, "w", encoding="ascii") as f:
        f.write(leaf)
    refused = {
        a.ocsp("late", pair, begin=-9, end=-2): "has expired",
        a.ocsp("early", pair, begin=2, end=9): "valid now",
        a.ocsp("foreign", other): "speaks of none of the certificates",
        a.ocsp("forged", pair, signer=stranger): "is not signed by who has issued",
        a.ocsp("forged-too", pair, signer=stranger, delegated=True): "is not signed by who",
        a.ocsp("revoked", pair, revoked=True): "is revoked or unknown",
        pair.cert: "is no OCSP response in DER",
        "/nowhere/at.all": "No such file",
    }
    for file, words in refused.items():
        code, err = start_refused(*pair.flags(), "--tls-ocsp", file)
        assert code == 8 and file in err and words in err, err
    code, err = start_refused(*lone.flags(), "--tls-ocsp", a.ocsp("lone", lone))
    assert code == 8 and "issuer" in err, err
    twice = a.ocsp("twice", pair), a.ocsp("once", pair)
    code, err = start_refused(*pair.flags(), "--tls-ocsp", twice[0], "--tls-ocsp", twice[1])
    assert code == 8 and "for the same certificate" in err, err


@pytest.fixture
def verifying(new_server, certs):
    """A server that staples and asks for certificates of another authority, which is `.clients`."""
    pair = certs.authority.pair("verifying")
    clients = Authority(certs.folder, "verified")
    s = new_server("--tls-port", "0", "--drain-time", "0", *pair.flags(), "--tls-client-ca",
                   clients.file, "--tls-ocsp", certs.authority.ocsp("verifying", pair))
    s.pair, s.clients = pair, clients
    return s


def shown(authority, name, folder):
    """Flags of s_client for a certificate of that authority."""
    pair, chain = authority.pair(name), folder / f"{name}-chain.pem"
    chain.write_bytes(authority.middle.public_bytes(serialization.Encoding.PEM))
    return "-cert", pair.cert, "-key", pair.key, "-cert_chain", str(chain)


@pytest.mark.parametrize("version", ("1.2", "1.3"))
def test_the_issuer_of_a_stapled_certificate_does_not_vouch_for_clients(verifying, certs, version, tmp_path):
    s, flag = verifying, "-tls" + version.replace(".", "_")
    is_due = version == "1.2" or staples_13(s)
    good = shown(s.clients, "good client", tmp_path)
    assert stapled(s, flag, *good) == (serial(s.pair) if is_due else None)
    until(lambda: s.metric("tidewire_tls_handshakes_total"), 1)
    assert s.metric(STAPLES, version=version) == is_due
    for count, wrong in enumerate((shown(certs.authority, "own client", tmp_path), ()), 1):
        out = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{s.tls_port}", flag,
                              "-status", *wrong], input=b"", timeout=30, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT).stdout.decode()
        assert ("OCSP Response Status" in out) == is_due, out
        until(lambda: s.metric(FAILURES, reason="client_certificate"), count)
    assert s.metric("tidewire_tls_handshakes_total") == 1
    assert s.metric(FAILURES) == 2


def test_a_clients_certificate_that_comes_before_the_answer_is_refused(verifying, certs):
    """In one record with the ClientHello, where a stapled certificate's issuer is still trusted."""
    s, own = verifying, certs.authority.pair("early client")
    certificates = b"".join(len(der).to_bytes(3, "big") + der for der in (
        c.public_bytes(serialization.Encoding.DER) for c in (own.certificate, certs.authority.middle)))
    message = len(certificates).to_bytes(3, "big") + certificates
    hello = client_hello(SUITES, more=(STATUS,))
    body = hello[5:] + b"\x0b" + len(message).to_bytes(3, "big") + message
    with Raw(s.tls_port) as c:
        c.send(hello[:3] + len(body).to_bytes(2, "big") + body)
        alert = c._take(7)
        assert alert[0] == 21 and alert[5] == 2, alert
        assert c.at_end()
    until(lambda: s.metric(FAILURES, reason="client_certificate"), 1)


def ask(server, hello, times):
    """Sends a ClientHello, reads some of the answer, and goes."""
    for _ in range(times):
        with Raw(server.tls_port) as c:
            c.send(hello)
            assert c._take(6)[5] == 2  # a ServerHello
    until(lambda: server.metric("tidewire_tls_handshakes_running"), 0)


@pytest.mark.parametrize("is_13", (False, True), ids=("1.2", "1.3"))
def test_clients_that_ask_leave_nothing_behind(new_server, certs, tmp_path, is_13):
    """Debian's wolfSSL 5.5.4 leaks 5 KB for each of them in TLS 1.3, if it may staple."""
    pair = certs.authority.pair("leak")
    heap = None if is_sanitized() else Heap(tmp_path)  # at the end its own report tells of leaks
    s = new_server("--tls-port", "0", "--drain-time", "0", "--shards", "1", *pair.flags(),
                   "--tls-ocsp", certs.authority.ocsp("leak", pair),
                   **({} if heap is None else {"env": heap.env()}))
    hello = client_hello([0x1301] if is_13 else SUITES, is_13=is_13, more=(STATUS,))
    ask(s, hello, 20)
    before = 0 if heap is None else heap.read()[1]
    ask(s, hello, 100)
    assert heap is None or heap.read()[1] - before < 100 * 100
