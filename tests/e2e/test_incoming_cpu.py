# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""--incoming-cpu: who connects from a core is served by the shard of that core. On loopback packets
arrive on the core of whoever sends them."""

import contextlib
import os

import pytest

from figures import settled
from probe import expect_nothing_left, run
from wire import TEXT, Client, frame

COUNT = 24


@contextlib.contextmanager
def on_core(core):
    """This thread is there meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def served_far_from_home(server, core):
    """Of connections made from that core, how many are on another shard than the room's home. The
    room exists all the time, and so its home is one."""
    remote = settled(lambda: server.metric("tidewire_published_remote_total"))
    with on_core(core):
        clients = [Client(server.port, "/rooms/cores?echo=0") for _ in range(COUNT)]
        for c in clients:
            c.send(frame(TEXT, b"where?"))
    far = settled(lambda: server.metric("tidewire_published_remote_total")) - remote
    for c in clients:
        c.sock.close()
    return far


def cores():
    usable = sorted(os.sched_getaffinity(0))
    assert len(usable) >= 2, "needs two cores"
    return usable


def test_connections_go_to_the_shard_of_their_core(new_server):
    first, second, *_ = cores()
    s = new_server("--shards", "2", "--incoming-cpu", "on", "--drain-time", "0")
    far = sorted(served_far_from_home(s, core) for core in (first, second, first, second))
    assert far == [0, 0, COUNT, COUNT]
    assert not [line for line in s.lines if "incoming-cpu" in line]
    expect_nothing_left(s)


def test_without_it_they_are_spread_over_all_shards(new_server):
    s = new_server("--shards", "2", "--drain-time", "0")
    assert all(0 < served_far_from_home(s, core) < COUNT for core in cores()[:2])


def test_a_room_over_both_cores_is_one_room(new_server):
    s = new_server("--shards", "2", "--incoming-cpu", "on", "--drain-time", "0")
    members = []
    for core in cores()[:2]:
        with on_core(core):
            members.append(Client(s.port, "/rooms/both"))
    for i, m in enumerate(members):
        m.send(frame(TEXT, b"%d" % i))
        for other in members:
            assert other.message() == (TEXT, b"%d" % i)
    for m in members:
        m.sock.close()


def test_a_full_shard_passes_on_who_comes_from_its_core(new_server, backend):
    """All come from one core; nobody is turned away while the other shard has room. With epoll the
    limit of descriptors is the process's: there one shard takes what all could."""
    s = new_server("--shards", "2", "--incoming-cpu", "on", "--drain-time", "0",
                   prefix=("prlimit", "--nofile=400:400"))
    wanted = 300 if backend == "uring" else 250
    with on_core(cores()[0]):
        clients = [Client(s.port, "/rooms/full?echo=0") for _ in range(wanted)]
    assert s.metric("tidewire_members") == wanted
    handed_over = s.metric("tidewire_connections_handed_over_total")
    assert handed_over > 0 if backend == "uring" else handed_over == 0
    assert s.metric("tidewire_connections_adopted_total") == handed_over
    for c in clients:
        c.sock.close()


def test_it_needs_a_core_for_each_shard(backend):
    shards = len(os.sched_getaffinity(0)) + 1
    code, _, err = run("serve", "--io", backend, "--incoming-cpu", "on", "--shards", shards,
                       "--port", "0", "--admin-address", "off")
    assert code == 2 and "--shards" in err
