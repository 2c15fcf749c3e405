# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""The figures that Tidewire must reach, each with the way it is measured.

test_figures.py holds them to their bounds, tools/figures prints them as a table. The server is the
binary of harness.py; the client in lock step, the counter of allocations and the crowd are in
$TW_BUILD/tests, or beside the server.

Instructions are counted by callgrind: the difference between two runs that differ in rounds only,
over the messages between. Client and server share one core, and the server is of the scheduler's
class "batch", which does not interrupt: so a window is there as a whole when a turn begins, and two
runs agree within 1 %.
"""

import contextlib
import importlib
import json
import mmap
import os
import re
import statistics
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, NamedTuple

import load
from harness import BACKENDS, ROOT, Server, binary
from lockstep import PROGRAM_S, callgrind, idle, lockstep, program, run, shared_core
from probe import private_dirty, settled
from wire import BINARY, Client, frame

MEMBERS = 1000
IDLE_FEW, IDLE_MANY = 100, 15000
STEADY_PAIRS = 3
SETTLE_S = 0.05
LIBRARIES = {"libc.so.6", "libm.so.6", "liburing.so.2", "libwolfssl.so.35", "libxxhash.so.0",
             "libz.so.1", "libinih.so.1", "libhiredis.so.0.14", "libnettle.so.8",
             "linux-vdso.so.1", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}


class Figure(NamedTuple):
    text: str
    bound: float
    unit: str
    measure: Callable[[], float]
    digits: int = 1


@contextlib.contextmanager
def started(backend, *flags, **how):
    server = Server(backend, *flags, **how)
    try:
        yield server
        server.stop()
    except BaseException:
        server.kill()
        raise


# Instructions -------------------------------------------------------------------------------------

def instructions(mode, count, window, rounds, *flags):
    """Of a server under callgrind, from its start to its end."""
    with callgrind() as counter:
        with started("epoll", "--echo", "--shards", "1", *flags, prefix=counter.prefix) as server:
            lockstep(server.port, mode, count, window, rounds, prefix=shared_core())
        return counter.total()


def instructions_each(mode, count, window, few, many, *flags):
    extra = (instructions(mode, count, window, many, *flags) -
             instructions(mode, count, window, few, *flags))
    return extra / ((many - few) * count * window)


def generator_instructions(window, few, many):
    """Of tidewire-load per echo, counted like those of the server, between two runs."""
    totals = []
    with started("epoll", "--echo", "--shards", "1", prefix=shared_core()) as server, \
            callgrind() as counter:
        for messages in (few, many):
            run(*counter.prefix, load.program(), "echo", "--io", "epoll", "--url",
                f"ws://127.0.0.1:{server.port}", "--lockstep", "--window", window, "--messages",
                messages)
            totals.append(counter.total())
    return (totals[1] - totals[0]) / ((many - few) * 64)


# System calls -------------------------------------------------------------------------------------

def traced_calls(backend, mode, count, rounds):
    """All system calls of the process, as strace counts them, and those that it counts itself. As
    with instructions, client and server share a core, so that windows come as a whole."""
    share = shared_core()
    with tempfile.TemporaryDirectory() as where:
        out = Path(where) / "strace"
        with started(backend, "--echo", "--shards", "1", "--pin", "off",
                     prefix=(*share, "chrt", "--batch", "0", "strace", "-D", "-f", "-qq", "-c",
                             "-o", str(out))) as server:
            lockstep(server.port, mode, count, 1, rounds, prefix=share)
            time.sleep(SETTLE_S)  # asking is itself some calls, as many in every run
            own = server.metric("tidewire_io_syscalls_total")
        deadline = time.monotonic() + 20
        while not (out.exists() and " total" in out.read_text()):  # strace ends after the server
            assert time.monotonic() < deadline, "strace has written nothing"
            time.sleep(0.02)
        total = re.search(r"^\s*100\.00\s.*\btotal$", out.read_text(), re.M).group(0)
        return int(total.split()[3]), own


def system_calls_each(backend, mode="fanout", count=MEMBERS, few=20, many=80):
    """Per message received by the client, window 1. The server's own counter must tell the same."""
    a, b = (traced_calls(backend, mode, count, rounds) for rounds in (few, many))
    messages = (many - few) * count
    traced, own = (b[0] - a[0]) / messages, (b[1] - a[1]) / messages
    assert abs(traced - own) < 0.01, f"strace counts {traced:.4f} a message, the server {own:.4f}"
    return traced


