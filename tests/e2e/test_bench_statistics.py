# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What bench/compare makes of its measurements, and how it starts and stops what it measures."""

import json
import random
import sys

import pytest

from harness import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from measure import compare, load, report, servers, statistics  # noqa: E402
from measure.load import Cell, LoadFailed, Sample  # noqa: E402


def sample(rate, cpu=1.0, busy=False):
    return Sample(rate, cpu, cpu / 4, 3 * cpu / 4, 10.0, 20.0, busy)


def test_quartiles_lie_between_the_closest_ranks():
    s = statistics.spread([4, 1, 3, 2])
    assert (s.low, s.median, s.high, s.count) == (1.75, 2.5, 3.25, 4)
    assert s.relative() == pytest.approx(0.6)
    assert statistics.spread([7]) == (7, 7, 7, 1)


def test_a_failed_measurement_is_a_gap_and_no_zero():
    assert statistics.spread([None, 2, None]).median == 2
    assert statistics.spread([None, None]) is None
    assert statistics.spread([]) is None


def test_ratios_pair_what_was_measured_in_one_round():
    # The machine drifts twofold; the ratio does not.
    drift = [1, 2, 1.5, 0.7, 1.1]
    s = statistics.paired([1.2 * d for d in drift], drift)
    assert (s.low, s.median, s.high) == pytest.approx((1.2, 1.2, 1.2))
    assert statistics.paired([3, None, 5], [None, 4, 10]).count == 1
    assert statistics.paired([1], []) is None


def test_the_best_is_chosen_over_all_rounds():
    assert statistics.best_name({"lucky once": [1, 1, 9], "steady": [2, 2, 2]}) == "steady"
    assert statistics.best_name({"gone": [None], "there": [1]}) == "there"
    assert statistics.best_name({"gone": [None]}) is None


def test_every_contestant_stands_at_every_place_of_a_round():
    names = ["a", "b", "c"]
    orders = [statistics.order_of_round(names, n) for n in range(6)]
    assert all(sorted(o) == names for o in orders)
    for place in range(3):
        assert {o[place] for o in orders} == set(names)


def test_quartiles_hold_half_of_many_values():
    draw = random.Random(1)
    values = [draw.random() ** 3 for _ in range(1000)]
    s = statistics.spread(values)
    inside = sum(s.low <= v <= s.high for v in values)
    assert 0.49 <= inside / len(values) <= 0.52


CELL = Cell("echo", 125, 64, 1)


def test_where_the_generator_was_the_limit_cpu_is_compared():
    by_name = {"tidewire-uring": [sample(100, cpu=1.0, busy=True)] * 3,
               "tidewire-epoll": [sample(90, cpu=2.0)] * 3,
               "bun": [sample(100, cpu=3.0)] * 3}
    ratio, by_cpu = report.comparison(by_name, "bun")
    assert by_cpu and ratio.median == pytest.approx(3.0)
    by_name["tidewire-uring"] = [sample(100, cpu=1.0)] * 3
    ratio, by_cpu = report.comparison(by_name, "bun")
    assert not by_cpu and ratio.median == pytest.approx(1.0)


def test_the_limit_is_the_best_of_its_programs():
    by_name = {"tidewire-epoll": [sample(90)] * 3, "limit-epoll": [sample(95)] * 3,
               "limit-uring-gather": [sample(100)] * 3}
    assert report.comparison(by_name, "limit")[0].median == pytest.approx(0.9)


def about():
    return {"machine": {"kernel": "6.0", "cpu": "a CPU", "cores": 2, "nofile": 1, "load_before": 0},
            "rounds": 3, "seconds": 1, "server_core": 0, "load_core": 1, "date": "today",
            "versions": dict.fromkeys(("tidewire", "bun", "node", "nginx"), "1"),
            "failures": ["ws, all: broken"]}


def test_the_report_has_gaps_for_what_failed():
    results = {CELL: {"tidewire-epoll": [sample(90)] * 3, "ws": [None] * 3,
                      "bun": [sample(45)] * 3}}
    text = report.markdown(results, about())
    row = next(line for line in text.splitlines() if line.startswith(f"| {CELL.name()}"))
    assert "2.00 (2.00–2.00)" in row  # to Bun
    assert "| – |" in row and "0.00" not in row
    assert "ws, all: broken" in text
    told = report.to_json(results, about())["cells"][0]
    assert told["rounds"]["ws"] == [None] * 3
    assert told["ratios"]["ws"] is None and told["ratios"]["bun"]["median"] == pytest.approx(2.0)
    json.dumps(told)


