# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""tidewire-load: each scenario on both backends, of the server and its own; what it sees of a bad
server; flags, exit codes and the JSON object."""

import contextlib
import json
import re
import signal
import socket
import ssl
import subprocess
import threading
import time

import pytest

from bad_server import ENDS, FAULTS, BadServer
from load import load, program, run

SHORT = ("--duration", "300ms", "--warmup", "50ms", "--grace", "2s")
COUNTED = ("lost", "duplicated", "reordered", "corrupted", "misrouted")


def assert_good(result):
    assert result["ok"] and result["failure"] is None
    assert result["connections"]["open"] == result["connections"]["wanted"]
    assert result["connections"]["lost"] == 0
    assert result["verify"]["checked"] == result["messages"]["total_received"] > 0
    assert [result["verify"][name] for name in COUNTED] == [0] * len(COUNTED)


@pytest.fixture
def load_io(backend):
    """The generator on the other backend than the server: each gets both."""
    return {"uring": "epoll", "epoll": "uring"}[backend]


# Echo ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [
    (), ("--window", 16), ("--window", 8, "--lockstep"), ("--rate", 2000), ("--opcode", "text"),
    ("--payload", 16), ("--payload", "16KiB", "--window", 40), ("--threads", 3, "--window", 4),
    ("--payload", 1, "--window", 64), ("--payload", 2, "--opcode", "text"),
    ("--payload", 7, "--window", 16, "--lockstep"), ("--payload", 15, "--threads", 2),
], ids=lambda flags: "-".join(str(f).strip("-") for f in flags) or "plain")
def test_echo_is_judged_and_good(server, load_io, flags):
    result = load("echo", server.port, "--io", load_io, "--connections", 20, *SHORT, *flags)
    assert_good(result)
    assert result["generator"]["io"] == load_io
    assert result["latency_us"]["count"] == result["messages"]["received"]
    assert 0 < result["latency_us"]["p50"] <= result["latency_us"]["p99"]
    assert result["latency_us"]["p99"] <= result["latency_us"]["max"]
    assert result["messages"]["total_sent"] == result["messages"]["total_received"]


def test_both_ends_on_the_same_backend(server, backend):
    assert_good(load("echo", server.port, "--io", backend, *SHORT))


def test_compressed_messages_are_inflated_and_judged(deflate_server, load_io):
    before = deflate_server.metric("tidewire_messages_inflated_total")
    result = load("echo", deflate_server.port, "--io", load_io, "--compress", "--payload", 1000,
                  "--connections", 10, *SHORT)
    assert_good(result)
    assert deflate_server.metric("tidewire_messages_inflated_total") > before


def test_a_server_that_declines_compression_is_refused(server):
    result = load("echo", server.port, "--compress", *SHORT, code=4)
    assert "declines permessage-deflate" in result["failure"]


def test_a_count_of_messages_is_sent_and_comes_back_exactly(server, load_io):
    result = load("echo", server.port, "--io", load_io, "--connections", 7, "--messages", 250,
                  "--window", 3)
    assert_good(result)
    assert result["messages"]["sent"] == result["messages"]["received"] == 7 * 250


def test_open_loop_keeps_its_rate_and_counts_latency_from_when_messages_were_due(server, load_io):
    result = load("echo", server.port, "--io", load_io, "--rate", 1000, "--duration", "1s",
                  "--warmup", "0", "--threads", 2)
    assert_good(result)
    assert result["messages"]["sent"] == pytest.approx(1000, abs=100)
    assert result["latency_from"] == "due"
    assert result["lag_us"]["count"] == result["messages"]["sent"]


def test_a_stall_of_the_server_shows_in_open_loop_latency(new_server):
    """A closed loop would have one late message per connection; an open one has all those that were
    due meanwhile, each as late as it was."""
    server = new_server("--echo", "--shards", "1")
    with subprocess.Popen([program(), "echo", "--url", f"ws://127.0.0.1:{server.port}",
                           "--connections", "4", "--rate", "1000", "--duration", "1500ms",
                           "--warmup", "0", "--json"], stdout=subprocess.PIPE, text=True) as p:
        time.sleep(0.5)
        server.process.send_signal(signal.SIGSTOP)
        time.sleep(0.4)
        server.process.send_signal(signal.SIGCONT)
        result = json.loads(p.communicate(timeout=30)[0])
    assert p.returncode == 0
    assert result["latency_us"]["max"] > 350_000
    assert result["latency_us"]["p90"] > 150_000  # a quarter of all messages were due in the stall


# Fan-out ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("flags", [
    (), ("--window", 16), ("--window", 4, "--lockstep"), ("--rate", 300),
    ("--publishers", 3, "--one-order", "--window", 4),
    ("--publishers", 4, "--rooms", 2, "--threads", 3, "--window", 2),
    ("--publish-path", "/rooms/load-{run}-{room}?echo=0", "--publisher-gets", "others",
     "--publishers", 2),
    ("--payload", "4KiB", "--window", 16),
], ids=lambda flags: "-".join(re.sub(r"\W", "", str(f)) for f in flags) or "plain")
def test_fanout_is_judged_and_good(server, load_io, flags):
    result = load("fanout", server.port, "--io", load_io, "--subscribers", 40, *SHORT, *flags)
    assert_good(result)
    publishers = int(result["options"]["publishers"])
    rooms = int(result["options"]["rooms"])
    members = (40 + publishers) / rooms - (result["options"]["publisher-gets"] == "others")
    sent, received = (result["messages"][f"total_{k}"] for k in ("sent", "received"))
    assert received == sent * members


def test_fanout_of_a_count(server, load_io):
    result = load("fanout", server.port, "--io", load_io, "--subscribers", 9, "--messages", 50)
    assert_good(result)
    assert result["messages"]["sent"] == 50
    assert result["messages"]["received"] == 500


def test_the_rooms_of_runs_do_not_meet(server):
    flags = ("--subscribers", 5, "--duration", "600ms", "--warmup", "0")
    command = [program(), "fanout", "--url", f"ws://127.0.0.1:{server.port}", *map(str, flags)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as other:
        assert_good(load("fanout", server.port, *flags))
        assert other.wait(30) == 0


# Idle ---------------------------------------------------------------------------------------------

def test_idle_connections_are_held_and_weighed(new_server, load_io):
    """Sockets and the kernel's memory are those of the whole host, where other tests run: no more
    is known of them than that they are told."""
    server = new_server("--shards", "1")
    result = load("idle", server.port, "--io", load_io, "--connections", 1000, "--duration", "700ms",
                  "--server-pid", server.process.pid)
    assert result["ok"] and result["connections"]["open"] == 1000
    memory = result["memory"]
    assert 150 < memory["server_bytes_per_connection"] < 2000
    assert 200 < memory["generator_bytes_per_connection"] < 3000
    assert memory["kernel_bytes_per_connection"] > 0


def test_an_idle_connection_that_does_not_answer_at_the_end_fails_the_run():
    with BadServer("no-pong") as server:
        result = load("idle", server.port, "--connections", 3, "--duration", "100ms", "--grace",
                      "300ms", code=1)
    assert "did not answer a ping" in result["failure"]


def test_pings_of_the_server_are_answered(new_server, load_io):
    server = new_server("--ping-interval", "1s", "--pong-timeout", "300ms")
    assert load("idle", server.port, "--io", load_io, "--connections", 20,
                "--duration", "1700ms")["ok"]
    assert server.metric("tidewire_pong_misses_total") == 0


# Storm --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("close", ("frame", "fin", "reset", "mixed"))
def test_a_storm_opens_and_ends_connections(server, load_io, close):
    before = server.metric("tidewire_connections_closed_total")
    result = load("storm", server.port, "--io", load_io, "--close", close, *SHORT)
    assert result["ok"]
    storm = result["storm"]
    assert storm["opened"] == storm["attempts"] - storm["refused"]["unfinished"] > 50
    assert storm["ended_by_server"] == 0
    assert server.metric("tidewire_connections_closed_total") >= before + storm["opened"] - 64


def test_a_storm_at_a_rate_keeps_connections_for_a_while(server, load_io):
    result = load("storm", server.port, "--io", load_io, "--connect-rate", 200, "--keep", "100ms",
                  "--duration", "1s", "--warmup", "0", "--threads", 2)
    assert result["messages"]["sent"] == pytest.approx(200, abs=60)
    assert result["latency_from"] == "due"
    assert 1 <= result["connections"]["open"] < 64  # about 200 a second times 100 ms


def test_refused_connections_fail_a_storm_unless_they_are_allowed(new_server):
    server = new_server("--connect-rate", "20", "--shards", "1")
    result = load("storm", server.port, *SHORT, code=1)
    assert result["failure"].startswith("connection ")
    result = load("storm", server.port, "--allow-refusals", *SHORT)
    storm = result["storm"]
    assert storm["refused"]["status"] + storm["ended_by_server"] > 0


def test_a_storm_on_nobody():
    done = run("storm", "--url", "ws://127.0.0.1:1", "--allow-refusals", *SHORT)
    assert done.returncode == 4


# Soak ---------------------------------------------------------------------------------------------

def test_good_clients_do_not_notice_the_others(server, load_io):
    result = load("soak", server.port, "--io", load_io, "--threads", 2, "--publishers", 3,
                  "--rooms", 2, "--subscribers", 20, "--connections", 10, "--rate", 500,
                  "--bad-clients", 40, "--churn", 50, "--one-order", "--duration", "2s",
                  "--warmup", "0")
    assert result["ok"] and result["connections"]["lost"] == 0
    assert [result["verify"][name] for name in COUNTED] == [0] * len(COUNTED)
    assert result["messages"]["total_sent"] == pytest.approx(1000, abs=50)
    soak = result["soak"]
    assert soak["churned"] > 50 and soak["slow_opened"] == 2
    assert soak["bad"] > 40 and soak["bad_ended"] > 30
    assert soak["bad_tolerated"] == 0


def test_slow_readers_are_ended_and_the_others_get_everything(new_server, load_io):
    server = new_server("--echo", "--tcp-sndbuf", "256KiB", "--max-queue", "1MiB")
    result = load("soak", server.port, "--io", load_io, "--publishers", 6, "--subscribers", 3,
                  "--connections", 1, "--rate", 600, "--payload", "8KiB", "--churn", 0,
                  "--bad-clients", 0, "--duration", "1500ms", "--warmup", "0")
    assert result["ok"]
    assert result["soak"]["slow_ended"] > 0
    assert server.metric("tidewire_connections_closed_total", reason="slow_consumer") > 0


# TLS ----------------------------------------------------------------------------------------------

@pytest.fixture
def tls(certs):
    """Flags of a generator that trusts the tests' authority; the certificates name no address."""
    return "--tls", "--tls-ca", certs.authority.file, "--tls-name", "localhost"