# Memory -------------------------------------------------------------------------------------------

class Heap:
    """What tests/preload/count_alloc.c counts in a server: made for Server(env=heap.env())."""

    def __init__(self, where):
        self.path = Path(where) / "allocations"
        self.path.write_bytes(bytes(24))

    def env(self):
        return {"LD_PRELOAD": program("count_alloc.so"), "TW_COUNT_ALLOC": str(self.path)}

    def read(self):
        """Allocations so far, and bytes allocated now."""
        with open(self.path, "rb") as f, mmap.mmap(f.fileno(), 24, access=mmap.ACCESS_READ) as m:
            allocations, _, live = struct.unpack("QQq", m)
        return allocations, live


@contextlib.contextmanager
def heap_counted(backend, *flags):
    with tempfile.TemporaryDirectory() as where:
        heap = Heap(where)
        with started(backend, *flags, env=heap.env()) as server:
            assert heap.read()[0] > 0, "the counter of allocations is not loaded"
            yield server, heap


def allocations_each():
    """The most that any of echo and fan-out, windows of 1 and 16, takes per round once it is warm:
    the difference between a short and a long run on the same server, as connecting is the same in
    both. Tables that grow with a burst, and again when a quiet second has given them back, are not
    a message's: they fall into one pair of runs or another, so the least of some pairs counts."""
    worst = 0
    for backend in BACKENDS:
        with heap_counted(backend, "--echo", "--shards", "1") as (server, heap):
            for mode, count, window in (("echo", 64, 1), ("echo", 64, 16),
                                        ("fanout", 200, 1), ("fanout", 200, 16)):
                lockstep(server.port, mode, count, window, 100)  # warms up
                least = min(allocations_of_rounds(server, heap, mode, count, window)
                            for _ in range(STEADY_PAIRS))
                worst = max(worst, least / (100 * window))
    return worst


def allocations_of_rounds(server, heap, mode, count, window):
    """What 100 rounds took, connecting left out; not under zero."""
    made = []
    for rounds in (10, 110):
        before, _ = heap.read()
        lockstep(server.port, mode, count, window, rounds)
        made.append(heap.read()[0] - before)
    return max(0, made[1] - made[0])


def allocations_of_idle():
    """Heap allocations made for each idle member of a room, the larger of both backends. Pools are
    mapped; what remains are tables that double, a few allocations for any number of members. Their
    bytes count in bytes_of_idle()."""
    worst = 0
    for backend in BACKENDS:
        with heap_counted(backend, "--shards", "1") as (server, heap), idle(server.port, IDLE_FEW):
            before, _ = heap.read()
            with idle(server.port, IDLE_MANY - IDLE_FEW):
                after, _ = heap.read()
        worst = max(worst, (after - before) / (IDLE_MANY - IDLE_FEW))
    return worst


def pool_bytes(server):
    names = ("tidewire_pool_bytes", "tidewire_channel_pool_bytes")
    return sum(v for k, v in server.metrics().items() if k.startswith(names))


QUIET_S = 1.3  # after a second without events a shard gives back what it kept for the next ones


def bytes_of_idle(backend, tls=()):
    """User space per idle member: what the process grows by, or its pools, if that is more. With
    `tls`, the flags of a certificate, they come over TLS 1.3, which takes longer than a heartbeat."""
    flags = ("--tls-port", "0", "--ping-interval", "0", *tls) if tls else ()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(started(backend, "--shards", "1", *flags))
        port = server.tls_port if tls else server.port
        stack.enter_context(idle(port, IDLE_FEW, bool(tls)))
        server.metrics()  # the memory of this answer is none of theirs
        time.sleep(QUIET_S)
        dirty, pools = private_dirty(server.process.pid), pool_bytes(server)
        with idle(port, IDLE_MANY - IDLE_FEW, bool(tls)):
            time.sleep(QUIET_S)
            dirty, pools = private_dirty(server.process.pid) - dirty, pool_bytes(server) - pools
            assert server.metric("tidewire_members") == IDLE_MANY
    return max(dirty, pools) / (IDLE_MANY - IDLE_FEW)


# 100,000 connections ------------------------------------------------------------------------------

