# SPDX-License-Identifier: MIT
# Copyright (c) 2026 The Tidewire authors
"""What bench/compare makes of its measurements, and how it starts and stops what it measures."""

import collections
import json
import random
import sys

import pytest

from harness import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from measure import compare, goals, load, report, servers, statistics  # noqa: E402
from measure.cells import cells  # noqa: E402
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


@pytest.mark.parametrize("count", (1, 2, 3, 4, 10))
def test_every_contestant_stands_at_every_place_of_a_round(count):
    names = [f"name {i}" for i in range(count)]
    orders = [statistics.order_of_round(names, n) for n in range(2 * count)]
    assert all(sorted(o) == sorted(names) for o in orders)
    for place in range(count):
        assert collections.Counter(o[place] for o in orders) == dict.fromkeys(names, 2)


def test_two_contestants_take_turns():
    firsts = [statistics.order_of_round(["a", "b"], n)[0] for n in range(8)]
    assert "".join(firsts) == "abbaabba"


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
    everything, quick = cells(False), cells(True)
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

    def __init__(self):
        self.dropped = []

    def names(self, kind):
        return ["tidewire-epoll"]

    def drop(self, name, kind):
        self.dropped.append((name, kind))

    def stop(self):
        pass


def comparison_of(tmp_path, monkeypatch, found, *argv):
    args = compare.parse(["--build", str(tmp_path), "--modules", str(tmp_path), "--rounds", "2",
                          "--out", str(tmp_path), "--readme", str(tmp_path / "README.md"), *argv])
    c = compare.Comparison(args)
    c.servers = Once()
    found = iter(found)
    monkeypatch.setattr(c, "measure", lambda name, cell: next(found))
    monkeypatch.setattr(c, "single", lambda name: c.singles.update(single_rows(name)))
    return c


def interrupted():
    yield sample(1)
    yield sample(2)
    yield sample(3)
    raise KeyboardInterrupt


def test_a_run_that_is_ended_goes_on_from_what_it_had(tmp_path, monkeypatch):
    first = comparison_of(tmp_path, monkeypatch, interrupted())
    assert first.run([CELL, TLS_CELL], 0) == 1
    assert first.singles == {}
    second = comparison_of(tmp_path, monkeypatch, [sample(4)])
    second.go_on()
    assert second.run([CELL, TLS_CELL], 0) == 2
    rates = {cell: report.rates(b["tidewire-epoll"]) for cell, b in second.results.items()}
    assert rates == {CELL: [1, 3], TLS_CELL: [2, 4]}
    assert second.singles_done() == set(goals.SINGLE)
    third = comparison_of(tmp_path, monkeypatch, [])
    third.go_on()
    assert third.run([CELL, TLS_CELL], 0) == 2 and third.singles == second.singles
    with pytest.raises(SystemExit, match="must be those"):
        comparison_of(tmp_path, monkeypatch, [], "--quick").go_on()
    (tmp_path / "tidewire").write_text("another build")
    with pytest.raises(SystemExit, match="must be those"):
        comparison_of(tmp_path, monkeypatch, []).go_on()


def test_a_part_measures_no_single_figures(tmp_path, monkeypatch):
    c = comparison_of(tmp_path, monkeypatch, [sample(1)] * 2, "--cells", "echo")
    assert c.run([CELL], 0) == 2
    assert c.singles == {}


@pytest.mark.parametrize("argv, told", ((("--only", "nobody"), "no contestant nobody; there are: bun"),
                                        (("--only", "limit-again", "--cells", "TLS"), "no load"),
                                        (("--cells", "echo 17 B"), "no load has all of: echo 17 B")))
def test_what_can_not_be_measured_is_told(tmp_path, argv, told):
    with pytest.raises(SystemExit, match=told):
        compare.main(["--build", str(tmp_path), "--modules", str(tmp_path), *argv])


