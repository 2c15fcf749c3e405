# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Tables and plots of a comparison. `results` maps a Cell to contestants, each with a list of
Samples, one for every round, None where it failed."""

import shutil
import subprocess

from measure.load import Sample
from measure.statistics import best_name, paired, spread

OURS = ("tidewire-uring", "tidewire-epoll")
LIMITS = ("limit-epoll", "limit-epoll-gather", "limit-uring", "limit-uring-gather")
# Of the same at window 1, where nothing comes together that could be gathered: there the two of a
# backend do the same, and are one limit that was measured twice (see with_pooled()).
POOLED = {"limit-epoll-both": ("limit-epoll", "limit-epoll-gather"),
          "limit-uring-both": ("limit-uring", "limit-uring-gather")}
PEERS = ("bun", "ws", "nchan")
TLS_PEERS = ("bun", "nchan")


def values(samples, field):
    return [None if s is None else getattr(s, field) for s in samples]


def rates(samples):
    return values(samples, "rate")


def capacities(samples):
    return [None if s is None else s.capacity() for s in samples]


def was_limit(samples):
    """Whether the generator was the limit in half of the rounds or more."""
    present = [s for s in samples if s is not None]
    return bool(present) and 2 * sum(s.busy for s in present) >= len(present)


def best(by_name, names, measure):
    """(name, samples) of the best of these, (None, []) when none of them was measured."""
    name = best_name({n: measure(by_name[n]) for n in names if n in by_name})
    return name, by_name.get(name, [])


def mean(samples):
    """Of two or more Samples; busy when one was. None when one is missing."""
    if any(s is None for s in samples):
        return None
    numbers = ([getattr(s, f) for s in samples] for f in Sample._fields if f != "busy")
    return Sample(*(sum(of) / len(samples) for of in numbers), any(s.busy for s in samples))


def with_pooled(results):
    """The same results with the limits of POOLED beside the others in cells of window 1. To take the
    best of four there would be to take the luckiest of each two that do the same."""
    return {cell: {**by_name, **{name: [mean(samples) for samples in zip(*(by_name[n] for n in of))]
                                 for name, of in POOLED.items()
                                 if cell.window == 1 and all(n in by_name for n in of)}}
            for cell, by_name in results.items()}


def limits(by_name):
    return [n for n in POOLED if n in by_name] or LIMITS


def against(theirs, by_name):
    return limits(by_name) if theirs == "limit" else (theirs,)


def cpu_comparison(by_name, theirs):
    """Messages a second of CPU: ours to theirs, the better backend and the best limit of the cell."""
    ours, others = (best(by_name, names, capacities)[1]
                    for names in (OURS, against(theirs, by_name)))
    return paired(capacities(ours), capacities(others))


def comparison(by_name, theirs):
    """(spread of paired ratios, whether they compare CPU): messages a second, ours to theirs; by CPU
    where the generator was the limit of either, as then the rates tell of it alone."""
    ours, others = (best(by_name, names, rates)[1] for names in (OURS, against(theirs, by_name)))
    if was_limit(ours) or was_limit(others):
        return cpu_comparison(by_name, theirs), True
    return paired(rates(ours), rates(others)), False


def uring_comparison(by_name):
    """The same of our backends, io_uring to epoll."""
    uring, epoll = (by_name.get(name, []) for name in OURS)
    if was_limit(uring) or was_limit(epoll):
        return paired(capacities(uring), capacities(epoll)), True
    return paired(rates(uring), rates(epoll)), False


def again(by_name):
    """A limit to itself, by CPU."""
    return paired(capacities(by_name.get("limit-again", [])),
                  capacities(by_name.get("limit-epoll-gather", [])))


SPREAD_ROUNDS = 3  # fewer have no quartiles to speak of


def beaten_limits(results):
    """(cell, contestant, spread): who needs less CPU than the best limit, by more than the limit's
    spread against itself. Such a limit is wrong."""
    for cell, by_name in results.items():
        itself = again(by_name)
        if itself is None:
            continue
        limit = capacities(best(by_name, limits(by_name), capacities)[1])
        beyond = max(1.0, itself.high, 1 / itself.low)
        for name in (*OURS, *PEERS):
            s = paired(capacities(by_name.get(name, [])), limit)
            if s is not None and s.count >= SPREAD_ROUNDS and s.low > beyond:
                yield cell, name, s


def ratio_text(s, by_cpu=False):
    if s is None:
        return "–"
    return f"{s.median:.2f} ({s.low:.2f}–{s.high:.2f}){'*' if by_cpu else ''}"


def rate_text(samples):
    s = spread(rates(samples))
    if s is None:
        return "–"
    mark = "*" if was_limit(samples) else ""
    amount = f"{s.median / 1000:.0f}k" if s.median >= 10000 else f"{s.median:.0f}"
    return f"{amount} ±{100 * s.relative() / 2:.0f} %{mark}"


def cpu_text(samples):
    total, user, system = (spread(values(samples, f)) for f in ("cpu_us", "user_us", "system_us"))
    if total is None:
        return "–"
    return f"{total.median:.2f} ({user.median:.2f} + {system.median:.2f})"


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def contestants_of(results):
    present = {name for by_name in results.values() for name in by_name}
    return [n for n in (*OURS, *LIMITS, "limit-again", *PEERS) if n in present]


def ratios_rows(results):
    for cell, by_name in results.items():
        to = [comparison(by_name, theirs) for theirs in ("limit", *PEERS)]
        uring = paired(capacities(by_name.get(OURS[0], [])), capacities(by_name.get(OURS[1], [])))
        yield [cell.name(), *(ratio_text(*found) for found in to),
               ratio_text(cpu_comparison(by_name, "limit")),
               ratio_text(cpu_comparison(by_name, "bun")), ratio_text(*uring_comparison(by_name)),
               ratio_text(uring), ratio_text(again(by_name))]


GROUPS = (("echo, 1 in flight", "echo", 1), ("echo, 16 in flight", "echo", 16),
          ("fan-out, window 1", "fanout", 1), ("fan-out, window 16", "fanout", 16))


def over_cells(cells, compare):
    """The median of a group's ratios and its worst cell."""
    medians = [s.median for s in map(compare, cells) if s is not None]
    if not medians:
        return "–"
    return f"{spread(medians).median:.2f}, worst {min(medians):.2f}"


