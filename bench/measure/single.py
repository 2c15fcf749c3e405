# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""bench/single: figures that compare a server with itself or with a limit, one command each. What is
compared is measured in the same round, one right after the other; CPU is that of all threads of the
server. Servers and load generator go before other programs, where the user may have that."""

import argparse
import contextlib
import datetime
import json
import os
import socket
import subprocess
import time
from pathlib import Path
from typing import Callable, NamedTuple

import figures
import load
from harness import BACKENDS, ROOT
from measure import machine
from measure.statistics import order_of_round, paired, spread
from wire import BINARY, Client, frame, request

MEMBERS = 1000
PAYLOAD = 125


class Plan(NamedTuple):
    """How much is measured."""

    backend: str
    rounds: int
    seconds: float


class Figure(NamedTuple):
    """`measure(plan)` gives the values of the rounds, and what else is to be told, by name. `bound`
    is the most that the median may be, or with at_least the least; of what else is told, NAME may be
    at most what is told as NAME_must."""

    text: str
    bound: float
    at_least: bool
    unit: str
    measure: Callable


def ms(seconds):
    return f"{int(seconds * 1000)}ms"


def run_load(scenario, server, plan, *flags, warmup="200ms"):
    return load.load(scenario, server.port, "--duration", ms(plan.seconds), "--warmup", warmup,
                     "--progress", "off", *flags)


def in_rounds(plan, contestants):
    """What each of {name: function} gave in each round, in turns."""
    found = {name: [] for name in contestants}
    for number in range(plan.rounds):
        for name in order_of_round(list(contestants), number):
            found[name].append(contestants[name]())
    return found


def column(rows, i):
    return [row[i] for row in rows]


def median(values):
    return spread(values).median


@contextlib.contextmanager
def tidewire(plan, *flags):
    with figures.started(plan.backend, *flags) as server:
        yield server


class Limit(NamedTuple):
    """Looks to figures.cpu_ns() and load.load() like a server."""

    port: int
    process: subprocess.Popen


@contextlib.contextmanager
def limit(plan):
    """The limit program of epoll: the least that accepting and answering takes. On the core that
    the first shard of Tidewire is pinned to."""
    core = min(os.sched_getaffinity(0))
    program = Path(os.environ["TW_BUILD"]) / "bench" / "limit_epoll"
    with subprocess.Popen(["taskset", "-c", str(core), program, "--seconds", "600"],
                          stdout=subprocess.PIPE, text=True) as p:
        try:
            yield Limit(int(p.stdout.readline().split()[1]), p)
        finally:
            p.kill()


# Two shards ---------------------------------------------------------------------------------------

def delivery_us(server, plan, *flags):
    """CPU of the server for a delivery, connecting left out as far as a message can."""
    before = figures.cpu_ns(server)
    result = run_load("fanout", server, plan, "--threads", 1, *flags)
    return (figures.cpu_ns(server) - before) / 1e3 / result["messages"]["total_received"]


def two_shards(plan):
    with tidewire(plan, "--shards", "1") as one, tidewire(plan, "--shards", "2") as two:
        flags = ("--subscribers", MEMBERS, "--payload", PAYLOAD)
        found = in_rounds(plan, {"one": lambda: delivery_us(one, plan, *flags),
                                 "two": lambda: delivery_us(two, plan, *flags)})
    return ([t / o for t, o in zip(found["two"], found["one"])],
            {"us_one": median(found["one"]), "us_two": median(found["two"])})


# Accepting ----------------------------------------------------------------------------------------

def storm(server, plan):
    """Connections a second, and CPU of each in microseconds. Each is upgraded, and closed."""
    before = figures.cpu_ns(server)
    result = run_load("storm", server, plan, "--connections", 64, "--path", "/echo", "--threads", 1,
                      warmup="0")
    cpu_us = (figures.cpu_ns(server) - before) / 1e3
    opened = result["storm"]["opened"]
    return opened / result["seconds"], cpu_us / opened, result["generator"]["bottleneck"]


def accepting(plan):
    """Connections a second that the CPU they take allows, to those of the limit."""
    with tidewire(plan, "--shards", "1", "--echo") as ours, limit(plan) as least:
        found = in_rounds(plan, {"ours": lambda: storm(ours, plan),
                                 "limit": lambda: storm(least, plan)})
    ratios = [t / o for o, t in zip(column(found["ours"], 1), column(found["limit"], 1))]
    return ratios, {"per_second": median(column(found["ours"], 0)),
                    "limit_per_second": median(column(found["limit"], 0)),
                    "us_each": median(column(found["ours"], 1)),
                    "limit_us_each": median(column(found["limit"], 1)),
                    "generator_was_the_limit": any(column(found["ours"], 2))}


# Latency ------------------------------------------------------------------------------------------

# Who goes before other programs for 950 ms of a second has to stand back for the rest of it: see
# sched_rt_runtime_us in sched(7). The generator never sleeps at such a rate.
LATENCY_S, LATENCY_PAUSE_S = 0.5, 0.5


def echoes(server, plan, *flags):
    time.sleep(LATENCY_PAUSE_S)
    return run_load("echo", server, plan._replace(seconds=min(plan.seconds, LATENCY_S)),
                    "--connections", 64, "--payload", PAYLOAD, "--threads", 1, *flags)


def latency(plan):
    """p99 of echoes that are due at half of the rate that 64 connections reach, each with one under
    way."""
    values, rates, lags = [], [], []
    with tidewire(plan, "--shards", "1", "--echo") as s:
        for _ in range(plan.rounds):
            most = echoes(s, plan)["messages"]["received_per_second"]
            half = echoes(s, plan, "--rate", int(most / 2))
            values.append(half["latency_us"]["p99"] / 1e3)
            lags.append(half["lag_us"]["p99"] / 1e3)
            rates.append(most)
    return values, {"per_second_at_most": median(rates), "generator_late_by_p99_ms": median(lags)}


# One that stops reading ---------------------------------------------------------------------------

@contextlib.contextmanager
def stalled(server, path):
    """A member that reads nothing after its handshake, and for which the kernel keeps little."""
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", server.port))
        sock.sendall(request(path, "localhost"))
        assert sock.recv(1024).startswith(b"HTTP/1.1 101")
        yield


def room_of_many(server, plan, path):
    """CPU of a delivery, and p99 of their latency in milliseconds."""
    before = figures.cpu_ns(server)
    result = run_load("fanout", server, plan, "--threads", 1, "--subscribers", MEMBERS - 1,
                      "--path", path, "--rate", 50, "--payload", 1000)
    cpu_us = (figures.cpu_ns(server) - before) / 1e3
    return cpu_us / result["messages"]["total_received"], result["latency_us"]["p99"] / 1e3


def with_one_stalled(server, plan, path):
    with stalled(server, path):
        found = room_of_many(server, plan, path)
        assert server.metric("tidewire_queue_bytes") > 0, "nobody has stopped reading"
        return found


def slow_reader(plan):
    """The others' CPU per delivery with one that stops reading, to that without."""
    with tidewire(plan, "--shards", "1", "--tcp-sndbuf", "16KiB", "--max-queue", "16MiB") as s:
        found = in_rounds(plan, {"all": lambda: room_of_many(s, plan, "/rooms/all"),
                                 "slow": lambda: with_one_stalled(s, plan, "/rooms/slow")})
    p99 = paired(column(found["slow"], 1), column(found["all"], 1))
    return ([s / a for s, a in zip(column(found["slow"], 0), column(found["all"], 0))],
            {"p99_ratio": p99.median, "p99_ratio_must": 1.25,
             "p99_ms": median(column(found["all"], 1))})