def test_a_quick_run_ends_within_a_round(tmp_path, monkeypatch):
    clock = iter([0, 100, *[compare.QUICK_END_S + 1] * 9])
    c = comparison_of(tmp_path, monkeypatch, [sample(1)] * 2, "--quick")
    monkeypatch.setattr(compare.time, "monotonic", lambda: next(clock))
    assert c.run([CELL, TLS_CELL], 0) == 0
    assert c.rounds_of(CELL) == 1 and c.rounds_of(TLS_CELL) == 0


def test_who_has_failed_is_started_anew(tmp_path, monkeypatch):
    c = comparison_of(tmp_path, monkeypatch, [])
    monkeypatch.undo()

    def fails(*_):
        raise LoadFailed("broken")

    monkeypatch.setattr(c.servers, "get", lambda name, kind: None, raising=False)
    monkeypatch.setattr(load, "run", fails)
    assert c.measure("ws", CELL) is None
    assert c.servers.dropped == [("ws", "echo")]
    assert list(c.failures) == [f"ws, {CELL.name()}: broken"]


def test_what_is_left_is_told_by_what_was_measured():
    names = {CELL: ["a", "b"], TLS_CELL: ["a"]}
    r = compare.Remaining(names.get, 2)
    assert r.seconds({CELL: 3, TLS_CELL: 1}) == 3 * 2 * 2 + 2
    r.note(CELL, 5)
    r.note(CELL, 7)
    assert r.seconds({CELL: 1, TLS_CELL: 2}) == 6 + 2 * 3


# What must be reached -------------------------------------------------------------------------------

def everybody(rate=90, cpu=1.0, limit=1.0, bun=2.5, ws=30.0, nchan=30.0, uring=1.0):
    """CPU of each, the rates so that they say the same; `uring` is that of io_uring to epoll."""
    def of(cpu_us):
        return [sample(rate / cpu_us, cpu=cpu_us)] * 3

    return {"tidewire-uring": of(cpu / uring), "tidewire-epoll": of(cpu), "limit-epoll": of(9 * limit),
            "limit-epoll-gather": of(limit), "limit-again": of(limit), "bun": of(bun), "ws": of(ws),
            "nchan": of(nchan)}


def uring_of(cell):
    return 1.05 if goals.is_large(cell) and cell.window == 16 else 1.0


def all_good():
    return {c: everybody(uring=uring_of(c)) for c in goals.PLAIN}


def single_rows(name, median=None, **changes):
    known = {"shards": (1.0, 1.1, False, {}), "latency": (0.3, 1, False, {}),
             "accept": (0.9, 0.8, True, {"per_second": 20000.0, "generator_was_the_limit": True}),
             "screen": (0.3, 0.35, False, {"share_without": 0.6, "share_without_must": 0.7}),
             "slow-reader": (1.0, 1.05, False, {"p99_ratio": 1.1, "p99_ratio_must": 1.25}),
             "hot-channel": (4e6, 3e5, True, {})}
    value, must, at_least, more = known[name]
    value = value if median is None else median
    row = {"median": value, "low": value, "high": value, "must": must, "at_least": at_least,
           "unit": "", **more, **changes}
    return {f"{name}, uring": row, f"{name}, epoll": row}


def all_singles(**changes):
    found = {}
    for name in goals.SINGLE:
        found.update(single_rows(name, **changes.get(name, {})))
    return found


def reached(results, singles=None):
    """What is not reached, by the beginning of its row."""
    verdicts = goals.judge(results, all_singles() if singles is None else singles)
    assert len(verdicts) == 21
    return {v.figure: v for v in verdicts if v.reached is not True}


def test_everything_can_be_reached():
    assert reached(all_good()) == {}