def answer(**changes):
    d = {"ok": True, "failure": None, "messages": {"received": 10, "received_per_second": 5.0},
         "server": {"cpu_us_per_message": 2.0, "cpu_user_us_per_message": 0.5,
                    "cpu_system_us_per_message": 1.5},
         "latency_us": {"p50": 1.0, "p99": 2.0}, "generator": {"bottleneck": True}}
    return json.dumps({**d, **changes})


def test_only_a_good_run_is_a_sample():
    s = load.sample_of(answer())
    assert (s.rate, s.cpu_us, s.busy) == (5.0, 2.0, True)
    assert s.capacity() == pytest.approx(500000)
    for bad in ({"ok": False, "failure": "lost"}, {"server": None},
                {"messages": {"received": 0, "received_per_second": 0}}):
        with pytest.raises(LoadFailed):
            load.sample_of(answer(**bad))


def test_a_generator_that_fails_is_told_with_its_reason():
    class Gone:
        port, pid = 1, 1

    with pytest.raises(LoadFailed, match="cannot do it"):
        load.run("-c", ["sh", "-c", "echo cannot do it >&2; exit 4"], CELL, Gone, 0.1, 0)


PLAIN = "import socket,time\ns=socket.create_server(('127.0.0.1',0))\n" \
        "print('listening', s.getsockname()[1], flush=True)\ntime.sleep(60)"


def test_a_server_is_started_once_and_again_when_it_has_died(tmp_path):
    c = servers.Contestant("plain", ("/usr/bin/python3", "-c", PLAIN), ("echo",))
    stable = servers.Stable([c], 0, tmp_path)
    try:
        first = stable.get("plain", "echo")
        assert stable.get("plain", "echo") is first
        assert stable.names("echo") == ["plain"] and stable.names("fanout") == []
        first.process.kill()
        first.process.wait()
        assert stable.get("plain", "echo").pid != first.pid
    finally:
        stable.stop()
    assert not first.dir.exists() and not first.is_alive()


def test_a_server_that_does_not_start_says_why(tmp_path):
    c = servers.Contestant("broken", ("sh", "-c", "echo no such thing; exit 3"))
    with pytest.raises(servers.StartFailed, match="no such thing"):
        servers.Stable([c], 0, tmp_path).get("broken", "echo")


def test_quick_has_fewer_loads_of_the_same_kinds():
    everything, quick = compare.cells(False), compare.cells(True)
    assert set(quick) < set(everything)
    assert len(everything) == 16 + 6 + 10
    assert {c.kind() for c in quick} == {c.kind() for c in everything}
    assert {c.kind() for c in everything} == {"echo", "fanout", "echo-tls", "fanout-tls", "storm-tls"}


TLS_CELL = Cell("echo", 125, 64, 1, tls=True)


def test_tls_is_a_part_of_its_own():
    results = {CELL: {"tidewire-epoll": [sample(90)] * 3, "bun": [sample(45)] * 3},
               TLS_CELL: {"tidewire-epoll": [sample(80)] * 3, "bun": [sample(20)] * 3},
               TLS_CELL._replace(scenario="storm", resume=True): {"tidewire-epoll": [sample(8)]}}
    plain, tls = report.markdown(results, about()).split("## TLS")
    assert "2.00 (2.00–2.00)" in plain and "4.00" not in plain
    assert "4.00 (4.00–4.00)" in tls and "TLS resumed handshakes, 64 at once" in tls


class Once:
    """What a comparison needs of its servers."""

    def names(self, kind):
        return ["tidewire-epoll"]


def comparison_of(tmp_path, monkeypatch, found, *argv):
    args = compare.parse(["--build", str(tmp_path), "--modules", str(tmp_path), "--rounds", "2", *argv])
    c = compare.Comparison(args)
    c.servers = Once()
    found = iter(found)
    monkeypatch.setattr(c, "measure", lambda name, cell: next(found))
    return c


def interrupted():
    yield sample(1)
    yield sample(2)
    yield sample(3)
    raise KeyboardInterrupt


def test_a_run_that_is_ended_goes_on_from_what_it_had(tmp_path, monkeypatch):
    first = comparison_of(tmp_path, monkeypatch, interrupted())
    assert first.run([CELL, TLS_CELL], None) == 1
    second = comparison_of(tmp_path, monkeypatch, [sample(4)])
    second.go_on()
    assert second.run([CELL, TLS_CELL], None) == 2
    rates = {cell: report.rates(b["tidewire-epoll"]) for cell, b in second.results.items()}
    assert rates == {CELL: [1, 3], TLS_CELL: [2, 4]}
    with pytest.raises(SystemExit, match="must be those"):
        comparison_of(tmp_path, monkeypatch, [], "--quick").go_on()
