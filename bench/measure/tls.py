# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""bench/tls/run: what TLS costs, beside what it is measured against.

Records and handshakes are measured by programs of bench/tls within one thread, the others with
whole servers: one that speaks TLS and a plain one, whose clients in lock step
(tests/programs/lockstep.c) take turns, so that a drift of the machine hits both. CPU is that of the
server's process, the kernel's part included; server and client have a core each, at real-time
priority where that is allowed."""

import argparse
import contextlib
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Callable, NamedTuple

import certs
import figures
from harness import BACKENDS, ROOT
from lockstep import program
from measure import machine, tls_crowd
from measure.statistics import Spread, paired, spread

SIZE = 125
ROUNDS_OF_TURN = {"echo-1": 100, "echo-16": 20, "fanout": 8}
KB = 1000  # of the bound of a handshake's memory


class Row(NamedTuple):
    figure: str
    value: Spread
    must: float      # 0: not judged
    at_most: bool    # else at least
    unit: str = ""

    def is_missed(self):
        return self.must > 0 and (self.value.median > self.must if self.at_most else
                                  self.value.median < self.must)


def exactly(value):
    return Spread(value, value, value, 1)


# Programs -----------------------------------------------------------------------------------------

def rows_of_program(name, rounds):
    """What a program of bench/tls says; its own table goes to the standard output."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows"
        done = subprocess.run([Path(os.environ["TW_BUILD"]) / "bench" / name, str(rounds), out],
                              check=False, timeout=1800)
        if done.returncode not in (0, 1):  # 1: something was missed
            raise SystemExit(f"bench/tls/run: {name} has failed: exit code {done.returncode}")
        for line in out.read_text().splitlines():
            row = json.loads(line)
            yield Row(row["figure"], Spread(row["low"], row["value"], row["high"], rounds),
                      row["must"], False)


def records(store, rounds):
    return rows_of_program("bench_tls_record", rounds)


def handshakes(store, rounds):
    return rows_of_program("bench_tls_handshake", rounds)


# Plain beside TLS ---------------------------------------------------------------------------------

def share(core):
    """Server on the first core, client on the last."""
    cores = sorted(os.sched_getaffinity(0))
    return ("taskset", "-c", str(cores[0 if core == "server" else -1]))


@contextlib.contextmanager
def server(backend, store, **how):
    with figures.started(backend, "--echo", "--shards", "1", "--pin", "off", "--ping-interval", "0",
                         "--drain-time", "0", "--tls-port", "0", *store.ecdsa.flags(),
                         prefix=share("server"), **how) as s:
        yield s


