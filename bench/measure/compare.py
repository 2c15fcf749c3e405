# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""bench/compare: every load against every contestant, in rounds that take turns. It may be ended at
any time (Ctrl-C): what was gathered is written, and --resume goes on from there."""

import argparse
import datetime
import json
import os
import signal
import sys
import time
from pathlib import Path

from measure import load, machine, report, servers
from measure.load import Cell
from measure.statistics import order_of_round

PAYLOADS = (16, 125, 1024, 16384)
QUICK_S = 540


def cells(quick):
    echo = [Cell("echo", p, c, w) for p in ((125, 16384) if quick else PAYLOADS)
            for c in (64, 1000) for w in (1, 16)]
    return (echo + [Cell("fanout", 125, s, w) for s in (100, 1000, 5000) for w in (1, 16)]
            + tls_cells(quick))


def tls_cells(quick):
    echo = [Cell("echo", p, 64, w, tls=True) for p in ((125,) if quick else (125, 1024, 16384))
            for w in (1, 16)]
    return [*echo, *(Cell("fanout", 125, 1000, w, tls=True) for w in (1, 16)),
            *(Cell("storm", 0, 64, 1, tls=True, resume=r) for r in (False, True))]


class Comparison:
    def __init__(self, args):
        self.args = args
        cores = sorted(os.sched_getaffinity(0))
        self.server_core, self.load_core = cores[0], cores[-1]
        everyone = [*(servers.tidewire(args.build, b) for b in ("uring", "epoll")),
                    *(servers.tidewire_tls(args.build, b) for b in ("uring", "epoll")),
                    *servers.limits(args.build), *servers.peers(args.modules),
                    *servers.tls_peers(args.modules)]
        if args.only:
            everyone = [c for c in everyone if c.name in args.only]
        self.servers = servers.Stable(everyone, self.server_core, args.modules)
        self.results = {}
        self.failures = {}  # in the order in which they came, each once

    def measure(self, name, cell):
        """A Sample, or None: a failure is told and leaves a gap."""
        try:
            server = self.servers.get(name, cell.kind())
            return load.run(self.args.load, ["taskset", "-c", str(self.load_core)], cell, server,
                            self.args.seconds, self.args.warmup)
        except (servers.StartFailed, load.LoadFailed) as e:
            self.failures[f"{name}, {cell.name()}: {e}"] = True
            return None

    def round(self, cell, number):
        names = self.servers.names(cell.kind())
        found = {name: self.measure(name, cell) for name in order_of_round(names, number)}
        for name in names:
            self.results.setdefault(cell, {}).setdefault(name, []).append(found[name])

    def rounds_of(self, cell):
        return max((len(samples) for samples in self.results.get(cell, {}).values()), default=0)

    def run(self, wanted, deadline):
        """Round by round over all cells, so that every cell has seen as many when time is up. Those
        that were gathered before are not measured again. Returns the rounds that all cells have."""
        try:
            self.run_rounds(wanted, deadline)
        except KeyboardInterrupt:
            print("ended early", file=sys.stderr)
        return min(self.rounds_of(cell) for cell in wanted)

    def run_rounds(self, wanted, deadline):
        for number in range(self.args.rounds):
            begin = time.monotonic()
            for cell in wanted:
                if self.rounds_of(cell) <= number:
                    self.round(cell, number)
                    self.keep()
            done = number + 1
            took = time.monotonic() - begin
            print(f"round {done} of {self.args.rounds}: {took:.0f} s", file=sys.stderr, flush=True)
            if deadline is not None and time.monotonic() + took > deadline:
                break

    def manner(self):
        """What measurements must have in common."""
        return [self.args.quick, self.args.seconds, self.args.only]

    def keep(self):
        """Writes what was gathered, for --resume."""
        kept = {"manner": self.manner(), "failures": list(self.failures),
                "cells": [[cell, by_name] for cell, by_name in self.results.items()]}
        new = self.args.kept.with_suffix(".new")
        new.write_text(json.dumps(kept))
        new.rename(self.args.kept)

    def go_on(self):
        """Reads what keep() has written."""
        if not self.args.kept.exists():
            raise SystemExit(f"bench/compare: --resume: nothing was gathered ({self.args.kept})")
        kept = json.loads(self.args.kept.read_text())
        if kept["manner"] != json.loads(json.dumps(self.manner())):
            raise SystemExit("bench/compare: --resume: --quick, --seconds and --only must be those of "
                             "the run that was ended")
        self.failures = dict.fromkeys(kept["failures"], True)
        self.results = {
            Cell(*cell): {name: [None if s is None else load.Sample(*s) for s in samples]
                          for name, samples in by_name.items()}
            for cell, by_name in kept["cells"]}

    def about(self, rounds, where):
        return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
                "machine": where, "rounds": rounds, "seconds": self.args.seconds,
                "server_core": self.server_core, "load_core": self.load_core,
                "versions": machine.versions(self.args.build,
                                             servers.bun_program(self.args.modules)),
                "failures": list(self.failures)}


def parse(argv):
    p = argparse.ArgumentParser(prog="bench/compare", description=__doc__)
    p.add_argument("--quick", action="store_true",
                   help="fewer loads and as many rounds as fit into 9 minutes")
    p.add_argument("--rounds", type=int, help="by default 9")
    p.add_argument("--seconds", type=float, help="of each measurement; by default 1, quick 0.5")
    p.add_argument("--only", nargs="+", metavar="NAME", help="these contestants")
    p.add_argument("--cells", metavar="WORDS", help="loads whose name has all these words")
    p.add_argument("--resume", action="store_true", help="goes on with what was gathered")
    p.add_argument("--out", type=Path, default=servers.BENCH / "results")
    p.add_argument("--build", type=Path, required=True, help=argparse.SUPPRESS)
    p.add_argument("--modules", type=Path, required=True, help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    args.load = args.build / "tidewire-load"
    args.kept = args.build / "compare-gathered.json"
    args.rounds = args.rounds or 9
    args.seconds = args.seconds or (0.5 if args.quick else 1.0)
    args.warmup = 0.2 if args.quick else 0.3
    return args


def write(comparison, rounds, where):
    out = comparison.args.out
    out.mkdir(parents=True, exist_ok=True)
    about = comparison.about(rounds, where)
    (out / "compare.json").write_text(
        json.dumps(report.to_json(comparison.results, about), indent=1) + "\n")
    text = report.markdown(comparison.results, about)
    (out / "compare.md").write_text(text)
    report.plots(comparison.results, out)
    return text


def main(argv=None):
    args = parse(argv)
    wanted = [c for c in cells(args.quick)
              if all(word in c.name() for word in (args.cells or "").split())]
    if not wanted:
        raise SystemExit(f"bench/compare: no load has all of: {args.cells}")
    where = machine.describe()
    comparison = Comparison(args)
    if args.resume:
        comparison.go_on()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        rounds = comparison.run(wanted, time.monotonic() + QUICK_S if args.quick else None)
    finally:
        comparison.servers.stop()
    if comparison.results:
        print(write(comparison, rounds, where))


if __name__ == "__main__":
    main()
