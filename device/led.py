"""The status LED: one light that says from across a stage whether the instrument is well, and if not, why.

`code` decides what is to be said, `lit` whether the light is on at a moment; both are pure. `Led` switches a pin
through the RPi.GPIO API, which comes as an argument: rpi-lgpio's, Jetson.GPIO's, or a simulated one.

A fault is told by counting: so many blinks, then a pause. Eyes can count them: no phase is shorter than a fifth of a
second, but for the dip at a note, which is only to be noticed.
"""

from __future__ import annotations

import enum
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

TOLD_S = 10.0  # a fault that is over is still told so long
DIP_S = 0.1  # the light goes out at a gate; two rounds of the supervisor
PAUSE_S = 1.4  # between two counted groups
NEVER = -math.inf


class Code(enum.Enum):
    """What the light says; the later one wins where several hold. The values are the words of docs/service.md."""

    OFF = "off"
    PLAYING = "plays"
    LATE = "frames came late"
    STARTING = "starts"
    RESTARTED = "worker or front was started again"
    AUDIO_LOST = "the sound card is gone"
    NO_BUNDLE = "there is nothing to play"


def _counted(blinks: int) -> tuple[float, ...]:
    return (0.2, 0.3) * (blinks - 1) + (0.2, PAUSE_S)


# Seconds on, off, on, off ..., from the start of the clock and over again. One number alone: on for ever; none: off.
PATTERNS: Mapping[Code, tuple[float, ...]] = {
    Code.OFF: (),
    Code.PLAYING: (1.0,),
    Code.LATE: (1.6, 0.4),  # on, with a wink
    Code.STARTING: (0.8, 0.8),
    Code.RESTARTED: _counted(2),
    Code.AUDIO_LOST: _counted(3),
    Code.NO_BUNDLE: _counted(4),
}


@dataclass(frozen=True)
class State:
    """What is known of the instrument; moments in seconds of one monotonic clock, NEVER where there was none."""

    running: bool = True
    ready: bool = False  # a gate would sound
    bundle: bool = True  # there is something to play
    audio_lost: bool = False
    restarted_s: float = NEVER
    late_s: float = NEVER  # when frames or a block were last late
    gate_s: float = NEVER  # when a note last began


def code(state: State, now_s: float) -> Code:
    """The most urgent of what is to be said at ``now_s``."""
    said = [
        (Code.NO_BUNDLE, not state.bundle),
        (Code.OFF, not state.running),
        (Code.AUDIO_LOST, state.audio_lost),
        (Code.RESTARTED, now_s - state.restarted_s < TOLD_S),
        (Code.STARTING, not state.ready),
        (Code.LATE, now_s - state.late_s < TOLD_S),
    ]
    return next((one for one, holds in said if holds), Code.PLAYING)


def lit(state: State, now_s: float) -> bool:
    """Whether the light is on at ``now_s``; while it plays it goes out for a moment at every note."""
    shown = code(state, now_s)
    if shown is Code.PLAYING:
        return now_s - state.gate_s >= DIP_S
    return phase_lit(PATTERNS[shown], now_s)


def phase_lit(pattern: tuple[float, ...], now_s: float) -> bool:
    """Whether a light with this pattern, as in PATTERNS, is on at ``now_s``."""
    if len(pattern) < 2:
        return bool(pattern)
    left_s = now_s % sum(pattern)
    for number, span_s in enumerate(pattern):
        if left_s < span_s:
            return number % 2 == 0
        left_s -= span_s
    return False  # a rounding error past the end, where every pattern is off


class Led:
    """A light between ``line`` and ground; ``gpio`` speaks the RPi.GPIO API and numbers lines as BCM does.

    Written to only when it changes: the supervisor calls it twenty times a second. What the module raises is not
    caught: whoever opens it decides whether an instrument without a light may play.
    """

    def __init__(self, gpio: Any, line: int) -> None:
        self._gpio, self._line = gpio, line
        gpio.setmode(gpio.BCM)
        gpio.setup(line, gpio.OUT, initial=gpio.LOW)
        self._on = False

    def show(self, on: bool) -> None:
        """Switch it."""
        if on != self._on:
            self._gpio.output(self._line, self._gpio.HIGH if on else self._gpio.LOW)
            self._on = on

    def close(self) -> None:
        """Dark, and the line is anybody's again."""
        self.show(False)
        self._gpio.cleanup(self._line)


class Seen:
    """From counters that only grow to a State: remembers when each was last seen to grow."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._grew_s: dict[str, float] = {}

    def state(self, counts: Mapping[str, int], ready: bool, audio_lost: bool, now_s: float) -> State:
        """The state at ``now_s``; ``counts`` as `device.engine.counted` gives them."""
        for name, count in counts.items():
            if count > self._counts.get(name, count):
                self._grew_s[name] = now_s
            self._counts[name] = count
        return State(
            ready=ready,
            audio_lost=audio_lost,
            restarted_s=self._last("worker_starts", "control_starts") if ready else NEVER,
            late_s=self._last("underruns", "jumps", "late_events", "late_frames"),
            gate_s=self._last("notes"),
        )

    def _last(self, *names: str) -> float:
        return max(self._grew_s.get(name, NEVER) for name in names)


def blink(
    led: Led,
    state: State,
    seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a state for so long: a fault that keeps a program from starting would leave the light dark."""
    begin_s = clock()
    while (now_s := clock()) - begin_s < seconds:
        led.show(lit(state, now_s - begin_s))
        sleep(0.05)
