# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""Far more connections in one process than it may have descriptors."""

import resource

import pytest

import figures

CONNECTIONS = 100000
DELIVER_MS_MAX = 30000


@pytest.mark.slow
def test_a_hundred_thousand_members_of_one_room():
    """All are connected and counted, get both broadcasts once and in order, and answer pings (the
    client program and crowd() fail otherwise)."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    seen = figures.crowd(CONNECTIONS)
    print(f"{CONNECTIONS} connected in {seen.connect_ms} ms, served in {seen.deliver_ms} ms, "
          f"{seen.pongs} pongs, RLIMIT_NOFILE {hard}")
    assert seen.pongs >= CONNECTIONS
    assert seen.deliver_ms <= DELIVER_MS_MAX
