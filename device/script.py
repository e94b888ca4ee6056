"""A script: what hands, cables and bad luck do to the simulated jacks, as functions of time.

A TOML file, strict. Only ``seconds`` is required:

    seconds = 20               # how long it lasts
    loop = true                # then again, for ever; without it everything is let go at the end

    [pot.1]                    # 1 to 8, positions 0..1; one that is not named stands at 0.5 and turns nothing
    at = 0.3                   # either: it stands still
    points = [[0, 0.1], [4, 1.0]]  # or: [t_s, position], straight between, still before and after
    wave = "triangle"          # or: triangle, sine, steps (a new random one), walk (straight to a new random one)
    period_s = 7               #     of the wave, or from one random position to the next
    low = 0.2                  #     0 and 1 without
    high = 0.9
    phase = 0.25               #     in periods
    seed = 3                   #     of what is random

    [pitch]                    # the V/oct jack: 1 V per octave, 0 V = MIDI 36. Given in MIDI notes, also broken ones
    notes = [50, 57, 62]       # either: one after the other, around again
    random = [36, 84]          # or: whole notes from here to there, with ``seed``
    points = [[0, 48], [2, 60.5]]  # or: [t_s, note], straight between: a glide
    step_s = 0.3               # how long a note stays; without it a new one comes with every pulse of the gate
    lag_ms = 0.3               # and then that much after its rising edge (before it where negative)

    [cv.1]                     # 1 to 7, volts at the jack, -12 to 12; as a pot, but low and high are -5 and 5 without,
    at = 2.5                   # and one that is not named lies at 0 V

    [gate]
    rate_hz = 20               # either: a pulse at so many places a second
    duty = 0.5                 #     and so much of the time between two of them is it high
    swing = 0.1                #     every second pulse comes later, by this share of that time
    jitter = 0.1               #     every pulse comes later, by a random share up to this, with ``seed``
    pulses = [[0, 0.4], [1, 1.5]]  # or: [on_s, off_s]

    [[keys]]                   # a keyboard; several may play at once, each on a MIDI channel of its own
    channel = 2                # 1 to 16, without it the first that is free
    notes = [[0, 2.3, 57, 80]] # either: [t_s, length_s, key, velocity]
    voices = 4                 # or: random chords of so many notes, with ``seed``
    rate_hz = 1.5              #     so many chords a second
    length_s = 2               #     each held so long; a key that is down is not struck again
    range = [36, 96]           #     these keys
    velocity = [40, 120]       #     and these velocities

    [[fault]]                  # ``at_s``: then, once a time around; ``every_s``: again and again; both: from then on
    kind = "nan"               # so many of the worker's frames come out as NaN: ``count`` (1)
    kind = "kill worker"
    kind = "hang worker"       # for ``seconds``
    kind = "audio lost"        # for ``seconds``
    kind = "adc garbage"       # for ``seconds``
    kind = "bundle"            # another one is loaded: the next of ``bundles`` (paths from the script's folder), or,
    every_s = 31               # without that list, the next that the program knows

Lists of points, pulses and notes begin again with every time around. What has a period runs on without regard to that,
so it has no seam. Time is whole nanoseconds inside, so nothing drifts; what is random is drawn from seed and number
alone, so any moment can be asked for, in any order, and answers the same.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import mido

from device.errors import DarkrackError
from device.profile import Profile
from device.simulation import CHANNELS, Ads8325, Clock, EdgeQueue, Mcp3x08, Signal
from device.toml_table import Table, packaged, read_page

SCRIPTS = Path(__file__).with_name("scripts")
POTS = CHANNELS
CVS = CHANNELS - 1  # pitch has the first input of that chip
PITCH_ZERO_MIDI = (
    36  # 0 V, C2: five and a half octaves above it reach the converter's 3.3 V at 0.5 V per octave
)
CV_MAX_V = 12.0  # the supply of a Eurorack module: no cable carries more
LONGEST_S = 24 * 3600.0
GAP = 0.05  # of a gate's period at least it is low, or two pulses would be one

# What each kind of fault has beside its times.
FAULT_KEYS: Mapping[str, tuple[str, ...]] = {
    "nan": ("count",),
    "kill worker": (),
    "hang worker": ("seconds",),
    "audio lost": ("seconds",),
    "adc garbage": ("seconds",),
    "bundle": ("bundles",),
}
# Of one seed everything random has a stream of its own: two pots with the same seed still differ.
PITCH_STREAM, GATE_STREAM, KEYS_STREAM, POT_STREAM, CV_STREAM = 0, 1, 100, 200, 300
WAVES = ("triangle", "sine", "steps", "walk")


@dataclass(frozen=True)
class Fault:
    """One fault: ``seconds`` it lasts, ``count`` frames it spoils, ``bundle`` to load (None: the next one known)."""

    time_s: float
    kind: str  # one of FAULT_KEYS
    number: int  # how many of this entry came before
    seconds: float = 0.0
    count: int = 0
    bundle: Path | None = None


@dataclass(frozen=True)
class Script:
    """A script that was read; pure functions of its time in seconds, which may be asked in any order.

    The functions of an interval are half-open, begin_s <= time < end_s: intervals that follow each other give every
    event once. What is let go at the end of a script that does not loop, is let go at ``seconds`` exactly.
    """

    name: str
    seconds: float
    loop: bool
    pitch_v: Signal  # at the V/oct jack, PITCH_ZERO_MIDI at 0 V
    pots: Mapping[int, Signal]
    cvs: Mapping[int, Signal]
    gate: _Pulses | None
    keyboards: tuple[_Notes | _Chords, ...]
    plans: tuple[_Plan, ...]

    def pot(self, number: int) -> Signal:
        """The position of pot 1 to 8, 0 to 1."""
        return self.pots.get(number, _Steady(0.5))

    def cv(self, number: int) -> Signal:
        """Volts at the jack of control voltage 1 to 7."""
        return self.cvs.get(number, _Steady(0.0))

    def gate_edges(self, begin_s: float, end_s: float) -> list[tuple[float, int]]:
        """The gate's edges as (time_s, level 0 or 1), in order; at one time it falls before it rises."""
        if self.gate is None:
            return []
        begin_ns, end_ns = _ns(begin_s), _ns(end_s)
        edges = []
        for _, on_ns, off_ns in _between(self.gate, begin_ns, end_ns):
            edges += [
                (time_ns, level)
                for time_ns, level in ((on_ns, 1), (off_ns, 0))
                if begin_ns <= time_ns < end_ns
            ]
        return [(time_ns / 1e9, level) for time_ns, level in sorted(edges)]

    def messages(self, begin_s: float, end_s: float) -> list[tuple[float, mido.Message]]:
        """Note-ons and note-offs as (time_s, message), in order; at one time offs come first."""
        begin_ns, end_ns = _ns(begin_s), _ns(end_s)
        found: list[tuple[int, int, int, int, int]] = []  # time, 1 for on, channel, key, velocity
        for keyboard in self.keyboards:
            for number, on_ns, off_ns in _between(keyboard.pulses, begin_ns, end_ns):
                for time_ns, on in ((on_ns, 1), (off_ns, 0)):
                    if begin_ns <= time_ns < end_ns:
                        notes = keyboard.notes(number)
                        found += [(time_ns, on, keyboard.channel, key, velocity) for key, velocity in notes]
        return [
            (
                time_ns / 1e9,
                mido.Message(
                    "note_on" if on else "note_off", channel=channel, note=key, velocity=velocity if on else 0
                ),
            )
            for time_ns, on, channel, key, velocity in sorted(found)
        ]

    def faults(self, begin_s: float, end_s: float) -> list[Fault]:
        """The faults of an interval, in order."""
        begin_ns, end_ns = _ns(begin_s), _ns(end_s)
        found = [
            plan.fault(number, time_ns)
            for plan in self.plans
            for number, time_ns, _ in _between(plan.times, begin_ns, end_ns)
            if begin_ns <= time_ns < end_ns
        ]
        return sorted(found, key=lambda fault: fault.time_s)