@pytest.mark.parametrize("cell, changes, figures", (
    (Cell("echo", 125, 64, 1), {"limit": 0.9}, ("echo to the limit by CPU",)),
    (Cell("echo", 16, 64, 1), {"bun": 0.95}, ("echo to Bun, each cell",)),
    (Cell("echo", 16, 64, 16), {"bun": 1.2}, ("echo to Bun by CPU, 16 in flight",)),
    (Cell("echo", 16384, 64, 1), {"bun": 1.9}, ("echo to Bun, 16 KiB",)),
    (Cell("echo", 16384, 1000, 1), {"bun": 1.3}, ()),
    (Cell("echo", 16384, 1000, 1), {"bun": 1.2}, ("echo to Bun, 16 KiB",)),
    (Cell("fanout", 125, 100, 16), {"limit": 0.85}, ("fan-out window 16 to the gathered limit",)),
    (Cell("fanout", 125, 1000, 16), {"bun": 1.0}, ("fan-out window 16 to Bun",)),
    (Cell("fanout", 125, 5000, 16), {"bun": 1.0}, ()),
    (Cell("fanout", 125, 100, 16), {"ws": 11}, ("fan-out window 16 to ws",)),
    (Cell("fanout", 125, 100, 16), {"nchan": 9}, ()),
    (Cell("fanout", 125, 1000, 16), {"nchan": 9}, ("fan-out window 16 to nchan",)),
    (Cell("echo", 1024, 64, 1), {"uring": 0.89}, ("io_uring to epoll, each cell",)),
    (Cell("echo", 16384, 64, 1), {"uring": 0.86}, ()),
    (Cell("echo", 16384, 64, 16), {"uring": 1.0}, ("io_uring ahead of epoll",)),
))
def test_a_cell_below_its_bound_is_named(cell, changes, figures):
    results = all_good()
    results[cell] = everybody(**{"uring": uring_of(cell), **changes})
    missed = reached(results)
    assert [any(name.startswith(f) for f in figures) for name in missed] == [True] * len(figures)
    assert all(v.reached is False and cell.name() in v.measured for v in missed.values())


@pytest.mark.parametrize("changes, figures", (
    ({"limit": 0.85}, {"echo to the limit, over the cells",
                       "echo to the limit by CPU, upper quartile in each cell",
                       "fan-out window 1 to the send loop, over the cells",
                       "fan-out window 16 to the gathered limit"}),
    ({"uring": 0.96}, {"io_uring to epoll, both ours, over the cells",
                       "io_uring ahead of epoll, echo of 16 KiB with 16 in flight"}),
))
def test_medians_over_the_cells_are_held(changes, figures):
    missed = reached({c: everybody(**changes) for c in goals.PLAIN})
    assert set(missed) >= figures and all(missed[f].reached is False for f in figures)


def test_a_missing_cell_is_named_and_reaches_nothing():
    results = all_good()
    cell = Cell("fanout", 125, 5000, 16)
    results[cell]["ws"] = [None] * 3
    missed = reached(results)
    assert {name: v.reached for name, v in missed.items()} == {"fan-out window 16 to ws": None}
    assert f"missing: {cell.name()}" in missed["fan-out window 16 to ws"].measured
    del results[cell]
    assert all(v.reached is None for v in reached(results).values())
    assert "Cells are missing" in goals.auto_text(goals.judge(results, {}))
    part = {v.figure: v.reached for v in goals.judge({Cell("echo", 16, 64, 1): everybody(limit=0.5)}, {})}
    assert part["echo to the limit, over the cells"] is None
    assert part["echo to the limit by CPU, upper quartile in each cell"] is False


@pytest.mark.parametrize("name", ("tidewire-uring", "limit-epoll", "limit-epoll-gather"))
def test_a_cell_where_one_has_failed_says_nothing_of_it(name):
    """Neither ours nor the limit may look better because a part of it is not there."""
    cell = Cell("echo", 125, 64, 16)
    for gaps, is_missing in ((1, False), (2, True), (3, True)):
        results = all_good()
        results[cell][name] = [None] * gaps + results[cell][name][gaps:]
        missed = reached(results)
        assert ("echo to the limit, over the cells" in missed) == is_missing
        assert all(v.reached is None and f"missing: {cell.name()}" in v.measured
                   for v in missed.values())