@pytest.mark.parametrize("scenario, flags", [
    ("echo", ("--window", 16, "--threads", 2)),
    ("echo", ("--payload", "40KiB", "--window", 5)),
    ("echo", ("--rate", 2000, "--opcode", "text")),
    ("fanout", ("--publishers", 2, "--window", 4, "--payload", "4KiB", "--one-order")),
], ids=("window", "large", "rate", "fanout"))
def test_messages_over_tls_are_judged_and_good(tls_server, load_io, tls, scenario, flags):
    crowd = "--connections" if scenario == "echo" else "--subscribers"
    before = tls_server.metric("tidewire_tls_records_received_total")
    result = load(scenario, tls_server.tls_port, "--io", load_io, crowd, 20, *tls, *SHORT, *flags)
    assert_good(result)
    assert result["tls"]["full_handshakes"] == result["connections"]["wanted"]
    assert result["tls"]["resumed_handshakes"] == 0
    assert result["tls"]["suite"] == "TLS 1.3, AES-128-GCM"
    assert tls_server.metric("tidewire_tls_records_received_total") > before


def test_compressed_messages_over_tls(new_server, certs, load_io, tls):
    server = new_server("--echo", "--tls-port", "0", *certs.rsa.flags(), "--compress", "on",
                        "--compress-min", "0")
    result = load("echo", server.tls_port, "--io", load_io, *tls, "--compress", "--payload", 1000,
                  *SHORT)
    assert_good(result)
    assert result["tls"]["full_handshakes"] == 64


