# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What Tidewire must reach, measured (figures.py says how); `tools/figures` prints the table."""

import pytest

import figures
from figures import FIGURES


def check(name, record_property):
    figure = FIGURES[name]
    value = figure.measure()
    print(f"{figure.text}: {value:.{figure.digits}f} {figure.unit} (at most {figure.bound})")
    record_property(name, value)
    assert value <= figure.bound
    if name in figures.COUNTS:
        grown = figures.growth(name, value, figures.committed())
        assert grown is None, grown


def test_instructions_per_echo(record_property):
    check("echo-1", record_property)
    check("echo-16", record_property)


def test_two_counts_of_instructions_agree_within_one_percent():
    first, second = (FIGURES["echo-16"].measure() for _ in range(2))
    print(f"{first:.2f} and {second:.2f} instructions per echo")
    assert abs(first - second) <= 0.01 * first


def test_instructions_per_delivery(record_property):
    check("fanout-1", record_property)
    check("fanout-16", record_property)


def test_growth_over_what_is_committed_is_told():
    was = {"echo-1": 500, "calls-uring": 0.002, "allocations": 0}
    assert figures.growth("echo-1", 525, was) is None
    assert "more than 5%" in figures.growth("echo-1", 527, was)
    assert figures.growth("calls-uring", 0.011, was) is None
    assert figures.growth("calls-uring", 0.02, was)
    assert figures.growth("allocations", 0.02, was)
    assert set(figures.committed()) == set(figures.COUNTS)


def test_system_calls_per_echo(backend, record_property):
    check(f"calls-echo-{backend}", record_property)


def test_system_calls_per_delivery(backend, record_property):
    check(f"calls-{backend}", record_property)


def test_no_heap_allocation_per_message(record_property):
    check("allocations", record_property)


def test_no_heap_allocation_is_held_by_an_idle_connection(record_property):
    check("heap-idle", record_property)


def test_user_space_bytes_of_an_idle_connection(backend, record_property):
    check(f"idle-{backend}", record_property)


def test_the_way_over_another_shard_takes_little_longer(backend, record_property):
    check(f"shard-{backend}", record_property)


@pytest.mark.parametrize("window", (1, 16))
def test_large_messages_cost_no_more_on_io_uring_than_twice_those_on_epoll(window, record_property):
    check(f"large-{window}", record_property)


def test_a_write_delay_spares_a_trading_screen_most_of_its_sends(backend):
    """What tools/figures tells as CPU, here by counts, which do not drift: five messages go in a
    window of 5 ms, a few more windows are begun by those that come first in one."""
    with figures.hurried(), figures.started(backend, "--shards", "1", "--write-delay",
                                            figures.SCREEN_DELAY) as server:
        figures.screen_run(server)
        deliveries = figures.settled(lambda: server.metric("tidewire_deliveries_total"))
        sends = server.metric("tidewire_sends_total")
        print(f"{sends:.0f} sends for {deliveries:.0f} deliveries")
        assert deliveries >= figures.SCREEN_MEMBERS * figures.SCREEN_RATE
        assert sends <= 0.25 * deliveries


def test_instructions_of_the_load_generator(record_property):
    check("generator-1", record_property)
    check("generator-16", record_property)


def test_redis_has_no_more_work_than_with_its_own_benchmark(record_property):
    check("redis-work-16", record_property)


def test_the_binary_needs_no_other_libraries():
    found = figures.libraries()
    print(sorted(found))
    assert found - figures.LIBRARIES == set()
    for name in ("libc.so.6", "liburing.so.2", "libz.so.1"):
        assert name in found, "ldd told nothing"
