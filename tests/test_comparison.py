"""Two runs side by side: how often alike ones are told apart, by counting, and what is read and what refused."""

from __future__ import annotations

import copy
import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import darkrack
from device import comparison
from device.comparison import NOISE, left_away, measured, mistaken


def run_of(scale: float = 1.0, seed: int = 0, rounds: int = 5, bundle: str = "a.rack") -> dict[str, Any]:
    """What comparison reads of a run, with figures around 1."""
    rng = np.random.default_rng(seed)

    def figure(unit: str, factor: float) -> dict[str, Any]:
        better, moved_by = ("higher", "share") if unit == "x" else ("lower", "speed")
        return measured(
            list(factor * np.exp(0.05 * rng.standard_normal(rounds))), unit, better=better, moved_by=moved_by
        )

    return {
        "kind": comparison.KIND,
        "format": comparison.FORMAT,
        "date": "2026-11-21",
        "quick": True,
        "machine": {"processor": "A processor", "cores": 2},
        "quiet": {
            "noise": [],
            "figures": {loop: measured([1.0] * rounds, "ms") for loop in comparison.LOOPS.values()},
        },
        "inference": [
            {
                "bundle": bundle,
                "variant": "float32",
                "runtime": "LiteRT",
                "threads": threads,
                "figures": {"p50": figure("ms", scale), "peak memory": figure("MB", 60.0)},
            }
            for threads in (1, 2)
        ],
        "voices": [{"what": "8 voices", "figures": {"times real time": figure("x", 20 / scale)}}],
        "callback": [],
        "program": [{"what": "gate", "figures": {"p50": figure("ms", 4.7)}}],
    }


@pytest.mark.parametrize(
    ("rounds", "away"), [(1, 0), (2, 0), (3, 0), (4, 0), (5, 0), (4, 1), (5, 1), (6, 1), (6, 2)]
)
def test_the_chance_of_a_mistake_is_that_of_counting_all_orders(rounds: int, away: int) -> None:
    apart = 0
    orders = list(itertools.combinations(range(2 * rounds), rounds))
    for mine in orders:
        other = sorted(set(range(2 * rounds)) - set(mine))
        a, b = (ranks[away : rounds - away] for ranks in (mine, other))
        apart += a[-1] < b[0] or b[-1] < a[0]
    assert mistaken(rounds, away) == pytest.approx(apart / len(orders))


def test_outer_rounds_are_left_away_while_mistakes_stay_rare() -> None:
    assert mistaken(4) > comparison.CHANCE > mistaken(5)
    assert left_away(5) == 0
    assert left_away(12) == 2
    assert all(mistaken(n, left_away(n)) <= comparison.CHANCE for n in range(5, 40))


@pytest.mark.parametrize("rounds", [3, 4, 5, 6, 12])
@pytest.mark.parametrize("kind", ["normal", "uniform", "exponential", "heavy"])
def test_alike_runs_are_told_apart_as_rarely_as_is_said(rounds: int, kind: str) -> None:
    """And a planted difference is found: twice the time, where rounds differ by 5 %."""
    rng = np.random.default_rng(3)
    runs = 3000

    def drawn() -> Any:
        return {
            "normal": lambda: rng.standard_normal((runs, rounds)),
            "uniform": lambda: rng.random((runs, rounds)),
            "exponential": lambda: rng.exponential(size=(runs, rounds)),
            "heavy": lambda: rng.standard_t(2, (runs, rounds)),
        }[kind]()

    alike = slower = 0
    for a, b in zip(np.exp(0.05 * drawn()), np.exp(0.05 * drawn()), strict=True):
        one, two, double = measured(list(a), "ms"), measured(list(b), "ms"), measured(list(2 * b), "ms")
        alike += two["low"] > one["high"] or two["high"] < one["low"]
        slower += double["low"] > one["high"]
    assert alike / runs <= comparison.CHANCE
    assert slower / runs > (0.5 if kind == "heavy" else 0.95)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), st.floats(0, 1))
def test_a_figure_lies_in_its_range(rounds: list[float], step: float) -> None:
    found = measured(rounds, "ms", step)
    assert 0 <= found["low"] <= found["value"] * (1 + 1e-4)
    assert found["value"] <= found["high"] * (1 + 1e-4)
    assert found["value"] == pytest.approx(float(np.median(rounds)), rel=1e-4)


def test_the_range_is_never_finer_than_the_measurement() -> None:
    found = measured([1.0, 1.0], "ms", step=0.1)
    assert (found["low"], found["high"]) == (0.95, 1.05)


def test_few_rounds_are_stretched() -> None:
    three, four, six = (measured([1.0, 2.0, 4.0] * n, "ms") for n in (1, 2, 4))
    assert (three["low"], three["high"]) == (0.25, 16.0)  # 4 times, once more at either end
    assert (four["low"], four["high"]) == pytest.approx((4**-0.25, 4 * 4**0.25), rel=1e-4)
    assert six["low"] >= four["low"]
    assert six["high"] <= four["high"]


def test_a_run_beside_itself_is_noise_and_a_slower_one_is_slower() -> None:
    a = run_of()
    assert {row.verdict for row in comparison.compare(a, a)} == {NOISE}
    assert all(row.low <= 1 <= row.high and row.ratio == 1 for row in comparison.compare(a, a))
    rows = {row.what: row for row in comparison.compare(a, run_of(scale=1.5, seed=1))}
    assert rows["float32 LiteRT 1 thread: p50"].verdict == "slower"
    assert rows["float32 LiteRT 2 threads: p50"].ratio == pytest.approx(1.5, rel=0.15)
    assert rows["8 voices: times real time"].verdict == "less"
    assert rows["float32 LiteRT 1 thread: peak memory"].verdict == NOISE
    back = {row.what: row for row in comparison.compare(run_of(scale=1.5, seed=1), a)}
    assert back["float32 LiteRT 1 thread: p50"].verdict == "faster"
    assert back["8 voices: times real time"].verdict == "more"