@dataclass(frozen=True)
class SimulatedJacks:
    """The simulated module that a script plays: its chips for device.adc to open, and the queue of the gate's edges.

    ``pitch_chip`` is None where V/oct is one of the inputs of ``cv_chip``.
    """

    knob_chip: Mcp3x08
    cv_chip: Mcp3x08
    pitch_chip: Ads8325 | None
    gate: EdgeQueue

    def plant_garbage(self, seed: int | None) -> None:
        """From now on all chips answer at random; None ends it."""
        for stream, chip in enumerate((self.knob_chip, self.cv_chip, self.pitch_chip)):
            if chip is not None:
                chip.garbage = None if seed is None else _Garbage(seed, stream)

    def put_pitch(self, profile: Profile, jack_v: float) -> None:
        """Lay a steady voltage at the V/oct jack."""
        chip = self.pitch_chip or self.cv_chip
        chip.inputs[profile.pitch.channel] = _Steady(profile.pitch.pin_v(jack_v))


class _Garbage:
    """Random codes in place of the true ones, with the ends of the range that a broken wire reads among them."""

    def __init__(self, seed: int, stream: int) -> None:
        self._seed, self._stream, self._number = seed, stream, 0

    def __call__(self, _code: int) -> int:
        self._number += 1
        chance = draw(self._seed, self._stream, self._number)
        return (0, -1)[int(8 * chance)] if chance < 0.25 else int(chance * 2**40)