def test_cells_where_the_generator_was_the_limit_are_counted():
    results = all_good()
    for cell in (Cell("echo", 16, 64, 1), Cell("echo", 125, 64, 1)):
        results[cell] = {name: [s._replace(rate=100, busy=True) for s in samples]
                         for name, samples in results[cell].items()}
    verdicts = {v.figure: v for v in goals.judge(results, {})}
    bun = verdicts["echo to Bun, each cell"]
    assert bun.reached and "2 of 16 by CPU" in bun.measured


@pytest.mark.parametrize("name, changes, figure", (
    ("shards", {"median": 1.2}, "two shards to one"),
    ("accept", {"median": 0.7}, "connections accepted"),
    ("screen", {"share_without": 0.71}, "the trading screen without delay"),
    ("slow-reader", {"p99_ratio": 1.3}, "one reader of 1000 stops: the others' p99"),
    ("hot-channel", {"median": 299999}, "hot channel"),
))
def test_single_figures_are_held(name, changes, figure):
    missed = reached(all_good(), all_singles(**{name: changes}))
    assert [n.startswith(figure) for n in missed] == [True]
    assert all(v.reached is False for v in missed.values())


def test_a_backend_without_its_single_figure_is_missing():
    singles = all_singles()
    del singles["shards, epoll"]
    (only,) = reached(all_good(), singles).values()
    assert only.reached is None and "missing: epoll" in only.measured


def test_limits_that_do_the_same_are_one():
    """At window 1 the mean of two that took turns, not the luckier of them; else the best of four."""
    found = {"tidewire-epoll": [sample(100)] * 3,
             "limit-epoll": [sample(100, 0.8), sample(120, busy=True), None],
             "limit-epoll-gather": [sample(120, 1.2), sample(100), sample(500)]}
    one, many = Cell("echo", 125, 64, 1), Cell("echo", 125, 64, 16)
    pooled = report.with_pooled({one: found, many: found})
    assert report.limits(pooled[one]) == ["limit-epoll-both"]
    both = pooled[one]["limit-epoll-both"]
    assert [None if s is None else (s.rate, s.cpu_us, s.busy) for s in both] == [
        (110, 1.0, False), (110, 1.0, True), None]
    assert pooled[many] == found and report.limits(found) == report.LIMITS
    told = report.to_json(pooled, about())["cells"][0]["rounds"]
    assert set(told) == set(found)
    assert "-both" not in report.markdown(pooled, about())


def test_a_limit_that_is_beaten_beyond_its_spread_is_told():
    good = Cell("echo", 16, 64, 1)
    beaten = Cell("echo", 125, 64, 1)
    noisy = Cell("echo", 1024, 64, 1)
    results = {good: everybody(), beaten: everybody(cpu=0.8), noisy: everybody(cpu=0.8)}
    results[noisy]["limit-again"] = [sample(1, cpu=c) for c in (0.6, 1.0, 1.6)]
    found = list(report.beaten_limits(results))
    assert {(cell, name) for cell, name, _ in found} == {(beaten, n) for n in report.OURS}
    text = report.markdown(results, about())
    assert f"- tidewire-epoll, {beaten.name()}: 1.25" in text and noisy.name() in text
    assert "No limit was beaten" in report.markdown({good: everybody()}, about())


def test_the_table_goes_into_the_readme_after_a_whole_run(tmp_path, monkeypatch):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{compare.README_BEGIN}\nold\n{compare.README_END}\nbelow\n")
    c = comparison_of(tmp_path, monkeypatch, [])
    c.results, c.singles = all_good(), all_singles()
    monkeypatch.setattr(report, "plots", lambda results, where: [])
    for rounds in (compare.ROUNDS - 1, compare.ROUNDS):
        assert "old" in readme.read_text()
        compare.write(c, rounds, about()["machine"])
    text = readme.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old" not in text
    assert text.count("| yes |") == 21 and "| hot channel" in text
    told = json.loads((tmp_path / "compare.json").read_text())["goals"]
    assert len(told) == 21 and all(v["reached"] for v in told)
