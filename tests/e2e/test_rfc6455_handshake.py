# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The opening handshake, server side: RFC 6455 sections 4.2, 4.4, 9.1, 10.2 and 11.3."""

import base64
import os

import pytest

import wire
from wire import BINARY, TEXT, Client, Raw, accept_of, frame, request

pytestmark = pytest.mark.sanitize

REFUSALS = range(400, 500)


def ask(server, path="/echo", **how):
    with Raw(server.port) as c:
        headers = how.pop("headers", None)
        return c.ask(request(path, how.pop("host", c.host), headers, **how))


def values(answer, name):
    return [v for n, v in answer.headers if n == name]


# 4.2.2: what the answer says ----------------------------------------------------------------------

def test_the_answer_is_101_with_upgrade_connection_and_accept(server):
    answer = ask(server)
    assert (answer.version, answer.status) == ("HTTP/1.1", 101)
    assert [v.lower() for v in values(answer, "upgrade")] == ["websocket"]
    assert [v.lower() for v in values(answer, "connection")] == ["upgrade"]
    assert values(answer, "sec-websocket-accept") == ["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]


def test_accept_is_derived_from_each_key(server):
    for _ in range(50):
        key = base64.b64encode(os.urandom(16)).decode()
        assert values(ask(server, key=key), "sec-websocket-accept") == [accept_of(key)]


def test_the_key_of_the_rfcs_own_example_is_taken(server):
    key = "AQIDBAUGBwgJCgsMDQ4PEC=="
    assert values(ask(server, key=key), "sec-websocket-accept") == [accept_of(key)]


def test_the_answer_names_no_extension_that_was_not_asked_for(server, deflate_server):
    for s in (server, deflate_server):
        assert values(ask(s), "sec-websocket-extensions") == []
        answer = ask(s, headers={"Sec-WebSocket-Extensions": "x-unheard-of; a=1, mux; b"})
        assert answer.status == 101
        assert values(answer, "sec-websocket-extensions") == []


def test_the_answer_names_no_subprotocol_that_was_not_asked_for(server):
    assert values(ask(server), "sec-websocket-protocol") == []
    answer = ask(server, headers={"Sec-WebSocket-Protocol": "x-unheard-of, x-nobody-speaks"})
    assert answer.status == 101
    assert values(answer, "sec-websocket-protocol") == []


@pytest.mark.parametrize("name", ["sec-websocket-accept", "sec-websocket-extensions",
                                  "sec-websocket-protocol"])
def test_no_field_of_the_answer_is_repeated(deflate_server, name):
    answer = ask(deflate_server, headers=[("Sec-WebSocket-Protocol", "a, b"),
                                          ("Sec-WebSocket-Extensions", "permessage-deflate"),
                                          ("Sec-WebSocket-Extensions", "permessage-deflate")])
    assert answer.status == 101
    assert len(values(answer, name)) <= 1


# 4.2.1: what a request may look like --------------------------------------------------------------

@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "WEBSOCKET"])
@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "UPGRADE", "keep-alive, Upgrade",
                                        "Upgrade,keep-alive", "keep-alive ,\tupgrade"])
def test_upgrade_and_connection_are_compared_without_case(server, upgrade, connection):
    answer = ask(server, drop=("upgrade", "connection"),
                 headers=[("Upgrade", upgrade), ("Connection", connection)])
    assert answer.status == 101


def test_connection_may_come_in_two_fields(server):
    answer = ask(server, drop=("connection",),
                 headers=[("Connection", "keep-alive"), ("Connection", "Upgrade")])
    assert answer.status == 101


@pytest.mark.parametrize("case", [str.lower, str.upper, str.title])
def test_field_names_are_compared_without_case(server, case):
    with Raw(server.port) as c:
        head = request("/echo", c.host).decode()
        line, *fields, _, _ = head.split("\r\n")
        fields = [case(f.split(":", 1)[0]) + ":" + f.split(":", 1)[1] for f in fields]
        assert c.ask("\r\n".join([line, *fields, "", ""]).encode()).status == 101


def test_the_order_of_fields_does_not_matter(server):
    with Raw(server.port) as c:
        line, *fields, _, _ = request("/echo", c.host).decode().split("\r\n")
        assert c.ask("\r\n".join([line, *reversed(fields), "", ""]).encode()).status == 101


def test_unknown_fields_are_ignored(server):
    answer = ask(server, headers={"Cookie": "a=b", "X-Any": "1", "Authorization": "Basic eA=="})
    assert answer.status == 101


