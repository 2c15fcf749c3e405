# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The programs of bench/ run. Those of bench/limits do what they stand for, and nothing more: every byte comes back, a
message costs few instructions of their own, and what arrives together takes one receive and one
send. The client in lock step (tests/programs/lockstep.c) judges the bytes."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

import wire
from harness import ROOT
from lockstep import callgrind, lockstep, run, shared_core

BUILD = Path(os.environ.get("TW_BUILD", ROOT / "build" / "test"))
PROGRAMS = ("limit_epoll", "limit_uring")
INSTRUCTIONS_MAX = 150
TRIES = 3  # on a busy machine a turn has fewer messages, and a message more of its instructions
SECONDS = 60


@contextlib.contextmanager
def limit_process(name, *flags, prefix=()):
    """A limit program, which ends when its last connection has left, and its port."""
    argv = [*prefix, str(BUILD / "bench" / name), "--once", "--seconds", str(SECONDS), *flags]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as p:
        try:
            word, port = p.stdout.readline().split()
            assert word == "listening"
            yield p, port
            assert p.wait(SECONDS) == 0
        finally:
            p.kill()


@contextlib.contextmanager
def limit(name, *flags, prefix=()):
    """The port alone."""
    with limit_process(name, *flags, prefix=prefix) as (_, port):
        yield port


@pytest.mark.parametrize("flags", ((), ("--gather",)))
@pytest.mark.parametrize("mode", ("echo", "fanout"))
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_byte_comes_back(name, mode, flags):
    for size in (0, 1, 125, 126, 1024, 16384):
        for window in (1, 16):
            with limit(name, *flags, *(["--fanout"] if mode == "fanout" else [])) as port:
                lockstep(port, mode, 20, window, 10, size)


@pytest.mark.parametrize("mode", ("echo", "fanout"))
@pytest.mark.parametrize("size", (0, 1, 125, 126, 1024))
def test_every_byte_comes_back_however_the_buffers_cut_it(size, mode):
    for flags in (("--buffers", "64", "--buffer-bytes", "1031"), ("--buffers", "128",
                  "--buffer-bytes", "257", "--gather")):
        with limit("limit_uring", *flags, *(["--fanout"] if mode == "fanout" else [])) as port:
            lockstep(port, mode, 20, 16, 10, size)


@pytest.mark.parametrize("flags", ((), ("--gather",), ("--buffers", "64", "--buffer-bytes", "1031")),
                         ids=("alone", "gather", "cut"))
@pytest.mark.parametrize("mode", ("echo", "fanout"))
def test_every_byte_comes_back_where_a_socket_takes_less_than_it_is_given(mode, flags):
    """A quick send of io_uring fails then, and what is left of it comes before what follows."""
    with limit("limit_uring", "--sndbuf", "4608", *flags,
               *(["--fanout"] if mode == "fanout" else [])) as port:
        lockstep(port, mode, 20, 16, 10, 2000)


def instructions(name, flags, mode, count, window, rounds):
    with callgrind() as counter:
        with limit(name, *flags, prefix=counter.prefix) as port:
            lockstep(port, mode, count, window, rounds, prefix=shared_core())
        return counter.total()


@pytest.mark.parametrize("mode", ("echo", "fanout"))
@pytest.mark.parametrize("window", (1, 16))
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_message_costs_few_instructions(name, mode, window):
    flags = ("--gather", *(["--fanout"] if mode == "fanout" else []))
    for _ in range(TRIES):
        few, many = (instructions(name, flags, mode, 64, window, r) for r in (10, 60))
        each = (many - few) / (50 * 64 * window)
        print(f"{name} {mode} {window}: {each:.1f} instructions a message")
        if 0 < each <= INSTRUCTIONS_MAX:
            break
    assert 0 < each <= INSTRUCTIONS_MAX


def submitted(trace):
    """Requests to io_uring: a receive is armed once, all that follow are sends."""
    return sum(int(n) for n in re.findall(r"^io_uring_enter\(\d+, (\d+),", trace, re.M))


def traced(name, flags, mode, window, rounds):
    """Receives and sends that the kernel was asked for."""
    with tempfile.TemporaryDirectory() as where:
        out = Path(where) / "strace"
        with limit(name, *flags, prefix=("strace", "-D", "-qq", "-o", str(out))) as port:
            lockstep(port, mode, 64, window, rounds)
        text = out.read_text()
    if name == "limit_uring":
        return 0, submitted(text)
    return (len(re.findall(r"^recvfrom\(", text, re.M)),
            len(re.findall(r"^send(?:to|msg)\(", text, re.M)))


@pytest.mark.parametrize("size_flags, sends", ((("--gather",), 1), ((), 16)))
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_arrives_together_takes_one_receive_and_one_send(name, size_flags, sends):
    few, many = (traced(name, size_flags, "echo", 16, r) for r in (10, 60))
    batches = 50 * 64
    recvs_each, sends_each = ((b - a) / batches for a, b in zip(few, many))
    print(f"{name} {size_flags}: {recvs_each:.3f} receives, {sends_each:.3f} sends a batch")
    # The end of a buffer, and a client that is interrupted between its sends, cut a batch in two.
    assert recvs_each <= 1.05
    assert sends <= sends_each <= sends * 1.05


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_fan_out_takes_one_send_for_each_member(name):
    few, many = (traced(name, ("--gather", "--fanout"), "fanout", 16, r) for r in (10, 60))
    each = (many[1] - few[1]) / (50 * 64)
    assert 1 <= each <= 1.05