# A hot channel ------------------------------------------------------------------------------------

def threads_by_core(server):
    """Of the shards: the core that each is pinned to, and its thread."""
    found = {}
    for task in Path(f"/proc/{server.process.pid}/task").iterdir():
        cores = os.sched_getaffinity(int(task.name))
        if len(cores) == 1:
            found[cores.pop()] = task / "schedstat"
    return found


def room_away(server, core):
    """The path of a room whose home is not the shard of that core, on which this runs."""
    for i in range(100):
        path = f"/rooms/hot-{i}"
        with Client(server.port, path) as c:
            before = figures.settled(lambda: server.metric("tidewire_published_remote_total"))
            c.send(frame(BINARY, b"?"))
            c.frame()
            if figures.settled(lambda: server.metric("tidewire_published_remote_total")) > before:
                return path
    raise AssertionError("all rooms are at home here")


def cpu_of(schedstat):
    return int(schedstat.read_text().split()[0])


def publishes_of_home(server, plan, path, thread):
    names = ("tidewire_ordered_total", "tidewire_published_remote_total")
    counts = [server.metric(name) for name in names]
    before = cpu_of(thread)
    result = run_load("fanout", server, plan, "--publishers", 4, "--subscribers", 0, "--window",
                      256, "--path", path, "--payload", PAYLOAD, "--threads", 1)
    ordered, remote = (figures.settled(lambda name=name: server.metric(name)) - count
                       for name, count in zip(names, counts))
    assert remote == ordered, "not all publishers were on the other shard"
    return (ordered / ((cpu_of(thread) - before) / 1e9),
            result["messages"]["sent_per_second"])