class Talk:
    """Connected clients that play a turn when they are told to."""

    def __init__(self, port, mode, count, window, rounds, tls):
        env = {**os.environ, "TW_TURNS": "1"}
        env.update({"TW_TLS": "1"} if tls else {})
        argv = [*share("client"), program("lockstep"), mode, port, count, window, rounds, SIZE]
        self.process = subprocess.Popen([str(a) for a in argv], env=env, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._expect("connected")

    def _expect(self, word):
        words = self.process.stdout.readline().split()
        if not words or words[0] != word:
            raise SystemExit("the client in lock step has failed")
        return words

    def turn(self):
        """Plays, and returns how many messages it has received."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self._expect("messages")[1])

    def close(self):
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def talking(s, mode, count, window, rounds, tls):
    talk = Talk(s.tls_port if tls else s.port, mode, count, window, rounds, tls)
    try:
        yield talk
    finally:
        talk.close()


def cpu_of_turn(s, talk):
    """Microseconds for each message."""
    before = figures.cpu_ns(s)
    messages = talk.turn()
    return (figures.cpu_ns(s) - before) / messages / 1e3


def turns(backend, store, mode, count, window, rounds, n):
    """CPU per message of n turns each: plain and TLS."""
    spent = {False: [], True: []}
    with contextlib.ExitStack() as stack:
        stack.enter_context(figures.hurried())
        pairs = {}
        for tls in (False, True):
            s = stack.enter_context(server(backend, store))
            pairs[tls] = s, stack.enter_context(talking(s, mode, count, window, rounds, tls))
        for i in range(n + 1):
            for tls in (False, True) if i % 2 else (True, False):
                us = cpu_of_turn(*pairs[tls])
                if i > 0:  # the first warms up
                    spent[tls].append(us)
    print(f"{backend}, {mode}, {count} connections, {window} in flight: plain "
          f"{spread(spent[False]).median:.2f} us, TLS {spread(spent[True]).median:.2f} us",
          flush=True)
    return spent[False], spent[True]


def fanout(store, rounds):
    for backend in BACKENDS:
        plain, tls = turns(backend, store, "fanout", 1000, 1, ROUNDS_OF_TURN["fanout"], rounds)
        yield Row(f"fan-out to 1000, window 1: CPU per delivery, TLS to plain, {backend}",
                  paired(tls, plain), 1.25, True)


def echo(store, rounds):
    for window, must in ((1, 0.75), (16, 0.5)):
        for backend in BACKENDS:
            plain, tls = turns(backend, store, "echo", 64, window, ROUNDS_OF_TURN[f"echo-{window}"],
                               rounds)
            yield Row(f"echo of 125 B, {window} in flight: messages a second of CPU, TLS to plain, "
                      f"{backend}", paired(plain, tls), must, False)


# Memory -------------------------------------------------------------------------------------------

def allocations(store, rounds):
    """Of the heap, per record of 125 B in steady state: within a turn of clients that have talked
    already."""
    for backend in BACKENDS:
        least = []
        for mode, count, window in (("echo", 64, 1), ("fanout", 200, 16)):
            with tempfile.TemporaryDirectory() as folder, figures.hurried():
                heap = figures.Heap(folder)
                with server(backend, store, env=heap.env()) as s, \
                        talking(s, mode, count, window, 50, True) as talk:
                    talk.turn()
                    made = []
                    for _ in range(3):
                        before = heap.read()[0]
                        messages = talk.turn()
                        made.append((heap.read()[0] - before) / messages)
                    least.append(min(made))
        yield Row(f"heap allocations per record, {backend}", exactly(max(least)), 1e-9, True)


def idle(store, rounds):
    for backend in BACKENDS:
        yield Row(f"user-space bytes of an idle TLS 1.3 connection in a room, {backend}",
                  exactly(figures.bytes_of_idle(backend, store.ecdsa.flags())), 640, True, " B")


def peak(store, rounds):
    """Over idle, for each slot in use."""
    for backend in BACKENDS:
        with figures.started(backend, "--shards", "1", "--tls-port", "0", "--drain-time", "0",
                             *store.ecdsa.flags()) as s:
            tls_crowd.shake_all(s)  # warms up
            time.sleep(figures.QUIET_S)
            found = tls_crowd.shake_all(s)
        print(f"{backend}: {found.slots} slots in use, {found.bytes / KB:.0f} KB over idle", flush=True)
        yield Row(f"1,000 handshakes at once: peak over idle, per slot in use, {backend}",
                  exactly(found.bytes / found.slots / KB), 80, True, " KB")


# The command --------------------------------------------------------------------------------------

class Measurement(NamedTuple):
    run: Callable
    rounds: int  # by default
    text: str


MEASUREMENTS = {
    "records": Measurement(records, 101, "sealing records, against OpenSSL's SSL_write()"),
    "handshakes": Measurement(handshakes, 101, "full handshakes against wolfSSL alone, and resumed"),
    "fanout": Measurement(fanout, 21, "CPU per delivery, against plain"),
    "echo": Measurement(echo, 21, "CPU per message, against plain"),
    "allocations": Measurement(allocations, 1, "of the heap, per record"),
    "idle": Measurement(idle, 1, "bytes of an idle connection"),
    "peak": Measurement(peak, 1, "memory of 1,000 handshakes at once"),
}


def table_row(row):
    v, sign = row.value, "≤" if row.at_most else "≥"
    digits = 2 if v.median < 100 else 0
    must = "–" if not row.must else "0" if row.must < 1e-6 else f"{sign} {row.must:g}{row.unit}"
    found = f"{v.median:.{digits}f}{row.unit}"
    if v.count > 1:
        found += f" ({v.low:.{digits}f} – {v.high:.{digits}f})"
    return f"| {row.figure} | {must} | {found}{' **missed**' if row.is_missed() else ''} |"


def write(path, name, where, rows):
    """The other measurements' rows stay."""
    said = json.loads(path.read_text()) if path.exists() else {}
    said[name] = {"machine": where, "rows": [
        {"figure": r.figure, "low": r.value.low, "value": r.value.median, "high": r.value.high,
         "rounds": r.value.count, "must": r.must, "at_most": r.at_most} for r in rows]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(said, indent=1, ensure_ascii=False) + "\n")


def main():
    names = "\n".join(f"  {name:12} {m.text}" for name, m in MEASUREMENTS.items())
    p = argparse.ArgumentParser(prog="bench/tls/run", epilog=f"measurements:\n{names}",
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("names", nargs="*", metavar="NAME", help="by default all")
    p.add_argument("--rounds", type=int, help="by default 101 of a program, 21 turns of servers")
    p.add_argument("--out", type=Path, default=ROOT / "bench" / "results" / "tls.json")
    args = p.parse_args()
    for name in args.names:
        if name not in MEASUREMENTS:
            p.error(f"no measurement {name}; there are: {' '.join(MEASUREMENTS)}")
    machine.end_by_sigterm()
    store, where, found = certs.Store(), machine.describe(), []
    try:
        for name in args.names or MEASUREMENTS:
            m = MEASUREMENTS[name]
            rows = list(m.run(store, args.rounds or m.rounds))
            write(args.out, name, where, rows)
            found += rows
    finally:
        store.close()
    print("\n| figure | must | measured |\n| --- | --- | --- |")
    print("\n".join(map(table_row, found)))
    raise SystemExit(1 if any(row.is_missed() for row in found) else 0)


if __name__ == "__main__":
    main()
