# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""bench/instructions: the counts of tests/e2e/figures.py beside the committed ones."""

import argparse
import json
import platform

import figures
from measure.machine import first_line

AGREE = 0.01
TRIES = 5


def measure(name):
    """The larger of two runs that agree within 1 %; some tries, for a busy machine."""
    values = [figures.FIGURES[name].measure()]
    for _ in range(TRIES):
        values.append(figures.FIGURES[name].measure())
        low, high = sorted(values[-2:])
        if high - low <= AGREE * low + figures.noise(name):
            return round(high, 4)
    raise SystemExit(f"{name}: no two runs in a row agree within {AGREE:.0%}: {values}")


def main():
    p = argparse.ArgumentParser(prog="bench/instructions", description=__doc__)
    p.add_argument("--write", action="store_true", help="makes them the committed figures")
    args = p.parse_args()
    was = figures.committed() if figures.COMMITTED.exists() else {}
    print("| count | committed | now |\n| --- | --- | --- |", flush=True)
    found, grown = {}, []
    for name in figures.COUNTS:
        value = measure(name)
        found[name] = {"text": figures.FIGURES[name].text, "value": value}
        print(f"| {name}: {figures.FIGURES[name].text} | {was.get(name, '–')} | {value} |",
              flush=True)
        if name in was and figures.growth(name, value, was):
            grown.append(figures.growth(name, value, was))
    if args.write:
        figures.COMMITTED.parent.mkdir(exist_ok=True)
        about = {"kernel": platform.release(), "compiler": first_line("cc", "--version"),
                 "figures": found}
        figures.COMMITTED.write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n")
    elif grown:
        raise SystemExit("\n".join(grown))


if __name__ == "__main__":
    main()
