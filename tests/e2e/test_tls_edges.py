# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""TLS: more of what is offered and never taken (0-RTT, session ids, compression, other groups), how
long records are, and several ports."""

import re
import ssl
import struct

import pytest

from probe import until
from test_tls import FAILURES, Talk, client_hello, connect, context, get, s_client
from wire import TEXT, Client, Raw, frame, request

GET = "GET /nowhere HTTP/1.1\nHost: localhost\nConnection: close\n\n"
SHORT, SHORT_UNTIL, LONG = 1350, 64 << 10, 16384
ONE_SEND = 48 << 10


# Never taken --------------------------------------------------------------------------------------

def test_no_ticket_allows_early_data(tls_server, tmp_path):
    session, early = tmp_path / "session", tmp_path / "early"
    early.write_bytes(GET.replace("\n", "\r\n").encode())
    said = s_client(tls_server, "-tls1_3", "-crlf", "-ign_eof", "-sess_out", str(session), send=GET)
    assert "HTTP/1.1 404" in said and "Max Early Data: 0" in said, said
    said = s_client(tls_server, "-tls1_3", "-crlf", "-ign_eof", "-sess_in", str(session),
                    "-early_data", str(early), send=GET)
    assert "Reused, TLSv1.3" in said and "Early data was not sent" in said, said


def test_early_data_is_no_request(tls_server):
    """RFC 8446 4.2.10: who sends some all the same has none of it read as data, and ends."""
    answered = tls_server.metric("tidewire_http_responses_total", status="404")
    before = tls_server.metric(FAILURES)
    data = GET.replace("\n", "\r\n").encode() + b"\x17" + bytes(16)
    with Raw(tls_server.tls_port) as c:
        c.send(client_hello([0x1301], is_13=True, more=((42, b""),)) + b"\x17\x03\x03" +
               struct.pack("!H", len(data)) + data)
        head = c._take(6)
        assert head[0] == 22 and head[5] == 2, head  # a ServerHello
        while c.sock.recv(65536):
            pass
    until(lambda: tls_server.metric(FAILURES), before + 1)
    assert tls_server.metric("tidewire_http_responses_total", status="404") == answered


def test_there_are_no_session_ids(tls_server, tmp_path):
    """In TLS 1.2 a server that resumes by an id would give one, or echo that of the client."""
    said = s_client(tls_server, "-tls1_2", "-no_ticket", send="Q")
    assert "New, TLSv1.2" in said and re.search(r"Session-ID: *\n", said), said
    hello = client_hello([0xC02B, 0xC02F])
    at, own = 5 + 4 + 2 + 32, bytes(range(32))
    assert hello[at] == 0
    body = hello[9:at] + b"\x20" + own + hello[at + 1:]
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    with Raw(tls_server.tls_port) as c:
        c.send(hello[:3] + struct.pack("!H", len(message)) + message)
        head = c._take(5 + 4 + 2 + 32 + 1)
        assert head[0] == 22 and head[5] == 2, head
        assert c._take(head[-1]) != own


def test_nothing_is_compressed(tls_server):
    """RFC 3749: DEFLATE is offered before null."""
    hello = client_hello([0xC02B, 0xC02F])
    at = 5 + 4 + 2 + 32 + 1 + 2 + 4  # of the list of methods
    assert hello[at:at + 2] == b"\x01\x00"
    body = hello[9:at] + b"\x02\x01\x00" + hello[at + 2:]
    message = b"\x01" + len(body).to_bytes(3, "big") + body
    with Raw(tls_server.tls_port) as c:
        c.send(hello[:3] + struct.pack("!H", len(message)) + message)
        head = c._take(5 + 4 + 2 + 32 + 1)
        assert head[0] == 22 and head[5] == 2, head
        assert c._take(head[-1] + 3)[-1] == 0


@pytest.mark.parametrize("version", ("-tls1_2", "-tls1_3"))
@pytest.mark.parametrize("group", ("ffdhe2048", "P-521", "X448"))
def test_other_groups_are_refused(tls_server, version, group):
    """In 1.3 by a request for another share of the same, which no client follows (wolfSSL 5.5.4)."""
    before = tls_server.metric(FAILURES), tls_server.metric("tidewire_tls_handshakes_total")
    said = s_client(tls_server, version, "-groups", group)
    assert "Cipher is (NONE)" in said, said
    until(lambda: tls_server.metric(FAILURES), before[0] + 1)
    assert tls_server.metric("tidewire_tls_handshakes_total") == before[1]


# Records ------------------------------------------------------------------------------------------

def record_bytes(said):
    """The content's length of each record of data that s_client -msg has seen from TLS 1.3."""
    heads = re.findall(r"<<< TLS 1\.2, RecordHeader \[length 0005\]\n +17 03 03 (..) (..)", said)
    return [int(a + b, 16) - 17 for a, b in heads]


def test_records_are_short_at_first_and_then_full(tls_server):
    """A segment's worth while the congestion window is small, then what one send gathers."""
    upgrade = request("/rooms/lengths", "localhost").decode("latin-1").replace("\r\n", "\n")
    with Talk(tls_server, "-tls1_3", "-msg") as t:
        t.say(upgrade.encode())
        t.until(b"\r\n\r\n")
        begin = len(record_bytes(t.said.decode("latin-1")))
        with Client(tls_server.port, "/rooms/lengths") as c:
            for i in range(5):
                end = b"-end-of-%d-" % i
                c.send(frame(TEXT, b"x" * (60000 - len(end)) + end))
                t.until(end)
        sizes, sent = record_bytes(t.said.decode("latin-1"))[begin:], 0
    assert sum(sizes) >= 300000
    for size in sizes:
        assert size <= (SHORT if sent < SHORT_UNTIL - 1000 else LONG), (sent, sizes)
        sent += size
        if sent > SHORT_UNTIL + ONE_SEND:
            break
    assert SHORT in sizes and LONG in sizes, sizes


# Ports --------------------------------------------------------------------------------------------

def test_several_ports_speak_tls(new_server, certs):
    s = new_server("--tls-port", "0", "--tls-port", "0", "--drain-time", "0", *certs.ecdsa.flags())
    ports = {int(line.split("address=")[1].split()[0].rpartition(":")[2])
             for line in s.lines if "TLS listening" in line}
    assert len(ports) == 2
    for s.tls_port in ports:
        sock = connect(s, context(certs))
        assert get(sock, "/nowhere") == 404
        assert isinstance(sock.tls, ssl.SSLObject)
    until(lambda: s.metric("tidewire_tls_handshakes_total"), 2)
