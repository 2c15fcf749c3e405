# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""A long mixed load on both backends at once; then memory is where it was, and nothing is held.

TW_SOAK_SECONDS is its length, 20 unless told."""

import os

import pytest

from harness import BACKENDS, Server
from mixed import Mixed, start_all
from peers import Peer, check_gauges
from probe import private_dirty

pytestmark = pytest.mark.soak

SOAK_S = float(os.environ.get("TW_SOAK_SECONDS", "20"))
SAMPLES = 12
GROWTH_KIB = 4096
FLAGS = ("--echo", "--compress", "on", "--compress-min", "100B", "--drain-time", "100ms",
         "--max-message", "1MiB", "--max-queue", "1MiB", "--ping-interval", "300ms",
         "--pong-timeout", "300ms", "--tcp-sndbuf", "64KiB", "--close-timeout", "1s")


def sample(servers, loads, seconds):
    """Private memory of each server over the time of the load."""
    sizes = [[] for _ in servers]
    for _ in range(SAMPLES):
        for load in loads:
            load.wait(seconds / SAMPLES / len(loads))
        for i, server in enumerate(servers):
            assert server.is_alive(), server.log()
            sizes[i].append(private_dirty(server.process.pid) >> 10)
    return sizes


def test_a_long_mixed_load_leaves_nothing_behind():
    servers = [Server(backend, "--shards", str(shards), *FLAGS)
               for backend, shards in zip(BACKENDS, (3, 2))]
    loads = [Mixed(server) for server in servers]
    try:
        for load in loads:
            start_all(load)
        sizes = sample(servers, loads, SOAK_S)
        for load in loads:
            load.stop()
            print(load.server.backend, load.done)
        for server, size in zip(servers, sizes):
            check_gauges(server)
            first = max(size[:SAMPLES // 3])
            assert max(size[-SAMPLES // 3:]) <= first + GROWTH_KIB, size
            assert private_dirty(server.process.pid) >> 10 <= first + GROWTH_KIB, size
            server.stop()
    finally:
        for server in servers:
            if not server.process.stderr.closed:
                server.kill()


def test_a_killed_server_comes_back_on_its_port(backend):
    """SIGKILL in the midst of traffic; the next one takes the same port at once."""
    server = Server(backend, "--shards", "2", *FLAGS)
    port = server.port
    try:
        for _ in range(3):
            load = Mixed(server)
            start_all(load)
            load.wait(1.0)
            assert not load.errors, load.errors
            load.may_end = True
            server.kill()
            server = Server(backend, "--shards", "2", *FLAGS, port=port)
            load.server = server
            peer = Peer(port, "/echo").open()
            peer.echo(5000)
            peer.leave()
            load.stop()
        check_gauges(server)
        server.stop()
    finally:
        if not server.process.stderr.closed:
            server.kill()