def test_white_space_around_values_is_ignored(server):
    with Raw(server.port) as c:
        head = request("/echo", c.host).decode().replace(": ", ": \t  ").replace("\r\n", " \r\n")
        head = head.replace("HTTP/1.1 ", "HTTP/1.1").replace("\r\n \r\n", "\r\n\r\n")
        assert c.ask(head.encode()).status == 101


def test_an_absolute_target_is_taken(server):
    with Raw(server.port) as c:
        assert c.ask(request(f"http://{c.host}/echo", c.host)).status == 101


@pytest.mark.parametrize("path,status", [("/nothing-here", 404), ("/rooms", 404), ("/rooms/", 400)])
def test_a_resource_that_is_not_there_is_refused(server, path, status):
    assert ask(server, path).status == status


# 4.2.1: what is refused ---------------------------------------------------------------------------

@pytest.mark.parametrize("drop,status", [
    ("host", 400), ("upgrade", 426), ("connection", 426), ("sec-websocket-key", 400)])
def test_a_request_that_lacks_a_field_is_refused(server, drop, status):
    assert ask(server, drop=(drop,)).status == status


@pytest.mark.parametrize("key", [
    "", "x", "=", "====", "dGhlIHNhbXBsZSBub25jZQ", "dGhlIHNhbXBsZSBub25jZQ=",
    "dGhlIHNhbXBsZSBub25jZQ===", base64.b64encode(b"x" * 15).decode(),
    base64.b64encode(b"x" * 17).decode(), base64.b64encode(b"x" * 18).decode(),
    "dGhlIHNhbXBsZSBub25j!Q==", "dGhl IHNhbXBsZSBub25jZQ==", "_-hlIHNhbXBsZSBub25jZQ==",
    "dGhlIHNhbXBs=SBub25jZQ=="])
def test_a_key_that_is_not_16_bytes_of_base64_is_refused(server, key):
    assert ask(server, drop=("sec-websocket-key",),
               headers=[("Sec-WebSocket-Key", key)]).status == 400


@pytest.mark.parametrize("name", ["Sec-WebSocket-Key", "Sec-WebSocket-Version", "Host"])
def test_a_field_that_must_be_single_is_refused_twice(server, name):
    value = {"Sec-WebSocket-Key": wire.KEY, "Sec-WebSocket-Version": "13",
             "Host": f"127.0.0.1:{server.port}"}[name]
    assert ask(server, headers=[(name, value)]).status == 400


@pytest.mark.parametrize("upgrade,connection", [
    ("h2c", "Upgrade"), ("websockets", "Upgrade"), ("web socket", "Upgrade"),
    ("websocket", "keep-alive"), ("websocket", "Upgrades"), ("websocket", "up grade")])
def test_another_upgrade_is_no_websocket(server, upgrade, connection):
    answer = ask(server, drop=("upgrade", "connection"),
                 headers=[("Upgrade", upgrade), ("Connection", connection)])
    assert answer.status in REFUSALS


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_another_method_than_get_is_refused(server, method):
    assert ask(server, method=method).status in (405, 501)


def test_http_1_0_cannot_upgrade(server):
    assert ask(server, version="HTTP/1.0").status in REFUSALS


@pytest.mark.parametrize("version", ["HTTP/0.9", "HTTP/2.0", "HTTX/1.1", "http/1.1", ""])
def test_another_protocol_in_the_request_line_is_refused(server, version):
    assert ask(server, version=version).status in (400, 505)


def test_an_upgrade_with_a_body_is_refused(server):
    assert ask(server, headers={"Content-Length": "5"}).status == 400
    assert ask(server, headers={"Transfer-Encoding": "chunked"}).status == 400


@pytest.mark.parametrize("value", ["", "a b", "chat;x", "a/b", "\"chat\"", "chat, a@b", "chät"])
def test_a_malformed_subprotocol_list_is_refused(server, value):
    assert ask(server, headers={"Sec-WebSocket-Protocol": value}).status == 400


# 4.2.2, 4.4: versions -----------------------------------------------------------------------------

@pytest.mark.parametrize("version", ["0", "7", "8", "12", "14", "25", "99", "130", "255"])
def test_another_version_is_answered_with_the_one_supported(server, version):
    answer = ask(server, drop=("sec-websocket-version",),
                 headers={"Sec-WebSocket-Version": version})
    assert answer.status == 426
    assert values(answer, "sec-websocket-version") == ["13"]


@pytest.mark.parametrize("version", ["", "13a", "013", "+13", "-13", "13, 8", "256", "0x0d", "1 3"])
def test_a_malformed_version_is_refused(server, version):
    answer = ask(server, drop=("sec-websocket-version",),
                 headers={"Sec-WebSocket-Version": version})
    assert answer.status in (400, 426)


