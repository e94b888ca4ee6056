"""The scan: what pots, control voltages and gates say, read without believing everything, into hands.

A pass a millisecond, or as often as the profile says. Gates come as edges with their own time; the pitch that belongs
to an edge is read at once, because CV and gate usually change together. What two reads do not agree on is no reading:
the last good one stays, and the fault is counted. Pots and control voltages go out as sources ("knob.1", "cv.2",
"gate.2"), from which a patch makes what it likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from device import adc
from device.control import Control
from device.engine import Desk, N
from device.jacks import Jacks
from device.profile import Profile
from device.voct import NOISE_CODES, Calibration, Follower, Quantizer, nominal, schmitt

PITCH_CHANNEL_KEY = -1  # the key of the note that the gate jack plays
GATE_CHANNEL = 16  # one that MIDI does not have, so that no pedal and no zone reaches it
GATE_VELOCITY = 0.85
# Two reads of a quiet input differ by noise of a code or two; what differs more is moving, or nonsense.
AGREE_POT_CODES = 8
JUMP_POT_CODES = 64  # a sixteenth of the travel in 10 ms: a hand can, so it is read again
AGREE_CV_CODES = (
    32  # of 4096: a modulation may move by 25 mV at its pin between two reads (10 Hz from end to end)
)
READS = 4  # before a channel's reading is given up
# A held pitch follows the CV when it has moved by more than this many times the noise of a reading (.7 cents with
# twelve bits at half a volt an octave, .2 with sixteen), so that the last bit does not warble.
FOLLOW_NOISES = 0.75
# A CV that settles so soon after its gate is the pitch that the note should have begun with: two passes, which the
# constant between edge and sound has room for.
SETTLE_NS = 2_000_000
CV_SPAN_V = 5.0  # a control voltage of 5 V is a source of 1
CV_STILL = 2.0 / 4096  # of the span: what moves less is noise
MOVED = 0.02  # of a pot's travel
CENTRE = 0.03  # of an attenuverter's travel either way of its middle: off


@dataclass(frozen=True)
class Tuned:
    """How the V/oct jack is tuned: its calibration, the quantizer behind it; the pots' ends (code left, code right)."""

    calibration: Calibration
    quantizer: Quantizer
    knob_ends: Sequence[tuple[float, float]] = ()


def untuned(profile: Profile) -> Tuned:
    """As the profile promises, nothing measured, nothing quantized."""
    chip = profile.chip_of_pitch
    return Tuned(nominal(profile.pitch, chip.reference_v, 1 << chip.bits), Quantizer(None))


