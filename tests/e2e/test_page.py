# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The page in headless Chromium: talk, presence, figures, and coming back after a failure."""

import json

import pytest

from wire import BINARY, TEXT, Client, Raw, frame

FLAGS = ("--page", "on", "--shards", "2", "--drain-time", "0")


@pytest.fixture
def page_server(shared_server):
    return shared_server("--page", "on")


def url(server, room, extra=""):
    return f"http://127.0.0.1:{server.port}/?room={room}{extra}"


def state(tab):
    return tab.run("return document.getElementById('connection').dataset.state")


def open_joined(browser, address):
    """A tab whose hello came back: it is connected and in the room."""
    tab = browser.open(address)
    tab.wait("connected", lambda t: state(t) == "open" and t.text("#rtt").endswith(" ms"))
    return tab


def open_tab(browser, server, room, name, extra=""):
    tab = open_joined(browser, url(server, room, extra))
    tab.type("#name", name + "\n")
    return tab


def members(tab):
    return sorted(tab.texts("#members li"))


def said(tab):
    """What others said, as (who, what)."""
    return list(zip(tab.texts("#log .said .who"), tab.texts("#log .said .what")))


def wait_members(tab, *names):
    tab.wait(f"{names} are here", lambda t: members(t) == sorted(names))


def two_tabs(browser, server, room, extra=""):
    a = open_tab(browser, server, room, "Ada", extra)
    b = open_tab(browser, server, room, "Bob", extra)
    wait_members(a, "Ada (you)", "Bob")
    wait_members(b, "Ada", "Bob (you)")
    return a, b


def test_its_files_come_with_a_strict_policy(page_server):
    files = {"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"}
    for path, kind in files.items():
        with Raw(page_server.port) as c:
            answer = c.ask(f"GET {path} HTTP/1.1\r\nHost: {c.host}\r\n\r\n".encode())
        headers = dict(answer.headers)
        assert answer.status == 200 and headers["content-type"].startswith(kind)
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_a_browser_needs_to_ask_for_no_icon(browser, new_server):
    """It stands in the page, and the policy allows it: else each visit begins with a 404."""
    server = new_server("--page", "on")
    tab = open_joined(browser, url(server, "icon"))
    loads = tab.run("""
        const icon = new Image(), done = arguments[0];
        return new Promise(resolve => {
            document.addEventListener("securitypolicyviolation", e => resolve(e.violatedDirective));
            icon.onload = icon.onerror = () => setTimeout(() => resolve("allowed"), 0);
            icon.src = document.querySelector("link[rel=icon]").href;
        });""")
    assert loads == "allowed"
    assert server.metric("tidewire_http_responses_total", status="404") == 0
    tab.close()


def test_it_can_be_switched_off(shared_server):
    server = shared_server("--page", "off")
    status, _ = server.get("/", server.port)
    assert status == 404


def test_two_tabs_talk_and_see_each_other(browser, page_server):
    a, b = two_tabs(browser, page_server, "talk")
    a.type("#text", "Hello Bob, <b>no markup</b>\n")
    b.wait("the message", lambda t: said(t) == [("Ada", "Hello Bob, <b>no markup</b>")])
    b.type("#text", "Hello Ada\n")
    a.wait("the answer", lambda t: said(t) == [("Bob", "Hello Ada")])
    a.wait("its own message came back",
           lambda t: t.texts("#log .mine .what") and not t.texts("#log .pending"))


def test_tabs_in_other_rooms_hear_nothing(browser, page_server):
    a, b = two_tabs(browser, page_server, "here")
    c = open_tab(browser, page_server, "elsewhere", "Cyd")
    a.type("#text", "only here\n")
    b.wait("the message", lambda t: said(t) == [("Ada", "only here")])
    assert said(c) == [] and members(c) == ["Cyd (you)"]


def test_without_a_room_it_is_the_lobby(browser, page_server):
    tab = open_joined(browser, f"http://127.0.0.1:{page_server.port}/")
    assert tab.run("return document.getElementById('room').value") == "lobby"
    with Client(page_server.port, "/rooms/lobby") as c:
        c.send(frame(TEXT, b"from outside"))
        tab.wait("the message", lambda t: "from outside" in t.texts("#log .raw .what"))


