"""The status LED: which code, which pattern, that eyes can tell them apart, and the pin through the RPi.GPIO API."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from device.led import DIP_S, PATTERNS, TOLD_S, Code, Led, Seen, State, blink, code, lit, phase_lit

WELL = State(ready=True)
ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State(), Code.STARTING),
        (WELL, Code.PLAYING),
        (replace(WELL, late_s=99.0), Code.LATE),
        (replace(WELL, late_s=100.0 - TOLD_S), Code.PLAYING),
        (replace(WELL, restarted_s=95.0, late_s=99.0), Code.RESTARTED),
        (replace(WELL, audio_lost=True, restarted_s=95.0), Code.AUDIO_LOST),
        (replace(WELL, running=False, audio_lost=True), Code.OFF),
        (State(bundle=False, running=False), Code.NO_BUNDLE),
    ],
)
def test_the_most_urgent_is_said(state: State, said: Code) -> None:
    assert code(state, 100.0) is said


def test_it_goes_out_for_a_moment_at_every_note() -> None:
    struck = replace(WELL, gate_s=10.0)
    assert not lit(struck, 10.0)
    assert not lit(struck, 10.0 + 0.9 * DIP_S)
    assert lit(struck, 10.0 + 1.1 * DIP_S)
    assert lit(WELL, 10.0)


@given(now_s=st.floats(0, 1e7))
def test_steady_is_steady_and_off_is_off(now_s: float) -> None:
    assert lit(WELL, now_s)
    assert not lit(replace(WELL, running=False), now_s)


def _told_apart(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Another number of blinks, or of one blink a period another share of the time on: by half as much again."""
    if len(one) != len(other):
        return True
    if len(one) < 2:
        return False
    shares = sorted(sum(pattern[::2]) / sum(pattern) for pattern in (one, other))
    return shares[1] > 1.5 * shares[0]


def test_eyes_can_tell_all_codes_apart() -> None:
    assert set(PATTERNS) == set(Code)
    for one, other in itertools.combinations(PATTERNS.values(), 2):
        assert _told_apart(one, other), (one, other)
    assert not _told_apart((0.2, 0.3), (0.25, 0.3)), "the measure must find two that are alike"
    assert min(itertools.chain(*PATTERNS.values())) >= 0.2  # slower than five a second: it can be counted


@pytest.mark.parametrize("shown", list(Code))
def test_a_pattern_is_what_its_table_says(shown: Code) -> None:
    pattern = PATTERNS[shown]
    if len(pattern) < 2:
        return
    steps = [
        phase_lit(pattern, 3 * sum(pattern) + 0.005 + 0.01 * n) for n in range(round(sum(pattern) * 100))
    ]
    edges = sum(1 for before, after in itertools.pairwise(steps) if after and not before) + 1
    assert edges == len(pattern) // 2
    assert sum(steps) / 100 == pytest.approx(sum(pattern[::2]), abs=0.03)


def test_growing_counters_become_moments() -> None:
    seen = Seen()
    counts = {"notes": 5, "worker_starts": 1, "control_starts": 1, "underruns": 2, "late_frames": 0}
    first = seen.state(counts, True, False, 1.0)
    assert code(first, 1.0) is Code.PLAYING, "what was counted before anybody looked is no news"
    assert not lit(seen.state({**counts, "notes": 6}, True, False, 2.0), 2.0)
    assert code(seen.state({**counts, "underruns": 3}, True, False, 3.0), 3.0) is Code.LATE
    again = seen.state({**counts, "underruns": 3, "worker_starts": 2}, True, False, 4.0)
    assert code(again, 4.0) is Code.RESTARTED
    assert code(again, 4.0 + TOLD_S) is Code.PLAYING
    assert code(seen.state(counts, True, True, 5.0), 5.0) is Code.AUDIO_LOST


class Pins:
    """A module with RPi.GPIO's names that remembers what it was told, and refuses a line that was not set up."""

    BCM, OUT, LOW, HIGH = 11, 0, 0, 1

    def __init__(self) -> None:
        self.mode: int | None = None
        self.level: dict[int, int] = {}
        self.written = 0

    def setmode(self, mode: int) -> None:
        self.mode = mode

    def setup(self, line: int, direction: int, initial: int) -> None:
        assert (self.mode, direction) == (self.BCM, self.OUT)
        self.level[line] = initial

    def output(self, line: int, level: int) -> None:
        assert line in self.level
        self.level[line] = level
        self.written += 1

    def cleanup(self, line: int) -> None:
        del self.level[line]


def test_the_pin_follows_and_is_given_back_dark() -> None:
    pins = Pins()
    led = Led(pins, 24)
    assert pins.level == {24: Pins.LOW}
    for on in (True, True, False, False, True):
        led.show(on)
        assert pins.level[24] == on
    assert pins.written == 3, "only changes are written"
    led.close()
    assert pins.written == 4
    assert pins.level == {}


def test_a_fault_is_shown_before_the_program_ends() -> None:
    pins, now_s, on_s = Pins(), 50.0, []
    led = Led(pins, 24)

    def sleep(seconds: float) -> None:
        nonlocal now_s
        on_s.append(pins.level[24])
        now_s += seconds

    blink(led, State(bundle=False), 3.1, lambda: now_s, sleep)
    groups = [on for on, _ in itertools.groupby(on_s)]
    assert sum(groups) == 4  # counted four times


def test_the_table_in_the_docs_is_the_table_here() -> None:
    page = (ROOT / "docs" / "service.md").read_text(encoding="utf-8")
    for shown in Code:
        assert f"| {shown.value} |" in page, shown