def wire(script: Script, profile: Profile, clock: Clock, origin_ns: int = 0) -> SimulatedJacks:
    """Put what ``script`` does onto the wires of the module that ``profile`` describes.

    ``clock`` is the script's time in seconds; ``origin_ns`` the CLOCK_MONOTONIC at which it reads zero.
    """
    knobs: list[Signal] = [_Steady(0.0)] * CHANNELS
    for pot, channel in enumerate(profile.knob_channels, start=1):
        knobs[channel] = _Scaled(script.pot(pot), profile.knob_chip.reference_v, 0.0)
    voltages: list[Signal] = [_Steady(0.0)] * CHANNELS
    pitch = _Scaled(script.pitch_v, profile.pitch.gain, profile.pitch.offset_v)
    if profile.pitch_chip is None:
        voltages[profile.pitch.channel] = pitch
    for number, cv in profile.cvs.items():
        voltages[cv.channel] = _Scaled(script.cv(number), cv.gain, cv.offset_v)
    return SimulatedJacks(
        Mcp3x08(clock, knobs, profile.knob_chip.reference_v, profile.knob_chip.bits),
        Mcp3x08(clock, voltages, profile.cv_chip.reference_v, profile.cv_chip.bits, profile.flaws),
        Ads8325(clock, [pitch], profile.pitch_chip.reference_v, profile.flaws)
        if profile.pitch_chip
        else None,
        EdgeQueue(clock, script.gate_edges, origin_ns),
    )


# ---- Time and chance ----


def _ns(time_s: float) -> int:
    """Whole nanoseconds; float64 seconds hold them exactly enough for three months (2**53 ns)."""
    return max(0, round(time_s * 1e9))


def draw(seed: int, stream: int, number: int) -> float:
    """A random number, 0 <= x < 1, that depends on the three alone, on every machine.

    Each is mixed in by the finaliser of SplitMix64. Source: Steele, Lea and Flood, "Fast splittable pseudorandom
    number generators", OOPSLA 2014; the constants are variant 13 of Stafford's "Better bit mixing", 2011.
    """
    return (_stir(_stream(seed, stream), number) >> 11) / (1 << 53)