def test_what_the_machine_did_to_a_fixed_loop_is_allowed_for_on_one_processor() -> None:
    a, b = run_of(), run_of(1.5, seed=1)
    speed, share = (comparison.LOOPS[by] for by in ("speed", "share"))
    b["quiet"]["figures"][share] = measured([1.5, 1.4, 1.6, 1.5, 1.5], "ms")
    rows = {row.what: row for row in comparison.compare(a, b)}
    assert rows[share].verdict == "slower"
    assert rows["float32 LiteRT 1 thread: p50"].verdict == "slower"  # a median of short times does not wait
    assert rows["8 voices: times real time"].verdict == NOISE
    b["quiet"]["figures"][speed] = measured([1.5, 1.4, 1.6, 1.5, 1.5], "ms")
    rows = {row.what: row for row in comparison.compare(a, b)}
    assert rows["float32 LiteRT 1 thread: p50"].verdict == NOISE
    rows = {row.what: row for row in comparison.compare(a, run_of(4.0, seed=1) | {"quiet": b["quiet"]})}
    assert rows["float32 LiteRT 1 thread: p50"].verdict == "slower"  # by more than that
    back = {row.what: row for row in comparison.compare(b, a)}
    assert back["float32 LiteRT 1 thread: p50"].verdict == NOISE
    b["machine"] = {"processor": "Another processor", "cores": 2}
    rows = {row.what: row for row in comparison.compare(a, b)}
    assert rows["float32 LiteRT 1 thread: p50"].verdict == "slower"


@pytest.mark.parametrize("rounds", [1, 2])
def test_one_round_or_two_tell_nothing(rounds: int) -> None:
    rows = comparison.compare(run_of(rounds=rounds), run_of(3.0, 1, rounds=rounds))
    assert {row.verdict for row in rows} == {NOISE}


def test_a_figure_of_nothing_has_no_ratio() -> None:
    a = run_of()
    a["program"][0]["figures"]["p50"] = measured([0.0, 0.0], "ms")
    assert "gate: p50" not in {row.what for row in comparison.compare(a, run_of())}
    one = run_of()
    one["program"][0]["figures"]["p50"] = measured([0.0, 1.0, 1.0], "ms")
    assert next(row for row in comparison.compare(one, run_of()) if row.what == "gate: p50").high == math.inf


def written(folder: Path, name: str, content: Any) -> str:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def test_the_command_prints_both_with_ratio_range_and_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = run_of(1.5, seed=1, bundle="b.rack")
    slow["quiet"]["noise"] = ["a load of 3.00 before it began"]
    a, b = written(tmp_path, "a.json", run_of()), written(tmp_path, "b.json", slow)
    assert darkrack.main(["bench", "--compare", a, b]) == 0
    said = capsys.readouterr().out
    assert "B: " + b + ", A processor, 2026-11-21, noisy (a load of 3.00" in said
    assert "the bundles are not the same: A a.rack, B b.rack" in said
    row = next(line for line in said.splitlines() if line.startswith("float32 LiteRT 1 thread: p50"))
    found = next(one for one in comparison.compare(run_of(), slow) if one.what.endswith("1 thread: p50"))
    assert f"{found.ratio:.3f}" in row
    assert f"{found.low:.3f}" in row
    assert row.endswith("slower")
    assert "fewer than one in 100 are taken for different ones" in said


def without(*keys: str) -> dict[str, Any]:
    document: dict[str, Any] = copy.deepcopy(run_of())
    place: Any = document
    for key in keys[:-1]:
        place = place[int(key) if key.isdigit() else key]
    del place[keys[-1]]
    return document


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("[]", "JSON of something else"),
        ({"kind": "darkrack realtime"}, "JSON of something else"),
        (run_of() | {"format": 2}, "format 2"),
        (run_of() | {"format": True}, "format True"),
        (without("machine"), "'machine'"),
        (without("inference", "0", "bundle"), "'bundle'"),
        (without("program", "0", "figures", "p50", "rounds"), "'rounds'"),
        (run_of() | {"voices": [1]}, "lacks or mixes up"),
        (json.dumps(run_of()).replace('"value": ', '"value": "x", "was": '), "the numbers of a figure"),
        (json.dumps(run_of()).replace('"value": ', '"value": NaN, "was": '), "the numbers of a figure"),
    ],
)
def test_what_is_no_run_is_refused(
    content: Any, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = written(tmp_path, "a.json", run_of()), written(tmp_path, "b.json", content)
    assert darkrack.main(["bench", "--compare", good, bad]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"error: {bad}: ")
    assert told in said


def test_a_file_that_is_not_there_and_runs_with_nothing_in_common(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = written(tmp_path, "a.json", run_of())
    assert darkrack.main(["bench", "--compare", good, str(tmp_path / "none.json")]) == 1
    assert "none.json" in capsys.readouterr().err
    bare = {**run_of(), "inference": [], "voices": [], "program": []}
    assert darkrack.main(["bench", "--compare", good, written(tmp_path, "bare.json", bare)]) == 1
    assert "two runs with figures in common" in capsys.readouterr().err
