# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Which loads a comparison consists of."""

from measure.load import Cell

PAYLOADS = (16, 125, 1024, 16384)


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