@pytest.mark.parametrize("close", ("frame", "mixed"))
def test_a_storm_over_tls_resumes_one_session(tls_server, load_io, tls, close):
    result = load("storm", tls_server.tls_port, "--io", load_io, "--close", close, "--tls-resume",
                  "--tls-handshakes", 1, *tls, "--duration", "1s", "--warmup", "0")
    assert result["ok"] and result["storm"]["ended_by_server"] == 0
    full, resumed = (result["tls"][f"{kind}_handshakes"] for kind in ("full", "resumed"))
    assert full == 1 and resumed > 0
    assert full + resumed >= result["storm"]["opened"]


def test_handshakes_of_a_storm_at_a_rate_are_bounded(tls_server, load_io, tls):
    """What is due beyond --tls-handshakes waits, and the wait counts."""
    result = load("storm", tls_server.tls_port, "--io", load_io, *tls, "--tls-handshakes", 2,
                  "--connect-rate", 100000, "--duration", "300ms", "--warmup", "0")
    assert result["ok"]
    assert result["lag_us"]["p50"] > 1000
    assert result["storm"]["attempts"] - result["storm"]["opened"] <= 2


def test_idle_and_soak_over_tls(tls_server, load_io, tls):
    result = load("idle", tls_server.tls_port, "--io", load_io, *tls, "--connections", 100,
                  "--duration", "300ms")
    assert result["ok"] and result["connections"]["open"] == 100
    result = load("soak", tls_server.tls_port, "--io", load_io, *tls, "--subscribers", 20,
                  "--connections", 10, "--rate", 500, "--bad-clients", 40, "--churn", 50,
                  "--duration", "1s", "--warmup", "0")
    assert result["ok"] and result["soak"]["bad_ended"] > 10
    assert result["soak"]["bad_tolerated"] == 0


