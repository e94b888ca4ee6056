"""The scan: what pots, V/oct and gates say, read without believing everything, into hands.

A pass a millisecond, or as often as the profile says. Gates come as edges with their own time; the pitch that belongs
to an edge is read at once, because CV and gate usually change together. What two reads do not agree on is no reading:
the last good one stays, and the fault is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mido
import numpy as np

from device import adc
from device.control import Control
from device.engine import Desk, N

PITCH_CHANNEL_KEY = -1  # the key of the note that the gate jack plays
GATE_CHANNEL = 15  # apart from the keyboards' channels, so that a pedal on channel 1 does not hold it
GATE_VELOCITY = 0.85
# Two reads of a quiet input differ by noise of a code or two; what differs more is moving, or nonsense.
AGREE_POT_CODES, AGREE_PITCH_CODES = 8, 6
JUMP_POT_CODES = 64  # a sixteenth of the travel in 10 ms: a hand can, so it is read again
READS = 4  # before a channel's reading is given up
# A held pitch follows the CV when it has moved by more than this: 1.5 codes of 12 bits at 0.5 V an octave
# (3.3 V / 4096 / 0.5 V * 12 = 0.019 semitones each), so that the last bit does not warble.
FOLLOW_SEMITONES = 0.03
# A CV that settles so soon after its gate is the pitch that the note should have begun with: two passes, which the
# constant between edge and sound has room for.
SETTLE_NS = 2_000_000


@dataclass(frozen=True)
class Jacks:
    """The module's inputs, however they are wired.

    ``pot(n)``: code 0..1023 of a pot; ``pitch()``: code of the V/oct input, whose pitch ``to_midi`` tells; ``edges()``:
    (time in ns, level) of the gate since the last call; ``messages()``: (time in ns, MIDI message) likewise.
    """

    pots: int
    pot: Callable[[int], int]
    pitch: Callable[[], int]
    to_midi: Callable[[float], float]
    edges: Callable[[], Sequence[tuple[int, bool]]]
    messages: Callable[[], Sequence[tuple[int, mido.Message]]]


class Scan:
    """Reads ``jacks`` into ``player``; pots turn ``knobs`` (attributes; None: nothing), messages go to ``hear``."""

    def __init__(  # noqa: PLR0917
        self,
        desk: Desk,
        jacks: Jacks,
        player: Control,
        hear: Callable[[Any], None],
        knobs: Sequence[str | None],
        knobs_hz: float,
    ) -> None:
        self._desk, self._jacks, self._player, self._hear = desk, jacks, player, hear
        self.knobs = list(knobs)
        self._pot_period_s = 1 / (knobs_hz * jacks.pots)
        self._pot = 0
        self._next_pot_s = 0.0
        self._codes = np.zeros(jacks.pots, np.float32)
        self._known = np.zeros(jacks.pots, np.bool_)
        self._smoothing: adc.Smoothing | None = None
        self._settings = np.full(jacks.pots, np.nan, np.float32)
        self._pitch_code = 0
        self._pitch_midi = jacks.to_midi(0.0)
        self._gate = False
        self._risen_ns = 0

    def step(self, now_ns: int) -> None:
        """One pass, at CLOCK_MONOTONIC ``now_ns``."""
        now_s = now_ns * 1e-9
        self._player.at_ns = now_ns
        self._player.catch_up()
        edges = self._jacks.edges()
        happened: list[tuple[int, Any]] = [*self._jacks.messages(), *edges]
        # In the order of their times: the callback plays one event after the other, and one behind a later one is late.
        for at_ns, what in sorted(happened, key=lambda one: one[0]):
            if isinstance(what, bool):
                self._edge(at_ns, what)
            else:
                self._player.at_ns = at_ns
                self._hear(what)
        if not edges:
            self._follow(now_ns)
        if self._next_pot_s < now_s - 1.0:  # the first pass, or after a rest
            self._next_pot_s = now_s
        while self._next_pot_s <= now_s:
            self._next_pot_s += self._pot_period_s
            self._read_pot(now_ns)

    def _edge(self, at_ns: int, high: bool) -> None:
        self._player.at_ns = at_ns
        if high == self._gate:
            return
        self._gate = high
        if high:
            self._risen_ns = at_ns
            self._read_pitch(READS)
            self._player.note_on(PITCH_CHANNEL_KEY, self._pitch_midi, GATE_VELOCITY, GATE_CHANNEL)
        else:
            self._player.note_off(PITCH_CHANNEL_KEY, GATE_CHANNEL)

    def _follow(self, now_ns: int) -> None:
        """Between edges: the pitch that is there, for the note that is held and the one that is to come."""
        before = self._pitch_midi
        self._read_pitch(2)
        if self._pitch_midi != before:
            self._player.expect((self._pitch_midi,))
            if self._gate:
                settling = now_ns - self._risen_ns <= SETTLE_NS
                self._player.at_ns = self._risen_ns if settling else now_ns
                self._player.repitch(PITCH_CHANNEL_KEY, self._pitch_midi, GATE_CHANNEL)

    def _read_pitch(self, reads: int) -> None:
        """Take the pitch if a read agrees with the one before it, or the one after."""
        before = self._pitch_code
        for _ in range(reads):
            code = self._read(self._jacks.pitch)
            if code is not None and abs(code - before) <= AGREE_PITCH_CODES:
                break
            if code is not None:
                before = code
        else:
            self._desk.counts[N["adc_faults"]] += 1
            return
        self._pitch_code = code
        pitch_midi = self._jacks.to_midi(float(code))
        if abs(pitch_midi - self._pitch_midi) > FOLLOW_SEMITONES:
            self._pitch_midi = pitch_midi

    def _read_pot(self, now_ns: int) -> None:
        """The next pot in turn; after the last one, what all of them say."""
        n = self._pot
        code = self._read(lambda: self._jacks.pot(n))
        if code is not None and self._known[n] and abs(code - self._codes[n]) > JUMP_POT_CODES:
            again = self._read(lambda: self._jacks.pot(n))
            if again is None or abs(again - code) > AGREE_POT_CODES:
                code = None
                self._desk.counts[N["adc_faults"]] += 1
        if code is not None:
            self._codes[n] = code
            self._known[n] = True
        self._pot = (n + 1) % self._jacks.pots
        if self._pot or not self._known.all():
            return
        read = self._codes / np.float32(adc.FULL_SCALE)
        period_s = self._pot_period_s * self._jacks.pots
        self._smoothing = adc.smooth(self._smoothing or adc.begin_smoothing(read), read, period_s)
        settings = adc.settings(self._smoothing)
        self._player.at_ns = now_ns
        for place in np.flatnonzero(settings != self._settings):
            name = self.knobs[place] if place < len(self.knobs) else None
            if name is not None:
                self._player.set_attribute(name, float(settings[place]))
        self._settings = settings

    def turn_all(self) -> None:
        """Tell the player of every knob at the next pass: it has other attributes now."""
        self._settings = np.full(self._jacks.pots, np.nan, np.float32)

    def _read(self, channel: Callable[[], int]) -> int | None:
        """A code, or None where the bus failed."""
        try:
            return channel()
        except OSError:
            self._desk.counts[N["adc_faults"]] += 1
            return None