def stop(process):
    """Returns when it stands."""
    process.send_signal(signal.SIGSTOP)
    end = time.monotonic() + SECONDS
    while Path(f"/proc/{process.pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "Tt":
        assert time.monotonic() < end
        time.sleep(0.001)


SAID = [b"one" * 40, b"two" * 40]


def gathered_fan_outs(rounds, joining=0, prefix=()):
    """Two of three clients say something while the program is stopped, and in between others ask to join: it sees
    all of that in one turn. Each must get what is its own, whole."""
    with limit_process("limit_uring", "--gather", "--fanout", prefix=prefix) as (process, port), \
         contextlib.ExitStack() as clients:
        members = [clients.enter_context(wire.Client(int(port))) for _ in range(3)]
        for _ in range(rounds):
            newest = [clients.enter_context(wire.Raw(int(port))) for _ in range(joining)]
            if joining:
                members[2].send(wire.frame(wire.TEXT, b"all are accepted"))
                for member in members:
                    member.message()
            stop(process)
            members[0].send(wire.frame(wire.TEXT, SAID[0]))
            for raw in newest:
                raw.send(wire.request("/", "localhost"))
            members[1].send(wire.frame(wire.TEXT, SAID[1]))
            process.send_signal(signal.SIGCONT)
            for member in members:
                assert [member.message()[1] for _ in SAID] == SAID
            for raw in newest:
                answer = raw.response(has_body=False)
                assert ("sec-websocket-accept", wire.accept_of(wire.KEY)) in answer.headers
                assert raw.message()[1] == SAID[1]
            members += newest


def test_receives_that_are_seen_together_take_one_send_for_each_member():
    """Of a fan-out with io_uring."""
    def sends(rounds):
        with tempfile.TemporaryDirectory() as where:
            out = Path(where) / "strace"
            gathered_fan_outs(rounds, prefix=("strace", "-D", "-qq", "-o", str(out)))
            return submitted(out.read_text())

    assert 3 <= (sends(30) - sends(10)) / 20 <= 3.6, "two sends each would be 6"


def test_an_answer_between_gathered_receives_stays_whole():
    gathered_fan_outs(10, joining=2)


@pytest.mark.parametrize("flags", (("--port", "65536"), ("--buffers", "x"), ("--nothing",)))
def test_a_wrong_argument_is_refused(flags):
    done = subprocess.run([str(BUILD / "bench" / "limit_epoll"), *flags], capture_output=True,
                          text=True, timeout=10)
    assert done.returncode == 1
    assert "limit_epoll: " in done.stderr


SINGLE = ("shards", "accept", "latency", "slow-reader", "hot-channel", "screen")


def measure(module, *args):
    """One of the programs in Python, in one round."""
    env = {**os.environ, "TW_BUILD": str(BUILD),
           "PYTHONPATH": f"{ROOT / 'tests' / 'e2e'}:{ROOT / 'bench'}"}
    done = subprocess.run([sys.executable, "-B", "-m", f"measure.{module}", "--rounds", "1",
                           "--backend", "epoll", *args], env=env, capture_output=True, text=True,
                          timeout=SECONDS)
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    return done


@pytest.mark.parametrize("name", ("mesh-slots", "turn-budget"))
def test_the_values_of_a_flag_are_compared(name):
    done = measure("tune", "--seconds", "0.1", name)
    assert done.stdout.count(f"`--{name} ") >= 3
    assert done.returncode == 0


@pytest.mark.parametrize("name", SINGLE)
def test_a_single_figure_is_measured(name, tmp_path):
    """Whether it is good is not asked for: the shortest run says nothing about that."""
    done = measure("single", "--seconds", "0.6", "--out", str(tmp_path), name)
    assert f"`bench/single {name}`" in done.stdout
    result = json.loads((tmp_path / "single.json").read_text())[f"{name}, epoll"]
    assert len(result["values"]) == 1 and result["median"] > 0


KERNELS = {
    "simd": ("memcpy/16", "memcpy/1048576", "scalar/unmask/16", "avx2/unmask/1048576",
             "scalar/utf8_ascii/125", "avx2/json_read/200"),
    "frames": ("decode/125", "decode_small/16"),
    "queues": ("ring_batch/16", "fanout_enqueue/1000/16"),
    "tables": ("map_hit/1000", "map_miss/1000", "wheel_rearm/1000", "wheel_heartbeats/1000"),
}


@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_are_timed(name):
    text = run(BUILD / "bench" / f"kernels_{name}", "--benchmark_min_time=0.001",
               f"--benchmark_filter=^({'|'.join(KERNELS[name])})$", "--benchmark_format=csv")
    times = {line.split(",")[0].strip('"'): float(line.split(",")[2])
             for line in text.splitlines()[1:]}
    assert set(KERNELS[name]) <= set(times)
    assert all(t > 0 for t in times.values())


@pytest.mark.parametrize("name, rows", (("bench_tls_record", 9), ("bench_tls_handshake", 3)))
def test_the_programs_of_tls_measure_what_they_name(name, rows, tmp_path):
    """One round says nothing of the bounds."""
    out = tmp_path / "rows"
    done = subprocess.run([BUILD / "bench" / name, "1", out], capture_output=True, text=True,
                          timeout=SECONDS)
    assert done.returncode in (0, 1), done.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert len({row["figure"] for row in found}) == rows
    assert all(row["low"] == row["value"] == row["high"] > 0 for row in found)
