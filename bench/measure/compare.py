# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""bench/compare: every load against every contestant, in rounds that take turns. It may be ended at
any time (Ctrl-C): what was gathered is written, and --resume goes on from there."""

import argparse
import contextlib
import datetime
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from measure import goals, load, machine, report, servers
from measure.cells import cells
from measure.load import Cell
from measure.statistics import order_of_round

QUICK_S = 540
QUICK_END_S = 585  # within a round, too
ROUNDS = 9


class Remaining:
    """How long what is left takes: by what each load took so far, at first by a guess."""

    OVERHEAD_S = 0.9  # of a measurement: connecting, what is under way at the end, processes

    def __init__(self, names_of, guess_s):
        self.names_of = names_of  # a function: the contestants of a load
        self.guess_s = guess_s    # of one measurement
        self.took = {}            # of a load: seconds, times

    def note(self, cell, seconds):
        total, times = self.took.get(cell, (0, 0))
        self.took[cell] = total + seconds, times + 1

    def of_round(self, cell):
        if cell in self.took:
            total, times = self.took[cell]
            return total / times
        spent = sum(total for total, _ in self.took.values())
        measured = sum(times * len(self.names_of(c)) for c, (_, times) in self.took.items())
        return len(self.names_of(cell)) * (spent / measured if measured else self.guess_s)

    def seconds(self, rounds_left):
        """`rounds_left` of each load."""
        return sum(n * self.of_round(cell) for cell, n in rounds_left.items())


class Comparison:
    def __init__(self, args):
        self.args = args
        cores = sorted(os.sched_getaffinity(0))
        self.server_core, self.load_core = cores[0], cores[-1]
        everyone = [*(servers.tidewire(args.build, b) for b in ("uring", "epoll")),
                    *(servers.tidewire_tls(args.build, b) for b in ("uring", "epoll")),
                    *servers.limits(args.build), *servers.peers(args.modules),
                    *servers.tls_peers(args.modules)]
        known = {c.name for c in everyone}
        if unknown := set(args.only or ()) - known:
            raise SystemExit(f"bench/compare: --only: no contestant {', '.join(sorted(unknown))}; there "
                             f"are: {' '.join(sorted(known))}")
        if args.only:
            everyone = [c for c in everyone if c.name in args.only]
        self.servers = servers.Stable(everyone, self.server_core, args.modules)
        self.results = {}
        self.singles = {}   # what bench/single has found, by figure and backend
        self.failures = {}  # in the order in which they came, each once
        self.remaining = Remaining(lambda cell: self.servers.names(cell.kind()),
                                   args.seconds + args.warmup + Remaining.OVERHEAD_S)

    def measure(self, name, cell):
        """A Sample, or None: a failure is told and leaves a gap."""
        try:
            server = self.servers.get(name, cell.kind())
            return load.run(self.args.load, ["taskset", "-c", str(self.load_core)], cell, server,
                            self.args.seconds, self.args.warmup)
        except (servers.StartFailed, load.LoadFailed, OSError) as e:
            self.failures[f"{name}, {cell.name()}: {e}"] = True
            self.servers.drop(name, cell.kind())
            return None

    def round(self, cell, number):
        names = self.servers.names(cell.kind())
        found = {name: self.measure(name, cell) for name in order_of_round(names, number)}
        for name in names:
            self.results.setdefault(cell, {}).setdefault(name, []).append(found[name])

    def rounds_of(self, cell):
        return max((len(samples) for samples in self.results.get(cell, {}).values()), default=0)

    def run(self, wanted, begun):
        """Round by round over all cells, so that every cell has seen as many when time is up; then the
        figures of bench/single, where nothing was left out. What was gathered before is not measured
        again. Returns the rounds that all cells have."""
        try:
            if self.run_rounds(wanted, begun) and self.args.is_whole:
                self.servers.stop()
                self.run_single()
        except KeyboardInterrupt:
            print("ended early", file=sys.stderr)
        return min(self.rounds_of(cell) for cell in wanted)

    def seconds_left(self, wanted):
        singles = len(goals.SINGLE) - len(self.singles_done())
        return (self.remaining.seconds({c: max(0, self.args.rounds - self.rounds_of(c))
                                        for c in wanted})
                + (singles * self.args.rounds * SINGLE_ROUND_S if self.args.is_whole else 0))

    def run_rounds(self, wanted, begun):
        """Returns whether all rounds were made."""
        tell(f"{len(wanted)} loads, {self.args.rounds} rounds: {self.time_text(wanted)}")
        for number in range(self.args.rounds):
            round_begun = time.monotonic()
            for cell in wanted:
                if self.rounds_of(cell) > number:
                    continue
                if self.args.quick and time.monotonic() - begun > QUICK_END_S:
                    return False
                before = time.monotonic()
                self.round(cell, number)
                took = time.monotonic() - before
                self.remaining.note(cell, took)
                self.keep()
                tell(f"round {number + 1} of {self.args.rounds}, {cell.name()}: {took:.0f} s; "
                     f"{self.time_text(wanted)}")
            now = time.monotonic()
            if self.args.quick and now + (now - round_begun) > begun + QUICK_S:
                return False
        return True

    def time_text(self, wanted):
        if self.args.quick:
            return f"{QUICK_END_S / 60:.0f} minutes at most from the start"
        left = self.seconds_left(wanted)
        return f"about {left / 60:.0f} minutes to go" if left >= 90 else f"about {left:.0f} s to go"

    def singles_done(self):
        return {name.split(",")[0] for name in self.singles}

    def run_single(self):
        """bench/single's figures, which go to the same place and stand in the same table."""
        for name in goals.SINGLE:
            if name not in self.singles_done():
                tell(f"bench/single {name}")
                self.single(name)
                self.keep()

    def single(self, name):
        argv = [sys.executable, "-B", "-m", "measure.single", "--rounds", str(self.args.rounds),
                "--out", str(self.args.out), name]
        env = {**os.environ, "TW_BINARY": str(self.args.build / "tidewire"),
               "TW_BUILD": str(self.args.build),
               "PYTHONPATH": f"{servers.BENCH.parent / 'tests' / 'e2e'}:{servers.BENCH}"}
        try:
            code, errors = outcome(argv, env,
                                   SINGLE_SLACK_S + 10 * self.args.rounds * SINGLE_ROUND_S)
        except subprocess.TimeoutExpired:
            self.failures[f"bench/single {name}: did not end"] = True
            return
        if code not in (0, 1) or errors.strip():  # 1: something was missed
            lines = errors.strip().splitlines() or [f"exit code {code}"]
            self.failures[f"bench/single {name}: {lines[-1]}"] = True
            return
        found = json.loads((self.args.out / "single.json").read_text())
        self.singles.update({key: row for key, row in found.items() if key.startswith(f"{name},")})

    def manner(self):
        """What measurements must have in common: how they are made, and of which programs."""
        programs = ("tidewire", "tidewire-load", "bench/limit_epoll", "bench/limit_uring")
        return [self.args.quick, self.args.seconds, self.args.only,
                {p: digest(self.args.build / p) for p in programs}]

    def keep(self):
        """Writes what was gathered, for --resume."""
        kept = {"manner": self.manner(), "failures": list(self.failures),
                "singles": self.singles,
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
            raise SystemExit("bench/compare: --resume: --quick, --seconds, --only and the programs must "
                             "be those of the run that was ended")
        self.failures = dict.fromkeys(kept["failures"], True)
        self.singles = kept["singles"]
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


# A figure of bench/single, a round, both backends.
SINGLE_ROUND_S = 6
SINGLE_SLACK_S = 120


STOP_S = 20


def outcome(argv, env, timeout_s):
    """Exit code and standard error of a program that may end its servers, whatever happens here."""
    with subprocess.Popen(argv, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          text=True) as p:
        try:
            errors = p.communicate(timeout=timeout_s)[1]
        except BaseException:
            p.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(STOP_S)
            p.kill()
            raise
        return p.returncode, errors


def tell(text):
    print(text, file=sys.stderr, flush=True)


def digest(program):
    return hashlib.sha256(program.read_bytes()).hexdigest() if program.exists() else None


def parse(argv):
    p = argparse.ArgumentParser(prog="bench/compare", description=__doc__)
    p.add_argument("--quick", action="store_true",
                   help="fewer loads and as many rounds as fit into 9 minutes")
    p.add_argument("--rounds", type=int, default=ROUNDS, help="by default 9")
    p.add_argument("--seconds", type=float, help="of each measurement; by default 1, quick 0.5")
    p.add_argument("--only", nargs="+", metavar="NAME", help="these contestants")
    p.add_argument("--cells", metavar="WORDS", help="loads whose name has all these words")
    p.add_argument("--resume", action="store_true", help="goes on with what was gathered")
    p.add_argument("--out", type=Path, default=servers.BENCH / "results")
    p.add_argument("--readme", type=Path, default=servers.BENCH / "README.md",
                   help="gets the table of what must be reached, after 9 rounds of everything")
    p.add_argument("--build", type=Path, required=True, help=argparse.SUPPRESS)
    p.add_argument("--modules", type=Path, required=True, help=argparse.SUPPRESS)
    args = p.parse_args(argv)
    args.load = args.build / "tidewire-load"
    args.kept = args.build / "compare-gathered.json"
    args.is_whole = not (args.quick or args.only or args.cells)
    if args.rounds < 1:
        p.error("--rounds: at least 1")
    args.seconds = args.seconds or (0.5 if args.quick else 1.0)
    args.warmup = 0.2 if args.quick else 0.3
    return args


def write(comparison, rounds, where):
    """All that is kept of a comparison. Returns the text."""
    out = comparison.args.out
    out.mkdir(parents=True, exist_ok=True)
    about = comparison.about(rounds, where)
    results = report.with_pooled(comparison.results)
    verdicts = goals.judge(results, comparison.singles)
    told = {**report.to_json(results, about), "goals": [v._asdict() for v in verdicts]}
    (out / "compare.json").write_text(json.dumps(told, indent=1) + "\n")
    reached = goals.parts(verdicts)
    text = report.markdown(results, about, reached)
    (out / "compare.md").write_text(text)
    for name in report.plots(results, out):
        tell(f"bench/compare: gnuplot did not make {name}")
    if comparison.args.is_whole and rounds >= ROUNDS:
        into_readme(comparison.args.readme, [report.about_text(about), *reached])
    return text


README_BEGIN = "<!-- What bench/compare has written last begins here. -->"
README_END = "<!-- It ends here. -->"


def into_readme(path, parts):
    """Between the two marks."""
    before, found, rest = path.read_text().partition(README_BEGIN)
    after = rest.partition(README_END)[2]
    if not found or not after:
        tell(f"bench/compare: {path} has no place for the table")
        return
    path.write_text(before + "\n\n".join([README_BEGIN, *parts, README_END]) + after)


def main(argv=None):
    begun = time.monotonic()
    args = parse(argv)
    machine.allow_descriptors()
    where = machine.describe()
    comparison = Comparison(args)
    wanted = [c for c in cells(args.quick) if comparison.servers.names(c.kind())
              and all(word in c.name() for word in (args.cells or "").split())]
    if not wanted:
        raise SystemExit(f"bench/compare: no load has all of: {args.cells}, and somebody who does it")
    if args.resume:
        comparison.go_on()
    machine.end_by_sigterm()
    try:
        rounds = comparison.run(wanted, begun)
    finally:
        comparison.servers.stop()
    if comparison.results:
        print(write(comparison, rounds, where))


if __name__ == "__main__":
    main()