def summary_rows(results):
    for text, scenario, window in GROUPS:
        cells = [b for c, b in results.items() if (c.scenario, c.window) == (scenario, window)]
        if cells:
            yield [text, *(over_cells(cells, lambda b, t=t: comparison(b, t)[0])
                           for t in ("limit", *PEERS)),
                   *(over_cells(cells, lambda b, t=t: cpu_comparison(b, t))
                     for t in ("limit", "bun")),
                   over_cells(cells, lambda b: paired(capacities(b.get(OURS[0], [])),
                                                      capacities(b.get(OURS[1], []))))]


SUMMARY_HEAD = ["median over the loads", "to limit", *(f"to {p}" for p in PEERS), "CPU to limit",
                "CPU to bun", "CPU io_uring to epoll"]


def tls_rows(results):
    for cell, by_name in results.items():
        uring = paired(capacities(by_name.get(OURS[0], [])), capacities(by_name.get(OURS[1], [])))
        yield [cell.name(), *(ratio_text(*comparison(by_name, p)) for p in TLS_PEERS),
               *(ratio_text(cpu_comparison(by_name, p)) for p in TLS_PEERS), ratio_text(uring)]


def amounts(results):
    """Rates and CPU of all contestants."""
    names = contestants_of(results)
    return [table(["load", *names], ([c.name(), *(rate_text(b.get(n, [])) for n in names)]
                                     for c, b in results.items())),
            table(["load", *names], ([c.name(), *(cpu_text(b.get(n, [])) for n in names)]
                                     for c, b in results.items()))]


def tls_parts(results):
    rate, cpu = amounts(results)
    return ["## TLS",
            "TLS 1.3, X25519, ECDSA with P-256, the same certificate for all; AES-128-GCM where a "
            "server takes the client's first choice. nchan (nginx) has no echo. Handshakes are "
            "counted to the 101, one connection after the other leaves at once.",
            table(["load", *(f"to {p}" for p in TLS_PEERS), *(f"CPU to {p}" for p in TLS_PEERS),
                   "CPU io_uring to epoll"], tls_rows(results)),
            "Messages or connections a second:", rate,
            "Server CPU of each, µs, all (user + system):", cpu]


def markdown(all_results, about, reached=()):
    """`reached` are parts that stand before the others."""
    results = {c: b for c, b in all_results.items() if not c.tls}
    tls = {c: b for c, b in all_results.items() if c.tls}
    parts = ["# Comparison", about_text(about), *reached]
    parts += plain_parts(results) if results else []
    parts += tls_parts(tls) if tls else []
    if about["failures"]:
        parts += ["## What failed", "\n".join(f"- {f}" for f in about["failures"])]
    return "\n\n".join(parts) + "\n"


