"""Things timed side by side: a turn each in every round, so that what else the machine does falls on all alike.

Time is the processor time of the process, all of its threads together. On a machine that others use as well, a call
of half a second is interrupted for longer than it takes, and one of a tenth of a millisecond hardly ever: by the wall
clock, such a machine would make what is slow look slower. What caches and memory lose to others is in it all the same.

A round's figure of a task is the median of its calls in that round; what is reported is the median over the rounds,
and ratios are medians of ratios within rounds. Intervals are percentiles of the bootstrap over whole rounds (Efron and
Tibshirani 1993, chapter 13): the rounds are what differs, as the machine's load comes and goes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# A turn calls its task until this much time has gone, so that the clock's fraction of a microsecond and the waking of a
# sleeping core do not count; what takes longer is called once.
TURN_S = 0.02
MOST_CALLS = 200
RESAMPLES = 2000  # 50 of them lie outside of each end of the interval
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A median over rounds, and between which values it lies with CONFIDENCE; seconds, or a ratio of them."""

    median: float
    low: float
    high: float


def taken_s(tasks: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, Floats]:
    """Call every task in turn, ``rounds`` times over: the seconds that a call took in each round, by name.

    The order moves on by one with every round. In a turn of many calls the first is not counted: its memory was
    another's before. A whole round before the first one is not counted, either.
    """
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    order = list(tasks)
    for number in range(-1, rounds):
        for name in order:
            seconds = _turn_s(tasks[name])
            if number >= 0:
                taken[name].append(seconds)
        order.append(order.pop(0))
    return {name: np.array(seconds) for name, seconds in taken.items()}


def _turn_s(task: Callable[[], object]) -> float:
    calls: list[float] = []
    began = time.process_time()
    while len(calls) < MOST_CALLS and (not calls or time.process_time() - began < TURN_S):
        before = time.process_time()
        task()
        calls.append(time.process_time() - before)
    return float(np.median(calls[1:] or calls))


def summary(values: Floats) -> Interval:
    """The median over rounds of ``values`` (rounds,), with its interval."""
    random = np.random.default_rng(0)  # the same rounds have the same interval
    drawn = values[random.integers(0, len(values), (RESAMPLES, len(values)))]
    low, high = np.quantile(np.median(drawn, axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(np.median(values)), float(low), float(high))


def ratio(values: Floats, yardstick: Floats) -> Interval:
    """How many times longer ``values`` are than ``yardstick``, both (rounds,) of the same rounds."""
    return summary(values / yardstick)