@pytest.mark.parametrize("flags, told", [
    (("--tls-ca", "{ca}"), "for another name"),
    (("--tls-ca", "{ca}", "--tls-name", "example.org"), "for another name"),
    (("--tls-name", "localhost"), "unknown authority; see --tls-ca"),
], ids=("address", "name", "authority"))
def test_a_certificate_that_is_not_right_is_refused(tls_server, certs, flags, told):
    flags = [f.format(ca=certs.authority.file) for f in flags]
    result = load("echo", tls_server.tls_port, "--tls", *flags, *SHORT, code=4)
    assert told in result["failure"]
    result = load("echo", tls_server.tls_port, "--tls", "--tls-insecure", *SHORT)
    assert_good(result)


def test_an_expired_certificate_is_refused(certs, tls):
    old = certs.authority.pair("expired", begin=-20, end=-10)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(old.cert, old.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        def serve():
            with contextlib.suppress(OSError):  # a failed handshake is one, and the end
                context.wrap_socket(listener.accept()[0], server_side=True)
        server = threading.Thread(target=serve)
        server.start()
        result = load("echo", listener.getsockname()[1], "--connections", 1, *tls, *SHORT, code=4)
        server.join()
    assert "has expired" in result["failure"]


def test_an_address_may_be_in_a_certificate(new_server, certs):
    server = new_server("--echo", "--tls-port", "0", *certs.authority.pair(
        "address", hosts=("127.0.0.1",)).flags())
    done = run("echo", "--url", f"wss://127.0.0.1:{server.tls_port}", "--tls-ca",
               certs.authority.file, *SHORT)
    assert done.returncode == 0, done.stderr
    assert f"wss://127.0.0.1:{server.tls_port}/echo" in done.stdout
    assert "64 full, 0 resumed" in done.stdout


def test_a_server_that_speaks_no_tls(server):
    result = load("echo", server.port, "--tls", "--tls-insecure", *SHORT, code=4)
    assert "TLS: " in result["failure"]


# What is told -------------------------------------------------------------------------------------

def test_processor_time_of_the_server_per_message(server):
    result = load("echo", server.port, "--server-pid", server.process.pid, *SHORT)
    cpu = result["server"]
    assert cpu["cpu_us_per_message"] > 0.1
    parts = cpu["cpu_user_us_per_message"] + cpu["cpu_system_us_per_message"]
    assert parts == pytest.approx(cpu["cpu_us_per_message"], rel=0.01, abs=0.001)


def test_the_generator_says_when_it_was_the_limit(server):
    """A closed loop with many messages in flight keeps it busy, a slow open one leaves it idle."""
    busy = load("echo", server.port, "--window", 64, "--compress", "off", "--payload", 16, *SHORT)
    idle = load("echo", server.port, "--rate", 100, *SHORT)
    assert idle["generator"]["bottleneck"] is False
    assert busy["generator"]["busiest_cpu_share"] > idle["generator"]["busiest_cpu_share"]
    share = busy["generator"]["busiest_cpu_share"] + busy["generator"]["busiest_wait_share"]
    assert busy["generator"]["bottleneck"] == (share >= 0.95)


RESULT = {
    "schema": int, "program": str, "version": str, "scenario": str, "ok": bool,
    "failure": (str, type(None)), "interrupted": bool, "seconds": float, "connections": dict,
    "tls": (dict, type(None)), "messages": dict, "verify": dict, "latency_from": str, "latency_us": dict,
    "lag_us": (dict, type(None)), "server": (dict, type(None)), "generator": dict, "options": dict,
}
PARTS = {
    "connections": {"wanted", "open", "lost", "connect_seconds"},
    "messages": {"sent", "received", "received_bytes", "sent_per_second", "received_per_second",
                 "total_sent", "total_received"},
    "verify": {"checked", *COUNTED},
    "latency_us": {"count", "mean", "p50", "p90", "p99", "p99_9", "max"},
    "server": {"cpu_us_per_message", "cpu_user_us_per_message", "cpu_system_us_per_message",
               "cpu_share"},
    "generator": {"io", "threads", "cpu_us_per_message", "busiest_cpu_share", "busiest_wait_share",
                  "bottleneck"},
}


OWN = {
    "echo": None, "fanout": None,
    "idle": ("memory", {"server_bytes_per_connection", "generator_bytes_per_connection",
                        "kernel_bytes_per_connection", "sockets_per_connection", "caches"}),
    "storm": ("storm", {"attempts", "opened", "ended_by_server", "refused"}),
    "soak": ("soak", {"churned", "slow_opened", "slow_ended", "bad", "bad_ended",
                      "bad_tolerated"}),
}


@pytest.mark.parametrize("scenario", OWN)
def test_the_json_object_has_its_members(server, scenario):
    warm = () if scenario == "idle" else ("--warmup", "50ms")
    result = load(scenario, server.port, "--server-pid", server.process.pid, "--duration", "200ms",
                  *warm)
    assert result["schema"] == 1 and result["scenario"] == scenario
    if OWN[scenario]:
        name, members = OWN[scenario]
        assert result.pop(name).keys() == members
    assert result.keys() == RESULT.keys()
    for name, kind in RESULT.items():
        assert isinstance(result[name], kind), name
    for name, members in PARTS.items():
        assert result[name].keys() == members, name


def test_the_table_tells_the_same():
    with BadServer() as server:
        done = run("echo", "--url", f"ws://127.0.0.1:{server.port}", "--connections", 4, *SHORT)
    assert done.returncode == 0
    for word in ("scenario", "connections", "answers", "latency", "generator", "judged",
                 "result             good"):
        assert word in done.stdout, done.stdout
    assert done.stderr == ""


def test_the_live_line_is_written_when_it_is_wanted():
    with BadServer() as server:
        done = run("echo", "--url", f"ws://127.0.0.1:{server.port}", "--duration", "1200ms",
                   "--warmup", "0", "--connections", 4, "--progress", "on")
    assert "echo: measuring, 4 of 4 connections" in done.stderr


def test_an_interrupted_run_tells_what_it_has():
    with BadServer() as server, subprocess.Popen(
            [program(), "echo", "--url", f"ws://127.0.0.1:{server.port}", "--connections", "4",
             "--duration", "1m", "--warmup", "0", "--json"], stdout=subprocess.PIPE, text=True) as p:
        time.sleep(0.5)
        p.send_signal(signal.SIGINT)
        result = json.loads(p.communicate(timeout=20)[0])
    assert p.returncode == 0 and result["interrupted"]
    assert_good(result)


# Bad servers --------------------------------------------------------------------------------------

SEEN_AS = {"drop": "lost", "duplicate": "duplicated", "reorder": "reordered",
           "corrupt": "corrupted", "corrupt-stamp": "corrupted", "truncate": "corrupted"}
TOLD_AS = {"close": "1013 (too slow)", "hang-up": "without a close frame", "masked": "masked",
           "reserved": "reserved bit"}
QUICK = ("--duration", "150ms", "--warmup", "0", "--grace", "300ms")


def test_a_good_server_of_another_make_is_good():
    with BadServer() as server:
        assert_good(load("echo", server.port, "--connections", 4, "--window", 4, *QUICK))
        assert_good(load("fanout", server.port, "--path", "/anything", "--subscribers", 3, *QUICK))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("scenario", ("echo", "fanout"))
def test_a_server_that_does_one_message_wrong_fails_the_run(scenario, fault):
    crowd = ("--connections", 4) if scenario == "echo" else ("--subscribers", 3)
    with BadServer(fault) as server:
        result = load(scenario, server.port, *crowd, "--window", 4, *QUICK, code=1)
    verify = result["verify"]
    assert not result["ok"] and result["failure"].startswith("connection ")
    if fault == "misroute" and scenario == "echo":
        assert verify["misrouted"] == 1 and verify["lost"] == 1, verify
    elif fault == "misroute":
        assert verify["duplicated"] == 1 and verify["lost"] == 1, verify
    else:
        assert verify[SEEN_AS[fault]] == 1, verify
        # A message that can't be read is also one that never came.
        others = sum(verify[n] for n in COUNTED) - 1
        assert others == (1 if SEEN_AS[fault] == "corrupted" else 0), verify


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("size", (1, 3, 12))
def test_the_same_is_seen_by_the_number_alone_that_short_messages_carry(size, fault):
    """One of another connection is one that was not sent here; with 1 B its number may fall into
    what is, or could be late."""
    with BadServer(fault) as server:
        result = load("echo", server.port, "--connections", 4, "--window", 4, "--payload", size,
                      *QUICK, code=1)
    verify = result["verify"]
    assert not result["ok"]
    if fault in ("drop", "duplicate", "reorder", "truncate"):
        assert verify[SEEN_AS[fault]] == 1, verify
    elif fault == "misroute" and size > 1:
        assert verify["corrupted"] == 1 and verify["lost"] == 1, verify
    else:
        assert sum(verify[n] for n in COUNTED) >= 1, verify


@pytest.mark.parametrize("fault", ENDS)
def test_a_server_that_ends_a_connection_fails_the_run(fault):
    with BadServer(fault) as server:
        result = load("echo", server.port, "--connections", 4, *QUICK, code=1)
    assert result["connections"]["lost"] == 1
    assert TOLD_AS[fault] in result["failure"]


@pytest.mark.parametrize("fault, told", (("refuse", "HTTP status 503"),
                                         ("bad-accept", "Sec-WebSocket-Accept"),
                                         ("silent", "not open in time")))
def test_a_server_that_does_not_upgrade_has_an_exit_code_of_its_own(fault, told):
    with BadServer(fault) as server:
        result = load("echo", server.port, "--connections", 2, "--timeout", "500ms", *QUICK, code=4)
    assert told in result["failure"]


def test_greetings_of_a_server_are_passed_over():
    with BadServer(greetings=2) as server:
        assert_good(load("echo", server.port, "--connections", 2, "--greetings", 2, *QUICK))
        result = load("echo", server.port, "--connections", 2, "--greetings", 1, *QUICK, code=1)
        assert result["verify"]["corrupted"] == 2


def test_nobody_there():
    done = run("echo", "--url", "ws://127.0.0.1:1", "--duration", "100ms")
    assert done.returncode == 4
    assert "can't connect: Connection refused" in done.stderr


# Flags --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("argv, told", [
    (("ecko",), "did you mean echo?"),
    (("echo", "--conections", "1"), "did you mean --connections?"),
    (("echo", "--subscribers", "1"), "subscribers"),
    (("idle", "--payload", "125"), "payload"),
    (("soak", "--rate", "0"), "--rate"),
    (("fanout", "--payload", "15"), "16B"),
    (("echo", "--payload", "0"), "1B"),
    (("echo", "--payload", "1", "--window", "65"), "--window: over 64, which is all"),
    (("echo", "--payload", "15", "--rate", "5"), "--payload: needs 16B with --rate"),
    (("echo", "--url", "http://127.0.0.1"), "ws://"),
    (("echo", "--tls-resume"), "--tls-resume: has no effect without TLS"),
    (("echo", "--tls", "--tls-insecure", "--tls-ca", "x"), "--tls-ca: has no effect with"),
    (("echo", "--tls", "--tls-ca", "/none"), "--tls-ca /none: can't be read"),
    (("echo", "--rate", "5", "--window", "2"), "--window: has no effect with --rate"),
    (("echo", "--messages", "5", "--duration", "2s"), "--duration: has no effect with --messages"),
    (("echo", "--server-pid", "x"), "process id"),
    (("echo", "--server-pid", "999999999"), "no such process"),
    (("fanout", "--rooms", "2"), "--publishers"),
    (("fanout", "--subscribers", "0", "--publisher-gets", "others"), "reach nobody"),
    (("echo", "--io", "epoll", "--connections", "1000000"), "RLIMIT_NOFILE"),
])
def test_a_mistake_is_one_line_that_says_what_would_be_right(argv, told):
    done = run(*argv)
    code = 5 if "RLIMIT" in told else 3 if "can't be read" in told else 2
    assert done.returncode == code, done.stderr
    assert told in done.stderr and done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_help_lists_each_flag_of_the_scenario_and_no_other():
    overview = run("help").stdout
    flags = {}
    for scenario in OWN:
        assert scenario in overview
        text = run(scenario, "--help").stdout
        assert text == run("help", scenario).stdout
        flags[scenario] = set(re.findall(r"^  --([\w-]+)", text, re.M))
    assert "connections" in flags["echo"] - flags["fanout"]
    assert "subscribers" in flags["fanout"] - flags["echo"]
    page = run("help", "--man").stdout
    for flag in set().union(*flags.values()):
        assert flag.replace("-", "\\-") in page, flag


def test_flags_may_stand_in_a_file(server, tmp_path):
    path = tmp_path / "echo.conf"
    path.write_text("connections = 3\nwindow = 5\n")
    result = load("echo", server.port, "--config", path, *SHORT)
    assert result["connections"]["wanted"] == 3
    assert result["options"]["window"] == "5"
    assert run("echo", "--config", tmp_path / "none").returncode == 3