def test_a_missing_version_is_refused(server):
    assert ask(server, drop=("sec-websocket-version",)).status in (400, 426)


# 9.1: the grammar of extensions -------------------------------------------------------------------

@pytest.mark.parametrize("value", [
    "", ";", "foo;", "; foo", "foo bar", "foo; =1", "foo; a=", "foo; a b", "foo; a=b c",
    'foo; a="b', 'foo; a="b c"', 'foo; a=""', "foo; a==b", "foo=1", "foo; a;; b", "foo, bar;",
    "f(o)o", 'foo; a="b"c', "permessage-deflate; client_max_window_bits="])
def test_malformed_extensions_are_refused(server, deflate_server, value):
    for s in (server, deflate_server):
        assert ask(s, headers={"Sec-WebSocket-Extensions": value}).status == 400, value


@pytest.mark.parametrize("value", [
    "foo", "foo;a", "foo ; a", "foo; a=1; b=2", 'foo; a="1"', "foo,,bar",
    "foo,bar", "foo; a=1, bar; baz=2", 'foo; a="x\\y"', "foo, foo"])
def test_well_formed_unknown_extensions_are_declined(server, value):
    answer = ask(server, headers={"Sec-WebSocket-Extensions": value})
    assert answer.status == 101
    assert values(answer, "sec-websocket-extensions") == []


# 4.2.2 (origin), 10.2 -----------------------------------------------------------------------------

@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1", "null",
                                    "http://127.0.0.1:1", "https://127.0.0.1.evil.example"])
def test_a_foreign_origin_is_refused_with_403(server, origin):
    assert ask(server, headers={"Origin": origin}).status == 403


def test_the_same_origin_and_none_are_welcome(server):
    assert ask(server, headers={"Origin": f"http://127.0.0.1:{server.port}"}).status == 101
    assert ask(server).status == 101


@pytest.mark.parametrize("origin,status", [
    ("https://app.example.com", 101), ("https://a.b.example.com", 101),
    ("https://example.org", 101), ("https://example.com.evil.net", 403),
    ("https://notexample.com", 403), ("http://example.org", 403),
    ("https://example.org:8443", 403)])
def test_allowed_origins_are_those_of_the_list(shared_server, origin, status):
    s = shared_server("--allow-origin", "*.example.com", "--allow-origin", "https://example.org")
    assert ask(s, headers={"Origin": origin}).status == status


# 8.1: UTF-8 during the handshake ------------------------------------------------------------------

@pytest.mark.parametrize("name", ["%FF", "%C0%80", "%ED%A0%80", "%F4%90%80%80", "a%E2%82", "%80"])
def test_a_room_name_that_is_not_utf8_is_refused(server, name):
    assert ask(server, f"/rooms/{name}").status == 400


# Segments -----------------------------------------------------------------------------------------

def test_the_request_may_be_cut_anywhere(server):
    with Raw(server.port) as c:
        length = len(request("/echo", c.host))
    for cut in range(1, length):
        with Raw(server.port) as c:
            data = request("/echo", c.host)
            c.send_pieces([data[:cut], data[cut:]], 0.0005)
            assert c.response().status == 101, cut
            c.send(frame(TEXT, b"x"))
            assert c.message() == (TEXT, b"x")


def test_the_request_may_come_byte_by_byte(server):
    with Raw(server.port) as c:
        c.send_pieces([bytes([b]) for b in request("/echo", c.host)], 0.0002)
        assert c.response().status == 101
        c.expect_alive()


def test_frames_may_follow_in_the_packet_of_the_request(server):
    for count in (1, 2, 50):
        payloads = [b"%d" % i for i in range(count)]
        with Client(server.port, also=b"".join(frame(BINARY, p) for p in payloads)) as c:
            assert [c.message() for _ in payloads] == [(BINARY, p) for p in payloads]


def test_a_frame_may_begin_in_the_packet_of_the_request(server):
    data = frame(TEXT, "begun early, ended late")
    for cut in range(1, len(data)):
        with Raw(server.port) as c:
            c.send_pieces([request("/echo", c.host) + data[:cut], data[cut:]])
            assert c.response().status == 101
            assert c.message() == (TEXT, b"begun early, ended late"), cut


# 7.2.2: refusing ----------------------------------------------------------------------------------

def test_a_refused_handshake_is_followed_by_the_end(server):
    with Raw(server.port) as c:
        c.send(request("/echo", c.host, drop=("sec-websocket-key",)) + frame(TEXT, b"not open"))
        assert c.response().status == 400
        assert c.at_end()