class Crowd(NamedTuple):
    connect_ms: int
    deliver_ms: int  # the slower of both broadcasts
    pongs: int


def crowd(count, threads=6, hold_s=6, ping_s=4):
    """That many members of one room in one process; what the client program saw. During the hold
    each of them is pinged, and the gauges know them all."""
    with started("uring", "--shards", "6", "--ping-interval", f"{ping_s}s") as server:
        client = subprocess.Popen([program("hundredk"), str(server.port), str(count), str(threads),
                                   str(hold_s)], text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE)
        try:
            lines = [client.stdout.readline(), client.stdout.readline()]
            if lines[1]:  # every member has had the first broadcast
                for gauge in ("members", "websockets"):
                    assert settled(lambda: server.metric(f"tidewire_{gauge}")) == count, gauge
            out, err = client.communicate(timeout=PROGRAM_S)
        finally:
            client.kill()
            client.communicate()
        assert client.returncode == 0, f"{''.join(lines)}{out}{err}"
        assert server.metric("tidewire_pong_misses_total") == 0
        assert server.metric("tidewire_deliveries_total") == 2 * count
        assert settled(lambda: server.metric("tidewire_members")) == 0
    words = [line.split() for line in lines + out.splitlines()]
    times = {w[0]: max(int(v[3]) for v in words if v[0] == w[0]) for w in words if len(w) == 4}
    return Crowd(times["connected"], times["delivered"], next(int(w[1]) for w in words
                                                             if w[0] == "pongs"))


# Latency ------------------------------------------------------------------------------------------

def is_remote(server, client):
    """Whether what this member publishes goes to a home on the other shard."""
    name = "tidewire_published_remote_total"
    before = settled(lambda: server.metric(name))
    client.send(frame(BINARY, b"where?"))
    client.frame()
    return settled(lambda: server.metric(name)) > before


def round_trips_us(members, rounds):
    """Of each member in turn, so that what else the machine does hits all alike. The shards sleep
    in between."""
    times = [[] for _ in members]
    out = frame(BINARY, b"x" * 125)
    for _ in range(rounds):
        for i, c in enumerate(members):
            time.sleep(0.0005)
            begin = time.perf_counter()
            c.sock.sendall(out)
            have = 0
            while have < 127:
                have += len(c.sock.recv(127 - have))
            times[i].append((time.perf_counter() - begin) * 1e6)
    return times


@contextlib.contextmanager
def hurried():
    """This process and those that it starts go before all others, if the user may have that."""
    try:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def other_shard_us(backend, rounds=500, tries=10):
    """How much longer the median takes when the home of the room is the other one of two shards.
    Hurried, and the least of some tries: what else the machine does is not the light load that
    is meant."""
    with hurried(), started(backend, "--shards", "2", "--pin", "on") as server:
        found = {}
        for i in range(200):
            c = Client(server.port, f"/rooms/latency-{i}")
            found.setdefault(is_remote(server, c), c)
            if len(found) == 2:
                break
        members = [found[False], found[True]]
        more = []
        for _ in range(tries):
            here, there = (statistics.median(t) for t in round_trips_us(members, rounds))
            more.append(there - here)
        for c in members:
            c.sock.close()
    return min(more)


# CPU ----------------------------------------------------------------------------------------------

def cpu_ns(server):
    """Of all its threads, the kernel's workers for it included."""
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/schedstat")
    return sum(int(t.read_text().split()[0]) for t in tasks)


def large_cpu_us(window, rounds, turns=5):
    """CPU time per echo of 16 KiB, 64 connections, by backend; the median of runs that take turns."""
    with contextlib.ExitStack() as stack:
        servers = {b: stack.enter_context(started(b, "--echo", "--shards", "1")) for b in BACKENDS}
        spent = {b: [] for b in BACKENDS}
        for turn in range(turns + 1):
            for backend, server in servers.items():
                before = cpu_ns(server)
                lockstep(server.port, "echo", 64, window, rounds, 16384)
                if turn > 0:
                    spent[backend].append((cpu_ns(server) - before) / (rounds * 64 * window) / 1e3)
        return {b: statistics.median(v) for b, v in spent.items()}


def large_ratio(window, rounds):
    cpu = large_cpu_us(window, rounds)
    return cpu["uring"] / cpu["epoll"]