def beaten_text(results):
    """Beyond the limit's own spread."""
    found = [f"{name}, {cell.name()}: {ratio_text(s)}" for cell, name, s in beaten_limits(results)]
    if not found:
        return (f"No limit was beaten by CPU a message, in {SPREAD_ROUNDS} rounds or more, beyond its "
                "spread against itself.")
    return "\n".join(["**Limits that were beaten** by CPU a message, beyond their spread against "
                      "themselves, are wrong:", "", *(f"- {f}" for f in found)])


def plain_parts(results):
    rate, cpu = amounts(results)
    return ["Ratios are Tidewire's better backend to the other one, both of the same round: median and "
            "quartiles, above 1 is better. `*`: the load generator was the limit, so CPU a message "
            "is compared. The limit is the best of four programs that only move the bytes "
            "(`bench/limits`), with 1 in flight the better of two, each the mean of two runs; one of "
            "them ran twice, and its ratio to itself is what noise does.",
            table(SUMMARY_HEAD, summary_rows(results)),
            table(["load", "to limit", *(f"to {p}" for p in PEERS), "CPU to limit", "CPU to bun",
                   "io_uring to epoll", "CPU io_uring to epoll", "CPU limit to itself"],
                  ratios_rows(results)),
            beaten_text(results),
            "## Messages a second", "Received; half of the distance between the quartiles.", rate,
            "## Server CPU a message, µs", "All (user + system), medians.", cpu]


def about_text(about):
    m = about["machine"]
    return (f"Linux {m['kernel']}, {m['cores']} cores of {m['cpu']}, RLIMIT_NOFILE {m['nofile']}; "
            f"load average {m['load_before']:.1f} at the start. "
            f"{about['rounds']} rounds of {about['seconds']} s, server on core "
            f"{about['server_core']}, load on core {about['load_core']}. "
            f"{about['versions']['tidewire']}, Bun {about['versions']['bun']}, Node "
            f"{about['versions']['node']}, {about['versions']['nginx']}. {about['date']}.")


def to_json(results, about):
    cells = [{**cell._asdict(), "rounds": {name: [None if s is None else s._asdict()
                                                  for s in samples]
                                           for name, samples in by_name.items()
                                           if name not in POOLED},
              "ratios": {p: ratio_json(comparison(by_name, p)) for p in ("limit", *PEERS)}}
             for cell, by_name in results.items()]
    return {**about, "cells": cells}


def ratio_json(found):
    s, by_cpu = found
    return None if s is None else {**s._asdict(), "by_cpu": by_cpu}


PLOT = """set terminal pngcairo size 1400,600 font 'sans,10'
set output '{png}'
set linetype 9 lc rgb 'grey50'
set linetype 10 lc rgb 'brown'
set linetype cycle 10
set style data histogram
set style histogram clustered gap 1
set style fill solid border -1
set boxwidth 0.9
set grid y
set ylabel '{label}'
set yrange [0:*]
set xtics rotate by -30 font 'sans,8'
set key outside right
set datafile missing '?'
set title '{title}'
plot {series}
"""


def plot(results, scenario, where, measure, label, title):
    """A PNG of one bar for each contestant in each cell. False where there is no gnuplot."""
    cells = {c: b for c, b in results.items() if c.kind() == scenario}
    names = contestants_of(cells)
    if shutil.which("gnuplot") is None:
        return False
    data = where.with_suffix(".dat")
    lines = []
    for cell, by_name in cells.items():
        found = [spread(measure(by_name.get(n, []))) for n in names]
        lines.append(" ".join([cell.short(), *("?" if s is None else f"{s.median:.4f}" for s in found)]))
    data.write_text("\n".join(lines) + "\n")
    series = ", ".join(f"'{data}' using {i + 2}{':xtic(1)' if i == 0 else ''} title '{n}'"
                       for i, n in enumerate(names))
    script = PLOT.format(png=where, label=label, title=title, series=series)
    done = subprocess.run(["gnuplot"], input=script, text=True, capture_output=True)
    data.unlink()
    return done.returncode == 0


def plots(results, where):
    """Returns the names of those that gnuplot did not make."""
    failed = []
    for scenario in ("echo", "fanout", "echo-tls", "fanout-tls", "storm-tls"):
        if not any(c.kind() == scenario for c in results):
            continue
        for what, measure, label, better in (
                ("rate", rates, "messages a second", "more"),
                ("cpu", lambda samples: values(samples, "cpu_us"), "server CPU a message, us", "less")):
            png = where / f"{scenario}-{what}.png"
            if not plot(results, scenario, png, measure, label,
                        f"{scenario}: payload/count/in flight, {better} is better"):
                failed.append(png.name)
    return failed