@lru_cache(maxsize=1024)
def _stream(seed: int, stream: int) -> int:
    return _stir(_stir(0, seed), stream)


def _stir(state: int, word: int) -> int:
    """64 bits in which all of ``state`` and ``word`` are mixed."""
    state = (state + word + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    state = (state ^ state >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    return state ^ state >> 31


# ---- Signals: frozen dataclasses rather than closures, so that a script may be handed to another process ----


@dataclass(frozen=True)
class _Steady:
    level: float

    def __call__(self, _now_s: float) -> float:
        return self.level


@dataclass(frozen=True)
class _Scaled:
    """Another signal through an input stage."""

    of: Signal
    gain: float
    offset: float

    def __call__(self, now_s: float) -> float:
        return self.offset + self.gain * self.of(now_s)


@dataclass(frozen=True)
class _Line:
    """Straight between points, still before the first and after the last; again after ``lap_ns`` if that is not 0."""

    times_ns: tuple[int, ...]
    levels: tuple[float, ...]
    lap_ns: int

    def __call__(self, now_s: float) -> float:
        now_ns = _ns(now_s)
        if self.lap_ns:
            now_ns %= self.lap_ns
        place = bisect_right(self.times_ns, now_ns)
        if place == 0:
            return self.levels[0]
        if place == len(self.times_ns):
            return self.levels[-1]
        before_ns, after_ns = self.times_ns[place - 1 : place + 1]
        before, after = self.levels[place - 1 : place + 1]
        return before + (after - before) * (now_ns - before_ns) / (after_ns - before_ns)


@dataclass(frozen=True)
class _Wave:
    """One of WAVES between low and high; stands still from ``end_ns`` on if that is not 0."""

    shape: str
    period_ns: int
    low: float
    high: float
    shift_ns: int
    seed: int
    stream: int
    end_ns: int

    def __call__(self, now_s: float) -> float:
        now_ns = _ns(now_s)
        if self.end_ns:
            now_ns = min(now_ns, self.end_ns)
        number, inside_ns = divmod(now_ns + self.shift_ns, self.period_ns)
        phase = inside_ns / self.period_ns
        if self.shape == "triangle":
            share = 1 - abs(2 * phase - 1)
        elif self.shape == "sine":
            share = 0.5 - 0.5 * math.cos(2 * math.pi * phase)
        else:
            share = draw(self.seed, self.stream, number)
            if self.shape == "walk":
                share += (draw(self.seed, self.stream, number + 1) - share) * phase
        return self.low + (self.high - self.low) * share


@dataclass(frozen=True)
class _Notes1V:
    """Volts by 1 V/oct: a note for every pulse of ``steps``, ``lag_ns`` after its rising edge."""

    steps: _Pulses
    lag_ns: int
    notes: tuple[float, ...]  # one after the other; a range to draw from where ``drawn``
    drawn: bool
    seed: int

    def __call__(self, now_s: float) -> float:
        number = max(0, self.steps.number_at(max(0, _ns(now_s) - self.lag_ns)))
        if self.drawn:
            low, high = self.notes
            note = low + int((high - low + 1) * draw(self.seed, PITCH_STREAM, number))
        else:
            note = self.notes[number % len(self.notes)]
        return (note - PITCH_ZERO_MIDI) / 12


# ---- Pulses: numbered intervals of time, from which gates, notes and faults are made ----


@dataclass(frozen=True)
class _Train:
    """Pulse k from offset + k * period on, plus swing and jitter; all cut off at ``end_ns`` if that is not 0."""

    period_ns: int
    length_ns: int
    end_ns: int
    offset_ns: int = 0
    swing_ns: int = 0
    jitter_ns: int = 0
    seed: int = 0

    @property
    def longest_ns(self) -> int:
        return self.length_ns

    def begin_ns(self, number: int) -> int:
        begin_ns = self.offset_ns + number * self.period_ns
        if number % 2:
            begin_ns += self.swing_ns
        if self.jitter_ns:
            begin_ns += int(self.jitter_ns * draw(self.seed, GATE_STREAM, number))
        return begin_ns

    def span_ns(self, number: int) -> tuple[int, int]:
        begin_ns = self.begin_ns(number)
        finish_ns = begin_ns + self.length_ns
        return begin_ns, min(finish_ns, self.end_ns) if self.end_ns else finish_ns

    def number_at(self, now_ns: int) -> int:
        """The last pulse that has begun by now; -1 before the first."""
        if self.end_ns:
            now_ns = min(now_ns, self.end_ns - 1)
        number = (now_ns - self.offset_ns) // self.period_ns
        # Swing and jitter together are shorter than a period: this one may not have begun, the one before has.
        if number >= 0 and self.begin_ns(number) > now_ns:
            number -= 1
        return max(-1, number)


@dataclass(frozen=True)
class _List:
    """Pulses one by one, in the order of their beginnings; again after ``lap_ns`` if that is not 0."""

    begins_ns: tuple[int, ...]
    finishes_ns: tuple[int, ...]
    longest_ns: int
    lap_ns: int

    def span_ns(self, number: int) -> tuple[int, int]:
        lap, place = divmod(number, len(self.begins_ns))
        return lap * self.lap_ns + self.begins_ns[place], lap * self.lap_ns + self.finishes_ns[place]

    def number_at(self, now_ns: int) -> int:
        """The last pulse that has begun by now; -1 before the first."""
        lap, inside_ns = divmod(now_ns, self.lap_ns) if self.lap_ns else (0, now_ns)
        return lap * len(self.begins_ns) + bisect_right(self.begins_ns, inside_ns) - 1


_Pulses = _Train | _List


def _between(pulses: _Pulses, begin_ns: int, end_ns: int) -> Iterator[tuple[int, int, int]]:
    """(number, begin_ns, finish_ns) of all pulses that begin or end in the interval, and some others around it."""
    # One that was already over before the interval began at least a longest pulse before it.
    first = max(0, pulses.number_at(begin_ns - pulses.longest_ns - 1))
    for number in range(first, pulses.number_at(end_ns - 1) + 1):
        yield number, *pulses.span_ns(number)


@dataclass(frozen=True)
class _Notes:
    """Written notes: one for each pulse."""

    channel: int
    pulses: _List
    played: tuple[tuple[int, int], ...]  # key, velocity

    def notes(self, number: int) -> list[tuple[int, int]]:
        return [self.played[number % len(self.played)]]


@dataclass(frozen=True)
class _Chords:
    """Random chords: one for each pulse, on keys that no chord still held can have."""

    channel: int
    pulses: _Train
    voices: int
    low: int
    high: int
    velocities: tuple[int, int]
    seed: int

    def notes(self, number: int) -> list[tuple[int, int]]:
        # Of n chords that overlap each has every n-th key to itself.
        overlapping = -(-self.pulses.length_ns // self.pulses.period_ns)
        keys = [*range(self.low + number % overlapping, self.high + 1, overlapping)]
        softest, loudest = self.velocities
        stream = KEYS_STREAM + 2 * self.channel  # one for keys, one for velocities
        notes = []
        for voice in range(self.voices):
            place = self.voices * number + voice
            key = keys.pop(int(len(keys) * draw(self.seed, stream, place)))
            velocity = softest + int((loudest - softest + 1) * draw(self.seed, stream + 1, place))
            notes.append((key, velocity))
        return notes


@dataclass(frozen=True)
class _Plan:
    """When one kind of fault comes, and what it does."""

    kind: str
    times: _Pulses
    seconds: float
    count: int
    bundles: tuple[Path, ...]

    def fault(self, number: int, time_ns: int) -> Fault:
        bundle = self.bundles[number % len(self.bundles)] if self.bundles else None
        return Fault(time_ns / 1e9, self.kind, number, self.seconds, self.count, bundle)


# ---- Reading ----

_Span = tuple[float, float]  # lowest and highest


def read_script(name: str | Path) -> Script:
    """Read a script: one of those that come with the program by its bare name ("stress"), any other by its path.

    Strict: DarkrackError names file and key of what is unknown (with the nearest), missing, of the wrong type, out of
    range or against the order of time.
    """
    path = packaged(name, SCRIPTS, "a script")
    page = read_page(path, "a script")
    seconds = page.number("seconds", 0.01, LONGEST_S)
    loop = page.flag("loop", default=False)
    whole = _Whole(_ns(seconds), loop)
    pots = _signals(page.table("pot"), POTS, POT_STREAM, whole, span=(0.0, 1.0), usual=(0.0, 1.0))
    cvs = _signals(page.table("cv"), CVS, CV_STREAM, whole, span=(-CV_MAX_V, CV_MAX_V), usual=(-5.0, 5.0))
    gate = _gate(page.table("gate"), whole) if "gate" in page.content else None
    pitch: Signal = _pitch(page.table("pitch"), gate, whole) if "pitch" in page.content else _Steady(0.0)
    keyboards: list[_Notes | _Chords] = []
    for table in page.tables("keys"):
        keyboards.append(_keyboard(table, whole, {keyboard.channel for keyboard in keyboards}))
    plans = tuple(_plan(table, whole, path.parent) for table in page.tables("fault"))
    page.known += ["pot", "cv", "gate", "pitch"]
    page.refuse_unknown()
    return Script(path.stem, seconds, loop, pitch, pots, cvs, gate, tuple(keyboards), plans)


@dataclass(frozen=True)
class _Whole:
    """How long the script is, and whether it goes round."""

    length_ns: int
    loop: bool

    @property
    def lap_ns(self) -> int:
        """After which lists begin again; 0: never."""
        return self.length_ns if self.loop else 0

    @property
    def end_ns(self) -> int:
        """At which everything ends; 0: never."""
        return 0 if self.loop else self.length_ns

    @property
    def seconds(self) -> float:
        return self.length_ns / 1e9


def _seed(table: Table) -> int:
    return table.whole("seed", 0, 2**32 - 1) or 0


def _signals(
    table: Table, most: int, stream: int, whole: _Whole, *, span: _Span, usual: _Span
) -> dict[int, Signal]:
    """The pots or control voltages of a table; levels lie within ``span``, and within ``usual`` if nothing is said."""
    return {
        number: _signal(one, stream + number, whole, span=span, usual=usual)
        for number, one in table.numbered(most)
    }


def _signal(table: Table, stream: int, whole: _Whole, *, span: _Span, usual: _Span) -> Signal:
    form = table.form(at=(), points=(), wave=("period_s", "low", "high", "phase", "seed"))
    if form == "at":
        return _Steady(table.number("at", *span))
    if form == "points":
        return _line(table, "level", whole, *span)
    return _Wave(
        shape=table.choice("wave", WAVES),
        period_ns=(period_ns := _ns(table.number("period_s", 0.001, LONGEST_S))),
        low=table.number("low", *span, default=usual[0]),
        high=table.number("high", *span, default=usual[1]),
        shift_ns=int(period_ns * table.number("phase", 0.0, 1.0, default=0.0)),
        seed=_seed(table),
        stream=stream,
        end_ns=whole.end_ns,
    )


def _line(table: Table, what: str, whole: _Whole, low: float, high: float) -> _Line:
    rows = table.rows("points", ("t_s", 0.0, whole.seconds), (what, low, high))
    times_ns = tuple(_ns(time_s) for time_s, _ in rows)
    _in_order(table, "points", times_ns)
    return _Line(times_ns, tuple(level for _, level in rows), whole.lap_ns)


def _in_order(table: Table, key: str, times_ns: tuple[int, ...], apart_ns: int = 1) -> None:
    """Refuse times that are not at least ``apart_ns`` after the one before; 0 lets them be equal."""
    for before_ns, after_ns in pairwise(times_ns):
        if after_ns < before_ns + apart_ns:
            came = f"{after_ns / 1e9:g} after {before_ns / 1e9:g}"
            raise DarkrackError(table.at(key), "times that rise from row to row", came)


def _gate(table: Table, whole: _Whole) -> _Pulses:
    if table.form(rate_hz=("duty", "swing", "jitter", "seed"), pulses=()) == "pulses":
        span = (0.0, whole.seconds)
        rows = table.rows("pulses", ("on_s", *span), ("off_s", *span))
        _in_order(table, "pulses", tuple(_ns(time_s) for row in rows for time_s in row))
        return _list([(_ns(on_s), _ns(off_s)) for on_s, off_s in rows], whole)
    period_ns = _ns(1 / table.number("rate_hz", 0.001, 1000.0))
    duty = table.number("duty", 0.001, 1 - GAP, default=0.5)
    swing = table.number("swing", 0.0, 1.0, default=0.0)
    jitter = table.number("jitter", 0.0, 1.0, default=0.0)
    if duty + swing + jitter > 1 - GAP:
        raise DarkrackError(
            table.at(),
            f"duty, swing and jitter of together {1 - GAP:g} at most",
            f"{duty + swing + jitter:g}",
            "make the pulses shorter",
        )
    return _Train(
        period_ns=period_ns,
        length_ns=int(period_ns * duty),
        end_ns=whole.end_ns,
        swing_ns=int(period_ns * swing),
        jitter_ns=int(period_ns * jitter),
        seed=_seed(table),
    )


def _list(spans_ns: list[tuple[int, int]], whole: _Whole) -> _List:
    begins_ns, finishes_ns = zip(*spans_ns, strict=True)
    longest_ns = max(finish_ns - begin_ns for begin_ns, finish_ns in spans_ns)
    return _List(begins_ns, finishes_ns, longest_ns, whole.lap_ns)


def _pitch(table: Table, gate: _Pulses | None, whole: _Whole) -> Signal:
    timing = ("step_s", "lag_ms")
    form = table.form(notes=timing, random=(*timing, "seed"), points=())
    if form == "points":
        line = _line(table, "note", whole, 0.0, 127.0)
        volts = tuple((note - PITCH_ZERO_MIDI) / 12 for note in line.levels)
        return _Line(line.times_ns, volts, line.lap_ns)
    lag_ns = round(1e6 * table.number("lag_ms", -5.0, 5.0, default=0.0))
    if "step_s" in table.content:
        step_ns = _ns(table.number("step_s", 0.001, LONGEST_S))
        gate = _Train(step_ns, step_ns, whole.end_ns)
    elif gate is None:
        raise DarkrackError(table.at("step_s"), "how long a note stays, or a [gate] to follow", "neither")
    if form == "notes":
        return _Notes1V(gate, lag_ns, table.numbers("notes", 0.0, 127.0), drawn=False, seed=0)
    return _Notes1V(
        gate, lag_ns, _whole_pair(table, "random", 0, 127, (0, 127)), drawn=True, seed=_seed(table)
    )


def _keyboard(table: Table, whole: _Whole, taken: set[int]) -> _Notes | _Chords:
    form = table.form(
        notes=("channel",),
        voices=("channel", "rate_hz", "length_s", "range", "velocity", "seed"),
    )
    free = [channel for channel in range(16) if channel not in taken]
    wanted = table.whole("channel", 1, 16)
    if not free or (wanted is not None and wanted - 1 in taken):
        raise DarkrackError(table.at("channel"), "a channel for each of at most 16 [[keys]]", "one taken")
    channel = free[0] if wanted is None else wanted - 1
    if form == "notes":
        return _notes(table, channel, whole)
    period_ns = _ns(1 / table.number("rate_hz", 0.001, 1000.0))
    length_ns = _ns(table.number("length_s", 0.001, LONGEST_S))
    low, high = _whole_pair(table, "range", 0, 127, (48, 84))
    voices = table.whole("voices", 1, 64) or 1
    # A key that is held cannot be struck: chords that overlap share the range.
    overlapping = -(-length_ns // period_ns)
    if (high - low + 1) // overlapping < voices:
        raise DarkrackError(
            table.at("voices"),
            f"at most {(high - low + 1) // overlapping}, for {overlapping} chords overlap on {high - low + 1} keys",
            str(voices),
            "widen range or shorten length_s",
        )
    return _Chords(
        channel=channel,
        pulses=_Train(period_ns, length_ns, whole.end_ns),
        voices=voices,
        low=low,
        high=high,
        velocities=_whole_pair(table, "velocity", 1, 127, (64, 100)),
        seed=_seed(table),
    )


def _whole_pair(table: Table, key: str, low: int, high: int, default: tuple[int, int]) -> tuple[int, int]:
    first, second = table.pair(key, low, high, default)
    if first != round(first) or second != round(second) or first > second:
        raise DarkrackError(table.at(key), "two whole numbers, the lower first", f"[{first:g}, {second:g}]")
    return round(first), round(second)


def _notes(table: Table, channel: int, whole: _Whole) -> _Notes:
    span = (0.0, whole.seconds)
    rows = table.rows("notes", ("t_s", *span), ("length_s", *span), ("key", 0, 127), ("velocity", 1, 127))
    spans_ns = [(_ns(time_s), _ns(time_s + length_s)) for time_s, length_s, _, _ in rows]
    _in_order(table, "notes", tuple(begin_ns for begin_ns, _ in spans_ns), apart_ns=0)
    free_ns: dict[int, int] = {}
    for n, ((begin_ns, finish_ns), (_, _, key, velocity)) in enumerate(zip(spans_ns, rows, strict=True), 1):
        where = f"{table.at('notes')}: row {n}"
        if key != round(key) or velocity != round(velocity):
            raise DarkrackError(where, "a whole key and velocity", f"{key:g} and {velocity:g}")
        if not begin_ns < finish_ns <= whole.length_ns:
            raise DarkrackError(
                where,
                f"a note that sounds and ends by {whole.seconds:g} s",
                f"{begin_ns / 1e9:g} to {finish_ns / 1e9:g} s",
            )
        if begin_ns < free_ns.get(round(key), 0):
            raise DarkrackError(where, f"key {key:g} to be up when it is struck", "one that is still held")
        free_ns[round(key)] = finish_ns
    played = tuple((round(key), round(velocity)) for _, _, key, velocity in rows)
    return _Notes(channel, _list(spans_ns, whole), played)


def _plan(table: Table, whole: _Whole, folder: Path) -> _Plan:
    kind = table.choice("kind", tuple(FAULT_KEYS))
    table.known += ["at_s", "every_s", *FAULT_KEYS[kind]]
    table.refuse_unknown()
    at_ns = _ns(table.number("at_s", 0.0, whole.seconds, default=0.0))
    times: _Pulses
    if "every_s" in table.content:
        period_ns = _ns(table.number("every_s", 0.01, LONGEST_S))
        times = _Train(period_ns, 0, whole.end_ns, at_ns if "at_s" in table.content else period_ns)
    elif "at_s" in table.content:
        times = _list([(at_ns, at_ns)], whole)
    else:
        raise DarkrackError(table.at(), "at_s or every_s", "neither")
    lasts = "seconds" in FAULT_KEYS[kind]
    return _Plan(
        kind=kind,
        times=times,
        seconds=table.number("seconds", 0.001, 3600.0) if lasts else 0.0,
        count=(table.whole("count", 1, 1_000_000) or 1) if kind == "nan" else 0,
        bundles=tuple(folder / bundle for bundle in table.texts("bundles")),
    )