SCREEN_DELAY = "5ms"
SCREEN_MEMBERS, SCREEN_RATE, SCREEN_S = 100, 1000, 1.1


def screen_run(server):
    """One of a room says 1000 messages a second for SCREEN_S; the load generator sees to it that all
    come. The server's CPU in nanoseconds."""
    before = cpu_ns(server)
    load.load("fanout", server.port, "--subscribers", SCREEN_MEMBERS, "--rate", SCREEN_RATE,
              "--warmup", "100ms", "--duration", f"{round(SCREEN_S * 1000) - 100}ms", "--threads", 1,
              "--progress", "off")
    return cpu_ns(server) - before


def screen_pairs(backend, pairs):
    """CPU of a trading screen in nanoseconds, without --write-delay and with it, in turns. Hurried: a
    server that waits for its core gathers without any delay."""
    with hurried(), contextlib.ExitStack() as stack:
        plain = stack.enter_context(started(backend, "--shards", "1"))
        delayed = stack.enter_context(started(backend, "--shards", "1", "--write-delay",
                                              SCREEN_DELAY))
        return [(screen_run(plain), screen_run(delayed)) for _ in range(pairs)]


def screen_ratio(backend, pairs=5):
    """CPU with --write-delay to that without, the median of pairs."""
    return statistics.median(delayed / plain for plain, delayed in screen_pairs(backend, pairs))


# Libraries ----------------------------------------------------------------------------------------

def libraries():
    out = run("ldd", binary())
    return {Path(line.split()[0]).name for line in out.splitlines()}


def foreign_libraries():
    return len(libraries() - LIBRARIES)


# The table ----------------------------------------------------------------------------------------

def over_redis():
    """That module uses this one."""
    return importlib.import_module("figures_redis")


