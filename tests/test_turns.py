"""Turns, medians and intervals, on a clock that the test moves; no wall time."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import turns


class Clock:
    """Stands until a task moves it; the load makes everything of a round take longer."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.load = 1.0

    def task(self, seconds: float, log: list[str], name: str) -> object:
        def run() -> None:
            self.now_s += self.load * seconds
            log.append(name)

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(turns.time, "process_time", lambda: made.now_s)
    return made


def test_every_task_has_a_turn_in_every_round_and_the_order_moves_on(clock: Clock) -> None:
    log: list[str] = []
    tasks = {name: clock.task(1.0, log, name) for name in "abc"}
    taken = turns.taken_s(tasks, 2)  # type: ignore[arg-type]
    assert "".join(log) == "abc" + "bca" + "cab"  # the first round is not counted
    assert {name: list(seconds) for name, seconds in taken.items()} == {name: [1.0, 1.0] for name in "abc"}


def test_what_is_short_is_called_until_the_turn_is_over(clock: Clock) -> None:
    log: list[str] = []
    turns.taken_s({"a": clock.task(0.003, log, "a")}, 1)  # type: ignore[dict-item]
    assert len(log) == 2 * 7  # 7 * 3 ms are the first to reach 20
    log.clear()
    turns.taken_s({"a": clock.task(1e-9, log, "a")}, 1)  # type: ignore[dict-item]
    assert len(log) == 2 * turns.MOST_CALLS


def test_the_first_of_many_calls_does_not_count(clock: Clock) -> None:
    calls = 0

    def task() -> None:
        nonlocal calls
        calls += 1
        clock.now_s += 0.015 if calls % 2 else 0.007  # two calls fill a turn

    assert list(turns.taken_s({"a": task}, 3)["a"]) == pytest.approx([0.007] * 3)


def test_drift_does_not_reach_a_ratio(clock: Clock) -> None:
    log: list[str] = []
    slow, quick = clock.task(3.0, log, "slow"), clock.task(1.0, log, "quick")

    def drifting() -> None:
        clock.load *= 1.5
        slow()  # type: ignore[operator]

    # Both of a round have the load that the slow one set; over rounds it grows fiftyfold.
    taken = turns.taken_s({"slow": drifting, "quick": quick, "same": quick}, 10)  # type: ignore[dict-item]
    assert taken["quick"][-1] > 20 * taken["quick"][0]
    same = turns.ratio(taken["same"], taken["quick"])
    assert same.low <= 1.0 <= same.high
    assert 2.0 <= turns.ratio(taken["slow"], taken["quick"]).median <= 4.5


def test_an_interval_holds_the_median_that_made_the_rounds_as_often_as_it_says() -> None:
    random = np.random.default_rng(0)
    inside = 0
    for _ in range(200):
        found = turns.summary(random.lognormal(0.0, 0.5, 40))
        assert found.low <= found.median <= found.high
        inside += found.low <= 1.0 <= found.high
    assert 175 <= inside <= 200  # 190 of 200, of which chance takes or gives a few


def test_rounds_that_agree_have_no_interval() -> None:
    assert turns.summary(np.full(5, 2.0)) == turns.Interval(2.0, 2.0, 2.0)