def hot_channel(plan):
    """Publishes a second that one core's worth of the home shard's CPU would order and pass on.
    With --incoming-cpu all publishers are on the shard of the core that they come from."""
    first, second = sorted(os.sched_getaffinity(0))[:2]
    whole = os.sched_getaffinity(0)
    with tidewire(plan, "--shards", "2", "--incoming-cpu", "on") as s:
        os.sched_setaffinity(0, {first})
        try:
            path, thread = room_away(s, first), threads_by_core(s)[second]
            rows = [publishes_of_home(s, plan, path, thread) for _ in range(plan.rounds)]
            return column(rows, 0), {"published_per_second": median(column(rows, 1))}
        finally:
            os.sched_setaffinity(0, whole)


# The table ----------------------------------------------------------------------------------------

def screen(plan):
    pairs = figures.screen_pairs(plan.backend, plan.rounds)
    return ([delayed / plain for plain, delayed in pairs],
            {"share_without": median([plain / 1e9 / figures.SCREEN_S for plain, _ in pairs]),
             "share_without_must": 0.70})


FIGURES = {
    "shards": Figure("CPU of a delivery to 1000 members, two shards to one", 1.10, False, "×",
                     two_shards),
    "accept": Figure("connections accepted and upgraded by the CPU they take, to the limit's", 0.8,
                     True, "×", accepting),
    "latency": Figure("p99 of an echo, 64 connections, at half of the most a second", 1, False,
                      "ms", latency),
    "slow-reader": Figure("CPU of a delivery to the other 999 while one does not read, to when all "
                          "do", 1.05, False, "×", slow_reader),
    "hot-channel": Figure("publishes that a core of the home passes on to the other shard", 300000,
                          True, "/s", hot_channel),
    "screen": Figure("CPU of a trading screen with `--write-delay 5ms`, to that without", 0.35,
                     False, "×", screen),
}


def show(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def is_good(figure, median_value, more):
    good = median_value >= figure.bound if figure.at_least else median_value <= figure.bound
    return good and all(more[k.removesuffix("_must")] <= v for k, v in more.items()
                        if k.endswith("_must"))


def row(name, backend, figure, values, more):
    s = spread(values)
    good = is_good(figure, s.median, more)
    extra = "; ".join(f"{k} {show(v) if isinstance(v, float) else v}" for k, v in more.items())
    print(f"| {figure.text}, {backend} | {'≥' if figure.at_least else '≤'} {show(figure.bound)} "
          f"{figure.unit} | {show(s.median)} ({show(s.low)} – {show(s.high)}) | {extra} | "
          f"`bench/single {name}` |", flush=True)
    return good, {"text": figure.text, "must": figure.bound, "at_least": figure.at_least,
                  "unit": figure.unit, "median": s.median, "low": s.low, "high": s.high,
                  "values": values, **more}


def write(path, found):
    """Figures that were not measured now stay as they are."""
    old = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**old, **found}, indent=1) + "\n")


def parse():
    p = argparse.ArgumentParser(prog="bench/single", description=__doc__)
    p.add_argument("names", nargs="*", metavar="NAME", help=" ".join(FIGURES))
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    p.add_argument("--backend", choices=BACKENDS, help="by default both")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results")
    args = p.parse_args()
    for name in args.names:
        if name not in FIGURES:
            p.error(f"no figure {name}; there are: {' '.join(FIGURES)}")
    return args


def main():
    args = parse()
    machine.end_by_sigterm()
    found, missed = {}, 0
    print("| figure | must | median (quartiles) | more | command |\n| --- | --- | --- | --- | --- |")
    for name in args.names or FIGURES:
        for backend in [args.backend] if args.backend else BACKENDS:
            where = machine.describe()
            with figures.hurried():
                values, more = FIGURES[name].measure(Plan(backend, args.rounds, args.seconds))
            good, result = row(name, backend, FIGURES[name], values, more)
            missed += not good
            found[f"{name}, {backend}"] = {
                **result, "rounds": args.rounds, "seconds": args.seconds, "machine": where,
                "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")}
    write(args.out / "single.json", found)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