FIGURES = {
    "echo-1": Figure("user-space instructions per echo of 125 B, 64 connections, 1 in flight", 600,
                     "", lambda: instructions_each("echo", 64, 1, 100, 500)),
    "echo-16": Figure("the same, 16 in flight", 300, "",
                      lambda: instructions_each("echo", 64, 16, 30, 130)),
    "fanout-1": Figure("user-space instructions per delivery, 1000 members, window 1", 250, "",
                       lambda: instructions_each("fanout", MEMBERS, 1, 20, 320)),
    "fanout-16": Figure("the same, window 16", 60, "",
                        lambda: instructions_each("fanout", MEMBERS, 16, 10, 160)),
    "calls-epoll": Figure("system calls per delivery, window 1, epoll", 1.05, "",
                          lambda: system_calls_each("epoll"), 3),
    "calls-uring": Figure("the same, io_uring", 0.05, "", lambda: system_calls_each("uring"), 3),
    "calls-echo-epoll": Figure("system calls per echo, 64 connections, 1 in flight, epoll", 2.1, "",
                               lambda: system_calls_each("epoll", "echo", 64, 50, 250), 3),
    "calls-echo-uring": Figure("the same, io_uring", 0.2, "",
                               lambda: system_calls_each("uring", "echo", 64, 50, 250), 3),
    "allocations": Figure("heap allocations per message in steady state", 0, "", allocations_each,
                          4),
    "heap-idle": Figure("heap allocations per idle connection in a room (tables that double)",
                        0.01, "", allocations_of_idle, 4),
    "idle-epoll": Figure("user-space bytes per idle plain connection in a room, epoll", 384, "B",
                         lambda: bytes_of_idle("epoll")),
    "idle-uring": Figure("the same, io_uring", 384, "B", lambda: bytes_of_idle("uring")),
    "crowd": Figure("100,000 connections in one process: a broadcast reaches all after", 30000,
                    "ms", lambda: crowd(100000).deliver_ms, 0),
    "shard-epoll": Figure("publish with the home on the other shard: p50 more by, epoll", 60, "µs",
                          lambda: other_shard_us("epoll")),
    "shard-uring": Figure("the same, io_uring", 60, "µs", lambda: other_shard_us("uring")),
    "large-1": Figure("CPU per echo of 16 KiB, 64 connections, 1 in flight: io_uring to epoll", 2,
                      "×", lambda: large_ratio(1, 100), 2),
    "large-16": Figure("the same, 16 in flight", 2, "×", lambda: large_ratio(16, 8), 2),
    "screen-epoll": Figure("CPU for 1000 messages a second to each of 100 members, with "
                           f"`--write-delay {SCREEN_DELAY}`: to that without, epoll", 0.35, "×",
                           lambda: screen_ratio("epoll"), 2),
    "screen-uring": Figure("the same, io_uring", 0.35, "×", lambda: screen_ratio("uring"), 2),
    "generator-1": Figure("instructions of tidewire-load per echo of 125 B, 64 connections, 1 in "
                          "flight", 900, "", lambda: generator_instructions(1, 20, 120)),
    "generator-16": Figure("the same, 16 in flight", 500, "",
                           lambda: generator_instructions(16, 64, 320)),
    "redis-fanout": Figure("instructions per delivery with Redis, 1000 members, window 1: to those "
                           "without", 1.05, "×", lambda: over_redis().fanout_ratio(), 3),
    "redis-epoll": Figure("publish on one node to delivery on another, 5,000 messages/s, p99, "
                          "epoll", 5, "ms", lambda: over_redis().latency_p99_ms("epoll")),
    "redis-uring": Figure("the same, io_uring", 5, "ms",
                          lambda: over_redis().latency_p99_ms("uring")),
    "redis-cpu": Figure("CPU of Redis per message, 64 at once: to redis-benchmark's PUBLISH", 1.25,
                        "×", lambda: over_redis().cpu_ratio(64), 2),
    "redis-cpu-16": Figure("the same, 16 at once", 1.25, "×", lambda: over_redis().cpu_ratio(16),
                           2),
    "redis-work": Figure("instructions of Redis per message, 64 at once: to redis-benchmark's "
                         "PUBLISH", 1.25, "×", lambda: over_redis().work_ratio(64), 3),
    "redis-work-16": Figure("the same, 16 at once", 1.25, "×",
                            lambda: over_redis().work_ratio(16), 3),
    "redis-rooms": Figure("100,000 rooms subscribed again after Redis' restart", 3, "s",
                          lambda: over_redis().resubscribe_s(), 2),
    "cluster-epoll": Figure("a cluster of three: publish on one node to delivery on another, 5,000 "
                            "messages/s, p99, epoll", 5, "ms",
                            lambda: over_redis().latency_p99_ms("epoll", over_redis().Masters)),
    "cluster-uring": Figure("the same, io_uring", 5, "ms",
                            lambda: over_redis().latency_p99_ms("uring", over_redis().Masters)),
    "cluster-cpu": Figure("CPU of a cluster's master per message, 64 at once: to redis-benchmark's "
                          "SPUBLISH", 1.25, "×",
                          lambda: over_redis().cpu_ratio(64, over_redis().Master), 2),
    "cluster-rooms": Figure("100,000 rooms subscribed again after a restart of three masters", 3,
                            "s", lambda: over_redis().resubscribe_s(store=over_redis().Masters),
                            2),
    "cluster-failover": Figure("33,000 rooms subscribed again after a failover of one of three "
                               "masters", 3, "s", lambda: over_redis().failover_s(), 2),
    "libraries": Figure("libraries of the binary beyond those it may have", 0, "",
                        foreign_libraries, 0),
}


# What was committed --------------------------------------------------------------------------------

COMMITTED = ROOT / "bench" / "results" / "instructions.json"
GROWTH_MAX = 1.05
COUNTS = ("echo-1", "echo-16", "fanout-1", "fanout-16", "calls-epoll", "calls-uring",
          "calls-echo-epoll", "calls-echo-uring", "allocations")


def noise(name):
    """How far small counts vary: one instruction, or a hundredth of a system call."""
    return 1.0 if name.startswith(("echo", "fanout")) else 0.01


def committed():
    """Counts by name, as bench/instructions --write left them."""
    return {name: row["value"]
            for name, row in json.loads(COMMITTED.read_text())["figures"].items()}


def growth(name, value, was):
    """What to say when a count has grown beyond what is committed, else None."""
    if value <= GROWTH_MAX * was[name] + noise(name):
        return None
    return (f"{name} is {value:.4g} and was {was[name]:.4g}: more than {GROWTH_MAX - 1:.0%} over "
            f"{COMMITTED.relative_to(ROOT)}. Mend it, or say why and commit what "
            "`bench/instructions --write` writes.")