def test_a_room_name_of_any_characters_is_kept(browser, page_server):
    tab = open_joined(browser, url(page_server, "%C3%A4%2F%3F%25%20%F0%9F%98%80"))
    with Client(page_server.port, "/rooms/%C3%A4%2F%3F%25%20%F0%9F%98%80") as c:
        c.send(frame(TEXT, b"found it"))
        tab.wait("the message", lambda t: "found it" in t.texts("#log .raw .what"))


def test_a_room_name_that_cannot_be_is_explained(browser, page_server):
    tab = browser.open(url(page_server, "x" * 256))
    assert state(tab) == "stopped" and "255 bytes" in tab.text("#notice")


def test_who_leaves_is_seen_to_leave(browser, page_server):
    a, b = two_tabs(browser, page_server, "leaving")
    b.close()
    wait_members(a, "Ada (you)")
    a.wait("the event", lambda t: "Bob has left" in t.texts("#log .event .what"))


def test_a_new_name_is_seen_by_all(browser, page_server):
    a, b = two_tabs(browser, page_server, "names")
    b.type("#name", "Bill\n")
    wait_members(a, "Ada (you)", "Bill")


def test_rate_and_round_trip_are_shown(browser, page_server):
    tab = open_tab(browser, page_server, "figures", "Ada")
    tab.wait("a round trip", lambda t: t.text("#rtt").endswith(" ms"))
    assert 0 <= float(tab.text("#rtt").split()[0]) < 5000
    with Client(page_server.port, "/rooms/figures") as c:
        c.send(b"".join(frame(TEXT, b"%d" % i) for i in range(500)))
        tab.wait("a rate", lambda t: float(t.text("#rate")) >= 50)
        tab.wait("the count", lambda t: int(t.text("#received")) >= 500)


def test_anything_others_send_is_shown_as_text(browser, page_server):
    tab = open_tab(browser, page_server, "raw", "Ada")
    texts = ["plain", "<img src=x onerror=alert(1)>", "{\"type\":\"say\"}", "[1]", "null", "{",
             "{\"type\":\"hello\",\"id\":7}", "{\"type\":\"say\",\"id\":\"z\",\"text\":5}"]
    with Client(page_server.port, "/rooms/raw") as c:
        for text in texts:
            c.send(frame(TEXT, text))
        c.send(frame(BINARY, b"\x00\x01\xfe\xff"))
        c.send(frame(TEXT, "y" * 60000))
        tab.wait("all of them", lambda t: len(t.texts("#log .raw .what")) == len(texts) + 2)
    shown = tab.texts("#log .raw .what")
    assert shown[:len(texts)] == texts
    assert shown[len(texts)] == "binary, 4 bytes: 00 01 fe ff"
    assert len(shown[-1]) < 5000
    assert tab.run("return document.querySelectorAll('#log img, #log b').length") == 0


def test_the_log_and_the_members_are_bounded(browser, page_server):
    tab = open_tab(browser, page_server, "bounds", "Ada")
    with Client(page_server.port, "/rooms/bounds?echo=0") as c:
        for i in range(700):
            c.send(frame(TEXT, json.dumps({"type": "here", "id": f"m{i}", "name": f"M{i}"})))
        c.send(frame(TEXT, b"the last one"))
        tab.wait("the last one", lambda t: "the last one" in t.texts("#log .raw .what"))
    assert len(tab.texts("#log li")) <= 500
    assert len(members(tab)) <= 500


def test_no_policy_is_violated(browser, page_server):
    a, b = two_tabs(browser, page_server, "policy")
    a.type("#text", "hello\n")
    b.wait("the message", lambda t: said(t))
    for tab in (a, b):
        tab.run("return 1")
        lines = browser.console()
        assert not [s for s in lines if "Content Security" in s or "Uncaught" in s], lines


# Failure ------------------------------------------------------------------------------------------

