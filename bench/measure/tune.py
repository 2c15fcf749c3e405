# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""bench/tune: what a flag of the server does. A server for each of its values, the same load against
each in turn; what is compared is measured in the same round. Servers and load generator go before
other programs, where the user may have that."""

import argparse
import contextlib
import subprocess
from typing import NamedTuple

import figures
import load
from harness import BACKENDS
from measure import machine
from measure.statistics import order_of_round, paired, spread


class Load(NamedTuple):
    name: str
    scenario: str
    flags: tuple
    beside: tuple = ()  # arguments of another load that runs meanwhile


class Flag(NamedTuple):
    """The first value is what the others are compared with; `server` are further flags."""

    values: tuple
    server: tuple
    loads: tuple
    backends: tuple = BACKENDS


class Sample(NamedTuple):
    cpu_us: float  # of the server for a message
    rate: float
    p50_ms: float
    p99_ms: float


def echo(payload, count, window):
    return ("--connections", count, "--payload", payload, "--window", window, "--threads", 1)


ECHOES = (Load("echo of 16 KiB, 64 connections, 1 in flight", "echo", echo("16KiB", 64, 1)),
          Load("the same, 16 in flight", "echo", echo("16KiB", 64, 16)))
INFLATING = ("echo", "--compress", "on", "--connections", "4", "--payload", "4MiB", "--threads", "1")

FLAGS = {
    "send-batch": Flag(("256KiB", "16KiB", "64KiB", "1MiB"), ("--shards", "1", "--echo"), ECHOES),
    "recv-buffers": Flag(("0", "16", "64", "256"), ("--shards", "1", "--echo"), ECHOES, ("uring",)),
    "mesh-slots": Flag(("1024", "16", "128", "16384"), ("--shards", "2"), (
        Load("8 publishers, 64 in flight each, to 100 members over two shards", "fanout",
             ("--publishers", 8, "--subscribers", 100, "--window", 64, "--threads", 1)),)),
    "turn-budget": Flag(("2ms", "200us", "20ms"), ("--shards", "1", "--echo", "--compress", "on",
                                                  "--max-message", "8MiB", "--max-queue", "64MiB"), (
        Load("echoes, 1000 a second, beside 4 clients with compressed messages of 4 MiB", "echo",
             ("--connections", 16, "--rate", 1000, "--threads", 1), INFLATING),)),
    "write-delay": Flag(("0", "1ms", "5ms", "20ms"), ("--shards", "1"), tuple(
        Load(f"{rate} messages a second to each of 100", "fanout",
             ("--subscribers", 99, "--rate", rate, "--threads", 1)) for rate in (100, 1000, 5000))),
    "incoming-cpu": Flag(("off", "on"), ("--shards", "2", "--echo"), (
        Load("echo of 125 B, 64 connections, 1 in flight", "echo",
             ("--connections", 64, "--threads", 2)),
        Load("the same, 16 in flight", "echo",
             ("--connections", 64, "--window", 16, "--threads", 2)),
        Load("fan-out to 500", "fanout", ("--subscribers", 500, "--threads", 2)))),
}


@contextlib.contextmanager
def meanwhile(server, argv):
    """That load runs, until the block ends; nobody looks at what it says. It does not go before
    others: it must not delay the one that is looked at."""
    if not argv:
        yield
        return
    p = subprocess.Popen(["chrt", "--other", "0", load.program(), *argv, "--url",
                          f"ws://127.0.0.1:{server.port}", "--duration", "60s", "--progress",
                          "off"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        p.kill()
        p.wait()


def measure(server, what, seconds):
    with meanwhile(server, what.beside):
        before = figures.cpu_ns(server)
        result = load.load(what.scenario, server.port, "--duration", f"{int(seconds * 1000)}ms",
                           "--warmup", "200ms", "--progress", "off", *what.flags)
        cpu_us = (figures.cpu_ns(server) - before) / 1e3
    latency = result["latency_us"]
    return Sample(cpu_us / result["messages"]["total_received"],
                  result["messages"]["received_per_second"], latency["p50"] / 1e3,
                  latency["p99"] / 1e3)


def in_rounds(flag, name, what, backend, rounds, seconds):
    with contextlib.ExitStack() as stack:
        servers = {v: stack.enter_context(figures.started(backend, f"--{name}", v, *flag.server))
                   for v in flag.values}
        found = {v: [] for v in flag.values}
        for number in range(rounds):
            for value in order_of_round(list(flag.values), number):
                found[value].append(measure(servers[value], what, seconds))
    return found


def show(found, name, backend, what):
    base = next(iter(found))
    for value, samples in found.items():
        cpu = paired([s.cpu_us for s in samples], [s.cpu_us for s in found[base]])
        rate = paired([s.rate for s in samples], [s.rate for s in found[base]])
        p50, p99 = (spread([s[i] for s in samples]).median for i in (2, 3))
        print(f"| `--{name} {value}`, {backend} | {what.name} | "
              f"{spread([s.cpu_us for s in samples]).median:.3g} | "
              f"{cpu.median:.2f} ({cpu.low:.2f} – {cpu.high:.2f}) | "
              f"{rate.median:.2f} ({rate.low:.2f} – {rate.high:.2f}) | {p50:.3g}, {p99:.3g} |",
              flush=True)


def parse():
    p = argparse.ArgumentParser(prog="bench/tune", description=__doc__)
    p.add_argument("names", nargs="*", metavar="FLAG", help=" ".join(FLAGS))
    p.add_argument("--rounds", type=int, default=7)
    p.add_argument("--seconds", type=float, default=0.5, help="of each measurement")
    p.add_argument("--backend", choices=BACKENDS, help="by default both")
    args = p.parse_args()
    for name in args.names:
        if name not in FLAGS:
            p.error(f"no flag {name}; there are: {' '.join(FLAGS)}")
    return args


def main():
    args = parse()
    machine.end_by_sigterm()
    print("| flag | load | CPU a message, µs | to the default's | rate to the default's | "
          "p50, p99, ms |\n| --- | --- | --- | --- | --- | --- |")
    for name in args.names or FLAGS:
        flag = FLAGS[name]
        for backend in [b for b in flag.backends if args.backend in (None, b)]:
            for what in flag.loads:
                with figures.hurried():
                    found = in_rounds(flag, name, what, backend, args.rounds, args.seconds)
                show(found, name, backend, what)


if __name__ == "__main__":
    main()
