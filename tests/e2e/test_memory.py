# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""15,000 idle connections in a room: what each costs in user space, and what is left of it."""

from lockstep import idle
from probe import expect_metric, expect_nothing_left, private_dirty, until

BYTES_MAX = 384
# Of what a crowd takes, when it has left and the server is quiet.
KEPT_MAX = 0.05
FEW = 100
MANY = 15000


def pools(server):
    """Bytes of the pools whose slots connections and members take, by the server's own account."""
    names = ("tidewire_pool_bytes", "tidewire_channel_pool_bytes")
    return sum(v for k, v in server.metrics().items() if k.startswith(names))


def cycle(server):
    """Few come, many come, all leave; the memory at each of these points."""
    pid = server.process.pid
    with idle(server.port, FEW):
        expect_metric(server, "members", FEW)
        few = private_dirty(pid), pools(server)
        with idle(server.port, MANY - FEW):
            expect_metric(server, "members", MANY)
            many = private_dirty(pid), pools(server)
        expect_metric(server, "members", FEW, timeout=20)
    expect_metric(server, "members", 0)
    expect_nothing_left(server)
    return few, many, private_dirty(pid)


def test_an_idle_connection_in_a_room_costs_at_most_384_bytes(new_server, record_property):
    """On a fresh server, all that grew counts; the sum of the slots is part of it. What is only kept for
    speed goes back when the server is quiet: then memory is where it was."""
    s = new_server("--shards", "1")
    few, many, after = cycle(s)
    dirty, slots = ((m - f) / (MANY - FEW) for f, m in zip(few, many))
    print(f"{s.backend}: {dirty:.1f} B Private_Dirty, {slots:.1f} B in pools; {few[0] >> 10} KiB, "
          f"{many[0] >> 10} KiB, {after >> 10} KiB at once after")
    record_property("bytes_per_idle_connection", max(dirty, slots))
    assert max(dirty, slots) <= BYTES_MAX
    back = few[0] + KEPT_MAX * (many[0] - few[0])
    left = until(lambda: private_dirty(s.process.pid), lambda n: n <= back)
    print(f"{left >> 10} KiB when quiet")
    cycle(s)
    until(lambda: private_dirty(s.process.pid), lambda n: n <= back)