def test_it_comes_back_and_sends_what_was_typed_offline(browser, new_server):
    server = new_server(*FLAGS)
    a, b = two_tabs(browser, server, "failure")
    a.run("Math.random = () => 0.999; link.retries = 2")  # Ada is the later one to come back
    server.kill()
    for tab in (a, b):
        tab.wait("notices", lambda t: state(t) in ("waiting", "connecting"))
        assert "connection was lost" in tab.text("#notice")
    for i in range(3):
        a.type("#text", f"typed offline {i}\n")
    a.wait("shown as pending", lambda t: len(t.texts("#log .pending")) == 3)
    assert a.text("#queued").startswith("3 ")
    new_server(*FLAGS, port=server.port)
    b.run("link.retryNow()")
    for tab in (b, a):
        tab.wait("reconnected", lambda t: state(t) == "open" and t.text("#rtt").endswith(" ms"), 60)
    b.wait("what was typed offline", lambda t: len(said(t)) == 3)
    assert said(b) == [("Ada", f"typed offline {i}") for i in range(3)]
    a.wait("sent", lambda t: not t.texts("#log .pending"))
    assert a.text("#reconnects") == "1" and a.run("return document.getElementById('queued').hidden")
    wait_members(a, "Ada (you)", "Bob")


def test_the_queue_is_bounded(browser, new_server):
    server = new_server(*FLAGS)
    tab = open_tab(browser, server, "queue", "Ada")
    server.kill()
    tab.wait("notices", lambda t: state(t) != "open")
    tab.run("for (let i = 0; i < 105; i++) {"
            "  document.getElementById('text').value = 'm' + i;"
            "  document.getElementById('say-form').requestSubmit(); }")
    assert tab.text("#queued").startswith("100 ")
    assert "wait already" in tab.text("#notice")
    assert tab.run("return document.getElementById('text').value") == "m104"


def test_retries_are_bounded(browser, new_server):
    server = new_server(*FLAGS)
    tab = open_tab(browser, server, "retries", "Ada", "&retries=2")
    tab.run("window.attempts = 0; const connect = link.connect;"
            "link.connect = function () { window.attempts++; connect.call(this); };")
    server.kill()
    tab.wait("gives up", lambda t: state(t) == "stopped", 30)
    assert tab.run("return window.attempts") == 2
    assert "gave up after 2 retries" in tab.text("#state")
    new_server(*FLAGS, port=server.port)
    tab.click("#retry")
    tab.wait("connected by hand", lambda t: state(t) == "open")


def test_no_retries_when_none_are_allowed(browser, new_server):
    server = new_server(*FLAGS)
    tab = open_tab(browser, server, "none", "Ada", "&retries=0")
    server.kill()
    tab.wait("stops", lambda t: state(t) == "stopped", 5)


def test_the_backoff_doubles_to_30_s_with_full_jitter(browser, page_server):
    tab = open_tab(browser, page_server, "backoff", "Ada")
    delays = tab.run("""
        const draw = (random, retries) => {
          Math.random = () => random;
          link.retries = retries;
          link.retryLater();
          clearTimeout(link.timer);
          return link.nextAt - performance.now();
        };
        return [0, 0.5, 0.999999].map((r) => [0, 1, 2, 3, 4, 5, 6, 100].map((n) => draw(r, n)));
    """)
    bounds = [1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
    for jitter, row in zip((0, 0.5, 1), delays):
        for delay, bound in zip(row, bounds):
            assert abs(delay - jitter * bound) < 200, (jitter, delay, bound)


def test_the_servers_close_code_is_shown(browser, new_server):
    server = new_server(*FLAGS)
    tab = open_tab(browser, server, "drain", "Ada", "&retries=0")
    server.terminate()
    tab.wait("stops", lambda t: state(t) == "stopped", 10)
    assert "code 1012" in tab.text("#notice") and "restarts" in tab.text("#notice")


def test_a_message_that_is_too_large_is_given_up(browser, shared_server):
    server = shared_server("--page", "on", "--max-message", "1KiB")
    a, b = two_tabs(browser, server, "large")
    a.type("#text", "x" * 2000 + "\n")
    a.wait("the code", lambda t: "1009" in " ".join(t.texts("#log .event .what")))
    a.wait("reconnected", lambda t: state(t) == "open", 60)
    a.wait("marked as failed", lambda t: len(t.texts("#log .failed")) == 1)
    a.type("#text", "short\n")
    b.wait("the short one", lambda t: ("Ada", "short") in said(t))