class Scan:
    """Reads ``jacks`` into ``player``; messages go to ``hear`` with their time, sources (name, value) to ``turn``.

    A knob is 0 to 1, a control voltage -1 to 1 for -5 to 5 V times its attenuverter, a gate 0 or 1. Pots that are
    ``quiet`` (from 0) say nothing until they have moved.
    """

    def __init__(  # noqa: PLR0917
        self,
        desk: Desk,
        jacks: Jacks,
        player: Control,
        hear: Callable[[Any, int], None],
        turn: Callable[[str, float], None],
        profile: Profile,
        tuned: Tuned,
        quiet: Iterable[int] = (),
    ) -> None:
        self._desk, self._jacks, self._player, self._hear, self._turn = desk, jacks, player, hear, turn
        self._profile = profile
        self._seen_lost = 0
        self.set_up(tuned)
        self._gates = dict.fromkeys(profile.gates, False)
        self._cv_high = dict.fromkeys(profile.gates, False)  # of gates that are control voltages
        self._edges: deque[tuple[int, int, bool]] = deque()  # that wait for their CV to settle
        self._settle_ns = round(profile.settle_ms * 1e6)
        self._risen_ns = 0

        pots = len(profile.knob_channels)
        scales = {cv.attenuverter - 1: number for number, cv in profile.cvs.items() if cv.attenuverter}
        self._scaled_by = {number: place for place, number in scales.items()}
        self._free_pots = [place for place in range(pots) if place not in scales]
        self._pot_turns = _InTurn(range(pots), profile.knob_scan_hz)
        self._codes = np.zeros(pots, np.float32)
        self._known = np.zeros(pots, np.bool_)
        self._smoothing: adc.Smoothing | None = None
        self._settings = np.full(pots, 0.5, np.float32)
        self._told = np.full(pots, np.nan, np.float32)
        self._rest = dict.fromkeys(quiet, np.nan)  # pot -> where it was found
        ends = np.array(tuned.knob_ends or [(0, adc.FULL_SCALE)] * pots, np.float32)
        self._left, self._travel = ends[:, 0], ends[:, 1] - ends[:, 0]

        self._cv_turns = _InTurn(tuple(profile.cvs), profile.cv_scan_hz)
        self._cv_codes = 1 << profile.cv_chip.bits
        self._followers = {number: Follower(self._cv_codes, 1 / profile.cv_scan_hz) for number in profile.cvs}
        self._cv_read = dict.fromkeys(profile.cvs, 0)
        self._cv_told = dict.fromkeys(profile.cvs, np.inf)

    def step(self, now_ns: int) -> None:
        """One pass, at CLOCK_MONOTONIC ``now_ns``."""
        now_s = now_ns * 1e-9
        self._player.at_ns = now_ns
        self._player.catch_up()
        edges = self._jacks.edges(now_ns)
        lost = self._jacks.lost()
        if lost != self._seen_lost:
            self._desk.counts[N["lost_edges"]] += lost - self._seen_lost
            self._seen_lost = lost
        self._edges += [(at_ns + self._settle_ns, gate, high) for at_ns, gate, high in edges]
        for number in self._cv_turns.due(now_s):
            self._read_cv(number, now_ns)
        happened: list[tuple[int, Any]] = [*self._jacks.messages(now_ns)]
        while self._edges and self._edges[0][0] <= now_ns:
            at_ns, *edge = self._edges.popleft()
            happened.append((at_ns, edge))
        # In the order of their times: the callback plays one event after the other, and one behind a later one is late.
        for at_ns, what in sorted(happened, key=lambda one: one[0]):
            self._player.at_ns = at_ns
            if isinstance(what, list):
                self._edge(at_ns, *what)
            else:
                self._hear(what, at_ns)
        if not any(isinstance(what, list) for _, what in happened):
            self._follow(now_ns)
        for place in self._pot_turns.due(now_s):
            self._read_pot(place, now_ns)

    def turn_all(self) -> None:
        """Tell of every knob and control voltage at the next pass: who listens has changed."""
        self._told[:] = np.nan
        self._cv_told = dict.fromkeys(self._cv_told, np.inf)

    def set_up(self, tuned: Tuned) -> None:
        """Go over to another calibration or scale."""
        codes, profile = self._jacks.pitch_codes, self._profile
        self._tuned = tuned
        self._follower = Follower(codes, 1 / profile.pitch_scan_hz)
        self._agree_codes = self._follower.agree_codes
        calibration = tuned.calibration
        per_code = abs(calibration.jack_v(codes - 1.0) - calibration.jack_v(0.0)) / (codes - 1) * 12.0
        self._follow_semitones = FOLLOW_NOISES * NOISE_CODES[codes] * per_code
        self._pitch_code = 0
        self._pitch_midi = self._heard_midi = profile.jack_midi(calibration.jack_v(0.0))

    def _edge(self, at_ns: int, gate: int, high: bool) -> None:
        if high == self._gates[gate]:
            return
        self._gates[gate] = high
        if gate == 1:
            if high:
                self._risen_ns = at_ns
                self._read_pitch(READS)
                self._player.note_on(PITCH_CHANNEL_KEY, self._pitch_midi, GATE_VELOCITY, GATE_CHANNEL)
            else:
                self._player.note_off(PITCH_CHANNEL_KEY, GATE_CHANNEL)
        self._turn(f"gate.{gate}", float(high))

    def _follow(self, now_ns: int) -> None:
        """Between edges: the pitch that is there, for the note that is held and the one that is to come."""
        before = self._pitch_midi
        self._read_pitch(2)
        if self._pitch_midi != before:
            self._player.expect((self._pitch_midi,))
            if self._gates[1]:
                settling = now_ns - self._risen_ns <= SETTLE_NS
                self._player.at_ns = self._risen_ns if settling else now_ns
                self._player.repitch(PITCH_CHANNEL_KEY, self._pitch_midi, GATE_CHANNEL)
                self._player.at_ns = now_ns

    def _read_pitch(self, reads: int) -> None:
        """Take the pitch if a read agrees with the one before it, or the one after."""
        code = self._agreed(self._jacks.pitch, self._pitch_code, self._agree_codes, reads)
        if code is None:
            return
        self._pitch_code = code
        midi = self._profile.jack_midi(self._tuned.calibration.jack_v(self._follower.hear(code)))
        if abs(midi - self._heard_midi) > self._follow_semitones:
            self._heard_midi = midi
            self._pitch_midi = self._tuned.quantizer.hear(midi)

    def _read_cv(self, number: int, now_ns: int) -> None:
        """One control voltage; it may be a gate as well."""
        code = self._agreed(lambda: self._jacks.cv(number), self._cv_read[number], AGREE_CV_CODES, READS)
        if code is None:
            return
        self._cv_read[number] = code
        stage, lsb_v = self._profile.cvs[number], self._profile.cv_chip.reference_v / self._cv_codes
        volts = stage.jack_v((self._followers[number].hear(code) + 0.5) * lsb_v)
        self._player.at_ns = now_ns
        for gate, way in self._profile.gates.items():
            if way.cv == number:
                high = schmitt(self._cv_high[gate], volts, way.on_v, way.off_v)
                if high != self._cv_high[gate]:
                    self._cv_high[gate] = high
                    self._edges.append((now_ns + self._settle_ns, gate, high))
        value = min(max(volts / CV_SPAN_V, -1.0), 1.0) * self._attenuverter(number)
        if abs(value - self._cv_told[number]) > CV_STILL:
            self._cv_told[number] = value
            self._turn(f"cv.{number}", value)

    def _attenuverter(self, number: int) -> float:
        """By what a control voltage is scaled: -1 to 1."""
        place = self._scaled_by.get(number)
        if place is None:
            return 1.0
        off = float(self._settings[place]) * 2.0 - 1.0
        span = 1.0 - 2.0 * CENTRE
        return float(np.sign(off)) * max(abs(off) - 2.0 * CENTRE, 0.0) / span

    def _read_pot(self, n: int, now_ns: int) -> None:
        """A pot; after the last one, what all of them say."""
        code = self._read(lambda: self._jacks.pot(n))
        if code is not None and self._known[n] and abs(code - self._codes[n]) > JUMP_POT_CODES:
            again = self._read(lambda: self._jacks.pot(n))
            if again is None or abs(again - code) > AGREE_POT_CODES:
                code = None
                self._desk.counts[N["adc_faults"]] += 1
        if code is not None:
            self._codes[n] = code
            self._known[n] = True
        if n < len(self._codes) - 1 or not self._known.all():
            return
        read = ((self._codes - self._left) / self._travel).clip(0.0, 1.0)
        period_s = self._pot_turns.lap_s
        self._smoothing = adc.smooth(self._smoothing or adc.begin_smoothing(read), read, period_s)
        self._settings = adc.settings(self._smoothing)
        self._player.at_ns = now_ns
        for place in self._free_pots:
            if place in self._rest and not self._has_moved(place):
                continue
            if self._settings[place] != self._told[place]:
                self._told[place] = self._settings[place]
                self._turn(f"knob.{place + 1}", float(self._settings[place]))

    def _has_moved(self, place: int) -> bool:
        """Whether a quiet pot has been moved; then it is quiet no more."""
        if np.isnan(self._rest[place]):
            self._rest[place] = float(self._settings[place])
        if abs(self._settings[place] - self._rest[place]) <= MOVED:
            return False
        del self._rest[place]
        return True

    def _agreed(self, channel: Callable[[], int], before: float, agree: float, reads: int) -> int | None:
        """A code that is near the one before it, or that the next one confirms; else None, and a fault is counted."""
        for _ in range(reads):
            code = self._read(channel)
            if code is not None and abs(code - before) <= agree:
                return code
            if code is not None:
                before = code
        self._desk.counts[N["adc_faults"]] += 1
        return None

    def _read(self, channel: Callable[[], int]) -> int | None:
        """A code, or None where the bus failed."""
        try:
            return channel()
        except OSError:
            self._desk.counts[N["adc_faults"]] += 1
            return None


class _InTurn:
    """One after the other, evenly spread, each so often a second."""

    def __init__(self, what: Sequence[int], each_hz: float) -> None:
        self._what = what
        self.lap_s = 1 / each_hz
        self._apart_s = self.lap_s / max(len(what), 1)
        self._next, self._next_s = 0, 0.0

    def due(self, now_s: float) -> Iterator[int]:
        """Those whose turn has come."""
        if not self._what:
            return
        if self._next_s < now_s - 1.0:  # the first pass, or after a rest
            self._next_s = now_s
        while self._next_s <= now_s:
            self._next_s += self._apart_s
            yield self._what[self._next]
            self._next = (self._next + 1) % len(self._what)
