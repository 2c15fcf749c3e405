# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What a comparison must reach, and whether it did. A goal looks at its cells of `results` (see
report.py) or at a figure of bench/single; where a cell is missing it can be missed, but not reached."""

from typing import NamedTuple

from measure.cells import cells
from measure.report import (OURS, against, comparison, cpu_comparison, ratio_text, table,
                            uring_comparison)
from measure.statistics import spread


class Verdict(NamedTuple):
    """reached: None where nothing that was measured misses it, but something was not measured."""

    figure: str
    must: str
    measured: str
    reached: bool


class Found(NamedTuple):
    """A cell's ratio; spread is None where it is missing."""

    cell: object
    spread: object
    by_cpu: bool
    must: float


MISSING_NAMED = 4
PLAIN = [c for c in cells(False) if not c.tls]
ECHO = [c for c in PLAIN if c.scenario == "echo"]
FANOUT = [c for c in PLAIN if c.scenario == "fanout"]


def window(of, n):
    return [c for c in of if c.window == n]


def find(results, wanted, compare, must):
    """`must` is a number, or a function of the cell."""
    return [Found(c, *compare(results.get(c, {})), must(c) if callable(must) else must)
            for c in wanted]


def notes(found):
    """What else is to be known: cells compared by CPU, and those that are missing."""
    present = [f for f in found if f.spread is not None]
    by_cpu = sum(f.by_cpu for f in present)
    missing = [f.cell.name() for f in found if f.spread is None]
    said = []
    if by_cpu:
        said.append(f"{by_cpu} of {len(present)} by CPU`*`")
    if len(missing) > MISSING_NAMED:
        said.append(f"{len(missing)} cells are missing")
    elif missing:
        said.append(f"missing: {'; '.join(missing)}")
    return said


def verdict(figure, must, found, measured, good):
    missing = any(f.spread is None for f in found)
    reached = False if not good else None if missing else True
    return Verdict(figure, must, ". ".join([measured, *notes(found)]), reached)


def nothing(figure, must, why="not measured"):
    return Verdict(figure, must, why, None)


def over_all(figure, must, found):
    """The median over the cells' medians, which some of them say nothing of."""
    present = sorted((f for f in found if f.spread is not None), key=lambda f: f.spread.median)
    if not present:
        return nothing(figure, f"≥ {must:g}")
    s = spread([f.spread.median for f in present])
    worst = present[0]
    measured = (f"{s.median:.2f} ({s.low:.2f}–{s.high:.2f} over {s.count} cells), worst "
                f"{ratio_text(worst.spread, worst.by_cpu)}: {worst.cell.name()}")
    return verdict(figure, f"≥ {must:g}", found, measured,
                   s.median >= must or len(present) < len(found))


def in_each(figure, must_text, found, part="median"):
    """Each cell's median, or another part of its spread; told is the one that is worst by its own
    bound, and how many others miss theirs."""
    present = sorted((f for f in found if f.spread is not None),
                     key=lambda f: getattr(f.spread, part) / f.must)
    if not present:
        return nothing(figure, must_text)
    missed = [f for f in present if getattr(f.spread, part) < f.must]
    told = missed or present[:1]
    measured = "; ".join(f"{ratio_text(f.spread, f.by_cpu)}: {f.cell.name()}" for f in told)
    measured = f"{len(missed)} of {len(present)} below: {measured}" if missed else f"worst {measured}"
    return verdict(figure, must_text, found, measured, not missed)


# Of the loads -------------------------------------------------------------------------------------

def has_failed(samples):
    """In more than a third of the rounds."""
    return 3 * samples.count(None) > len(samples)


def unless_failed(theirs, compare):
    """`compare`, but nothing where one who is to be compared has failed: the best of those who are
    left, or the rounds that are left, would say too much."""
    def checked(by_name):
        names = (*OURS, *against(theirs, by_name))
        if any(has_failed(by_name[n]) for n in names if n in by_name):
            return None, False
        return compare(by_name)
    return checked


def to(theirs):
    return unless_failed(theirs, lambda by_name: comparison(by_name, theirs))


def cpu_to(theirs):
    """By CPU everywhere, so that needs no mark."""
    return unless_failed(theirs, lambda by_name: (cpu_comparison(by_name, theirs), False))


URING_TO_EPOLL = unless_failed("epoll", uring_comparison)


def echo_verdicts(results):
    yield over_all("echo to the limit, over the cells", 0.92, find(results, ECHO, to("limit"), 0.92))
    yield in_each("echo to the limit by CPU, upper quartile in each cell", "≥ 0.92",
                  find(results, ECHO, cpu_to("limit"), 0.92), "high")
    yield in_each("echo to Bun, each cell", "≥ 1.0", find(results, ECHO, to("bun"), 1.0))
    yield in_each("echo to Bun by CPU, 16 in flight", "≥ 1.3",
                  find(results, window(ECHO, 16), cpu_to("bun"), 1.3))
    large = list(filter(is_large, ECHO))
    yield in_each("echo to Bun, 16 KiB", "≥ 2; 1000 connections, 1 in flight: ≥ 1.25",
                  find(results, large, to("bun"),
                       lambda c: 1.25 if (c.count, c.window) == (1000, 1) else 2.0))


