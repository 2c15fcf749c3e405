# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What a comparison may say about figures that drift: medians, quartiles, and ratios of pairs that
were measured in the same round, one right after the other. Pure."""

from typing import NamedTuple


class Spread(NamedTuple):
    """Quartiles of some values."""

    low: float
    median: float
    high: float
    count: int

    def relative(self):
        """The distance between the quartiles, as a part of the median."""
        return (self.high - self.low) / self.median if self.median else 0.0


def quantile(values, part):
    """By linear interpolation between the closest ranks; `part` in 0..1."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    at = part * (len(ordered) - 1)
    below = int(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def spread(values):
    """Of values that are there; None stands for a measurement that failed. None without any."""
    present = [v for v in values if v is not None]
    if not present:
        return None
    return Spread(quantile(present, 0.25), quantile(present, 0.5), quantile(present, 0.75),
                  len(present))


def paired(ours, theirs):
    """The spread of ours / theirs, round by round; rounds that miss either are left out."""
    ratios = [a / b for a, b in zip(ours, theirs) if a is not None and b]
    return spread(ratios)


def best_name(lists):
    """The name whose values have the largest median, None when nothing was measured. Chosen over all
    rounds at once: the best of each round would be the luckiest."""
    medians = {name: s.median for name, values in lists.items() if (s := spread(values))}
    return max(medians, key=medians.get) if medians else None


def order_of_round(names, number):
    """The contestants of a round: every other runs backwards, and the next two begin with another
    one, so that each stands at every place and a drift within rounds hits all alike. Two take turns
    as in ABBA."""
    shift = number // 2 % len(names)
    turned = names[shift:] + names[:shift]
    return turned if number % 2 == 0 else turned[::-1]