def fanout_verdicts(results):
    yield over_all("fan-out window 1 to the send loop, over the cells", 0.92,
                   find(results, window(FANOUT, 1), to("limit"), 0.92))
    gathered = window(FANOUT, 16)
    yield in_each("fan-out window 16 to the gathered limit", "≥ 0.9",
                  find(results, gathered, to("limit"), 0.9))
    yield in_each("fan-out window 16 to Bun", "≥ 1.1; 5000: ≥ 0.95",
                  find(results, gathered, to("bun"), lambda c: 0.95 if c.count == 5000 else 1.1))
    yield in_each("fan-out window 16 to ws", "≥ 12", find(results, gathered, to("ws"), 12.0))
    yield in_each("fan-out window 16 to nchan", "≥ 8 to 100; ≥ 12 above",
                  find(results, gathered, to("nchan"), lambda c: 8.0 if c.count == 100 else 12.0))


def is_large(cell):
    return cell.scenario == "echo" and cell.payload == 16384


def least_of_uring(cell):
    return 0.85 if is_large(cell) and cell.window == 1 else 0.90


def uring_verdicts(results):
    yield over_all("io_uring to epoll, both ours, over the cells", 0.97,
                   find(results, PLAIN, URING_TO_EPOLL, 0.97))
    yield in_each("io_uring to epoll, each cell",
                  "≥ 0.90; 16 KiB with 1 in flight: ≥ 0.85",
                  find(results, PLAIN, URING_TO_EPOLL, least_of_uring))
    yield in_each("io_uring ahead of epoll, echo of 16 KiB with 16 in flight", "≥ 1.05",
                  find(results, window(filter(is_large, ECHO), 16), URING_TO_EPOLL, 1.05))


# Of bench/single ----------------------------------------------------------------------------------

SINGLE = {"shards": "two shards to one, fan-out across both, CPU per delivery",
          "accept": "connections accepted with handshake by their CPU, to the limit's",
          "latency": "p99 of an echo, 64 connections, half of the most a second, open loop",
          "screen": "a trading screen, `--write-delay 5ms` to none: CPU",
          "slow-reader": "one reader of 1000 stops: the others' CPU per delivery",
          "hot-channel": "hot channel, publishers on the other shard: publishes a second of home's CPU"}
# What is judged beside the median: name of the member, text of the row.
BESIDE = {"slow-reader": ("p99_ratio", "one reader of 1000 stops: the others' p99"),
          "screen": ("share_without", "the trading screen without delay: share of a core")}
BACKENDS = {"uring": "io_uring", "epoll": "epoll"}


def amount(value):
    return f"{value:,.0f}" if value >= 1000 else f"{value:.2f}"


def single_row(figure, rows, must, at_least, measured, value):
    """`rows` by backend, None where one is missing."""
    said = "; ".join(f"{BACKENDS[b]} {measured(r)}" for b, r in rows.items() if r is not None)
    present = [value(r) for r in rows.values() if r is not None]
    text = f"{'≥' if at_least else '≤'} {amount(must)}"
    if not present:
        return nothing(figure, text)
    good = all(v >= must if at_least else v <= must for v in present)
    missing = [f"missing: {BACKENDS[b]}" for b, r in rows.items() if r is None]
    return Verdict(figure, text, ". ".join([said, *missing]),
                   False if not good else None if missing else True)


def more_of(name, row):
    if name == "accept":
        mark = ", the generator was the limit" if row["generator_was_the_limit"] else ""
        return f"; {amount(row['per_second'])} a second{mark}"
    return ""


def single_verdicts(single):
    for name, text in SINGLE.items():
        rows = {b: single.get(f"{name}, {b}") for b in BACKENDS}
        known = next((r for r in rows.values() if r is not None), None)
        if known is None:
            yield nothing(text, "", f"not measured in this run (`bench/single {name}`)")
            continue
        unit = " ms" if known["unit"] == "ms" else ""
        yield single_row(
            text, rows, known["must"], known["at_least"],
            lambda r, u=unit, n=name: f"{amount(r['median'])}{u} ({amount(r['low'])}–"
                                      f"{amount(r['high'])}){more_of(n, r)}",
            lambda r: r["median"])
        if name in BESIDE:
            member, beside = BESIDE[name]
            if any(member not in r for r in rows.values() if r is not None):
                yield nothing(beside, "")
                continue
            yield single_row(beside, rows, known[f"{member}_must"], False,
                             lambda r, m=member: amount(r[m]), lambda r, m=member: r[m])


# The table ----------------------------------------------------------------------------------------

def judge(results, single):
    return [*echo_verdicts(results), *fanout_verdicts(results), *uring_verdicts(results),
            *single_verdicts(single)]


def reached_text(reached):
    return "?" if reached is None else "yes" if reached else "**no**"


def goals_table(verdicts):
    return table(["figure", "must", "measured: median (quartiles)", "reached"],
                 ([v.figure, v.must, v.measured, reached_text(v.reached)] for v in verdicts))


def parts(verdicts):
    """Of the report and of the README. Nothing where nothing was measured that is judged."""
    if all(v.reached is None and v.measured.startswith("not measured") for v in verdicts):
        return []
    return [goals_table(verdicts), auto_text(verdicts)]


def auto_text(verdicts):
    """What follows for the default of --io: io_uring need not be ahead, but may not be behind."""
    found = [v.reached for v in verdicts if v.figure.startswith("io_uring to epoll")]
    if any(r is None for r in found):
        return "Cells are missing: this says nothing of the default of `--io`."
    if all(found):
        return "io_uring is not behind epoll, so `--io auto` takes it."
    return ("io_uring misses what is asked of it, so `--io auto` should take epoll where that is not "
            "noise.")
