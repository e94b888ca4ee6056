"""What a pitch voltage means: calibrated, followed through noise, quantized to a scale.

Pure mathematics on codes, volts and MIDI notes (69 = 440 Hz, fractions allowed); `device.scan` feeds it,
`device.calibrate` measures what it needs.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from device.errors import DarkrackError
from device.files import read_bytes
from device.profile import CvInput

A4_HZ = 440.0
CENTS_PER_V = 1200.0

# ---- Calibration ----

SPAN_MIN_V = 1.0  # between the lowest and the highest point
APART_MIN_V = 0.05  # between two that follow each other: a semitone is .083 V
# How far a board may be from its profile before the cable, the jack or the profile is wrong instead: resistors of 1 %
# in a stage of three, and a reference of 1 %, are off by 4 % together; offsets likewise.
GAIN_MAX_ERROR, OFFSET_MAX_ERROR_V = 0.1, 0.25
NOISE_MAX_V = 0.004  # rms at the jack, 5 cents: a source that moves, or a cable that hums
# A point that its neighbours miss by more than this was measured at another voltage than was said.
OUTLIER_CENTS = 25.0


@dataclass(frozen=True)
class Point:
    """One voltage at the jack, and the mean and standard deviation of the codes that were read."""

    jack_v: float
    code: float
    noise_codes: float


@dataclass(frozen=True)
class Calibration:
    """Which code stands for which voltage at the jack: straight between points, and on beyond the outer two."""

    codes: tuple[float, ...]  # rising
    volts: tuple[float, ...]

    def jack_v(self, code: float) -> float:
        """Volts at the jack."""
        place = min(max(bisect.bisect_right(self.codes, code), 1), len(self.codes) - 1)
        low, high = self.codes[place - 1], self.codes[place]
        share = (code - low) / (high - low)
        return self.volts[place - 1] + share * (self.volts[place] - self.volts[place - 1])

    def __post_init__(self) -> None:
        if len(self.codes) < 2 or len(self.codes) != len(self.volts):
            raise ValueError("a calibration has two points or more")
        if any(high <= low for low, high in zip(self.codes, self.codes[1:], strict=False)):
            raise ValueError("the codes of a calibration rise")


def nominal(stage: CvInput, reference_v: float, codes: int) -> Calibration:
    """The calibration that the profile promises, before anything was measured."""
    ends_v = [stage.jack_v((code + 0.5) * reference_v / codes) for code in (0, codes - 1)]
    return Calibration((0.0, codes - 1.0), (ends_v[0], ends_v[1]))


def calibrate(points: Sequence[Point], promised: Calibration, codes: int, where: str) -> Calibration:
    """A calibration through ``points`` (two or more), if they can be true.

    ``promised`` is the profile's, of a converter with so many ``codes``. DarkrackError at ``where`` for points too few
    or too close together, at the ends of the converter, noisy, out of order, or far from what the profile promises.
    """
    points = sorted(points, key=lambda point: point.jack_v)
    span_v = points[-1].jack_v - points[0].jack_v if points else 0.0
    apart_v = min((high.jack_v - low.jack_v for low, high in pairwise(points)), default=0.0)
    if apart_v < APART_MIN_V or span_v < SPAN_MIN_V:
        expected = f"two voltages or more, {APART_MIN_V:g} V apart or more, over {SPAN_MIN_V:g} V or more"
        raise DarkrackError(where, expected, ", ".join(f"{point.jack_v:g} V" for point in points) or "none")
    per_v = (promised.codes[-1] - promised.codes[0]) / (promised.volts[-1] - promised.volts[0])
    for point in points:
        at = f"{where}: {point.jack_v:g} V"
        if not 1.0 < point.code < codes - 2.0:
            raise DarkrackError(
                at, "a reading within the converter's range", f"code {point.code:.1f} of {codes}"
            )
        if point.noise_codes > NOISE_MAX_V * abs(per_v):
            millivolts = point.noise_codes / abs(per_v) * 1e3
            hint = "wait until the source has settled; is it battery or hum?"
            raise DarkrackError(
                at, f"a steady voltage (under {NOISE_MAX_V * 1e3:g} mV rms)", f"{millivolts:.1f} mV", hint
            )
    slope = (points[-1].code - points[0].code) / span_v
    hint = "is the cable in the V/oct jack, and was the voltage the one that was asked for?"
    if abs(slope / per_v - 1.0) > GAIN_MAX_ERROR:
        expected = f"{per_v:.0f} codes a volt within {GAIN_MAX_ERROR:.0%}, as the profile promises"
        raise DarkrackError(where, expected, f"{slope:.0f}", hint)
    for point in points:
        off_v = promised.jack_v(point.code) - point.jack_v
        if abs(off_v) > OFFSET_MAX_ERROR_V + GAIN_MAX_ERROR * abs(point.jack_v):
            at = f"{where}: {point.jack_v:g} V"
            raise DarkrackError(at, "about what the profile promises", f"{off_v:+.2f} V beside it", hint)
    pairs = sorted((point.code, point.jack_v) for point in points)
    found = Calibration(tuple(code for code, _ in pairs), tuple(volts for _, volts in pairs))
    for point, cents in zip(points, residual_cents(points), strict=True):
        if abs(cents) > OUTLIER_CENTS:
            at = f"{where}: {point.jack_v:g} V"
            raise DarkrackError(
                at, f"within {OUTLIER_CENTS:g} cents of what the other points say", f"{cents:+.1f}", hint
            )
    return found


def residual_cents(points: Sequence[Point]) -> list[float]:
    """How far each point is from the straight line through all, by least squares: what two points would not know."""
    codes, volts = [point.code for point in points], [point.jack_v for point in points]
    mean_code, mean_v = sum(codes) / len(codes), sum(volts) / len(volts)
    spread = sum((code - mean_code) ** 2 for code in codes)
    slope = sum((code - mean_code) * (v - mean_v) for code, v in zip(codes, volts, strict=True)) / spread
    return [
        (mean_v + slope * (code - mean_code) - v) * CENTS_PER_V for code, v in zip(codes, volts, strict=True)
    ]


# ---- Following ----

# Noise of one reading, rms in codes, that the follower is made for: half a code of twelve bits is what quantization and
# a quiet front end leave; of sixteen bits the chip's own 3 codes from peak to peak (SBAS226, page 1) and what stands
# before it.
NOISE_CODES: Mapping[int, float] = {1 << 12: 0.5, 1 << 16: 2.0}
STEP_NOISES = 16.0  # a difference of so many times the noise is a step, and passes at once
POLE_S = 0.02  # of what is smaller: 20 readings of the 1 kHz scan
# Two readings of a quiet input that differ by more than this share of the range are no reading: it is moving, or
# nonsense (1.5 mV of 1000).
AGREE_SHARE = 6 / 4096


class Follower:
    """Successive codes of one input become a quiet one that has no lag on steps.

    A one-pole low pass whose coefficient grows with the difference, as that of the knobs (`device.adc.smooth`): a step
    passes with its first reading, noise is averaged over some forty. A ramp of s codes a reading is followed with a lag
    of sqrt(s * step) codes.
    """

    def __init__(self, codes: int, period_s: float) -> None:
        self.agree_codes = AGREE_SHARE * codes
        self._step = STEP_NOISES * NOISE_CODES[codes]
        self._slowest = 1.0 - math.exp(-period_s / POLE_S)
        self._pole: float | None = None

    def hear(self, code: int) -> float:
        """Take a reading; the code, with its fraction, that the input lies at."""
        if self._pole is None:
            self._pole = float(code)
        difference = code - self._pole
        self._pole += min(max(abs(difference) / self._step, self._slowest), 1.0) * difference
        return self._pole


def schmitt(high: bool, volts: float, on_v: float, off_v: float) -> bool:
    """Whether a gate is high now, that was ``high`` before: on above ``on_v``, off below ``off_v``."""
    return volts > off_v if high else volts > on_v


# ---- Scales ----

NOTES = {
    name: place
    for place, names in enumerate(
        ("C", "C# DB", "D", "D# EB", "E", "F", "F# GB", "G", "G# AB", "A", "A# BB", "B")
    )
    for name in names.split()
}
SCALES: Mapping[str, tuple[float, ...]] = {
    "semitones": tuple(map(float, range(1, 13))),
    "major": (2, 4, 5, 7, 9, 11, 12),
    "minor": (2, 3, 5, 7, 8, 10, 12),
    "harmonic minor": (2, 3, 5, 7, 8, 11, 12),
    "dorian": (2, 3, 5, 7, 9, 10, 12),
    "phrygian": (1, 3, 5, 7, 8, 10, 12),
    "lydian": (2, 4, 6, 7, 9, 11, 12),
    "mixolydian": (2, 4, 5, 7, 9, 10, 12),
    "major pentatonic": (2, 4, 7, 9, 12),
    "minor pentatonic": (3, 5, 7, 10, 12),
    "blues": (3, 5, 6, 7, 10, 12),
    "whole tones": (2, 4, 6, 8, 10, 12),
    "fifths": (7, 12),
    "octaves": (12,),
}
OFF = "off"
# A held note gives way when another one is nearer by this much: more than a converter and its cable leave.
HYSTERESIS_SEMITONES = 0.1
SCALA_MOST_NOTES = 1024
SCALA_MAX_BYTES = 1 << 16
LOWEST_PERIOD_SEMITONES = 0.05


@dataclass(frozen=True)
class Scale:
    """Semitones of the notes over the root, rising; the last is where it begins again (12: the octave)."""

    name: str
    semitones: tuple[float, ...]

    def nearest(self, midi: float, root: float) -> float:
        """The note of the scale that is nearest to ``midi``, with a root at MIDI ``root``; of two the lower."""
        period = self.semitones[-1]
        turn = math.floor((midi - root) / period)
        notes = (0.0, *self.semitones)
        within = midi - root - turn * period
        return root + turn * period + min(notes, key=lambda note: (abs(note - within), note))


class Quantizer:
    """Pitches become notes of a scale; without a scale they pass. Remembers the note, so that it does not flutter."""

    def __init__(self, scale: Scale | None, root: float = 0.0) -> None:
        self._scale, self._root = scale, root
        self._held: float | None = None

    def hear(self, midi: float) -> float:
        """The note for a pitch."""
        if self._scale is None:
            return midi
        found = self._scale.nearest(midi, self._root)
        if self._held is not None and found != self._held:
            apart = abs(found - self._held)
            margin = min(HYSTERESIS_SEMITONES, apart / 4)  # notes of a microtonal scale lie closer than that
            if abs(midi - self._held) - abs(midi - found) < 2 * margin:
                return self._held
        self._held = found
        return found


def read_scale(name: str, folder: Path, where: str) -> Scale | None:
    """The scale of a patch: "off" (None), one of SCALES, or a Scala file, looked for from ``folder``."""
    folded = name.strip().casefold()
    if folded == OFF:
        return None
    if folded in SCALES:
        return Scale(folded, tuple(map(float, SCALES[folded])))
    if not folded.endswith(".scl"):
        from device.toml_table import suggestion

        hint = suggestion(name, [OFF, *SCALES])
        raise DarkrackError(where, f"{OFF}, {', '.join(SCALES)}, or a Scala file (.scl)", repr(name), hint)
    path = folder / name
    data = read_bytes(path, "a Scala file")
    if len(data) > SCALA_MAX_BYTES:
        raise DarkrackError(str(path), f"a Scala file of at most {SCALA_MAX_BYTES} bytes", f"{len(data)}")
    return parse_scala(data.decode("latin-1"), path)


def parse_scala(text: str, path: Path) -> Scale:
    """A scale from the text of a Scala file; DarkrackError with the line of what is wrong.

    Lines that begin with ! are remarks. The first other line describes, the second says how many notes follow; a note
    is cents where it has a period, else a ratio or a whole number; what stands behind it is passed over. Source: the
    Scala scale file format, as Manuel Op de Coul describes it.
    """
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if not line.lstrip().startswith("!")
    ]
    if len(lines) < 2:
        raise DarkrackError(str(path), "a description and a number of notes", f"{len(lines)} lines")
    number, line = lines[1]
    words = line.split()
    if not words or not words[0].isdecimal() or not 1 <= int(words[0]) <= SCALA_MOST_NOTES:
        raise DarkrackError(
            f"{path}: line {number}", f"a number of notes from 1 to {SCALA_MOST_NOTES}", repr(line.strip())
        )
    count = int(words[0])
    rows = lines[2 : 2 + count]
    if len(rows) < count:
        raise DarkrackError(str(path), f"{count} notes", f"{len(rows)}")
    semitones = [_scala_note(line, f"{path}: line {number}") for number, line in rows]
    period = semitones[-1]
    if period < LOWEST_PERIOD_SEMITONES:
        at = f"{path}: line {rows[-1][0]}"
        raise DarkrackError(
            at, "a last note above the first, where the scale begins again", f"{period * 100:g} cents"
        )
    inside = sorted({note % period for note in semitones[:-1]} - {0.0})
    return Scale(path.stem, (*inside, period))


def _scala_note(line: str, at: str) -> float:
    """Semitones of one line."""
    word = (line.split() or [""])[0]
    expected = "cents with a period, or a ratio"
    try:
        if "." in word:
            semitones = float(word) / 100.0
        else:
            above, _, below = word.partition("/")
            if not above.isdecimal() or (below and not below.isdecimal()) or ("/" in word and not below):
                raise ValueError
            semitones = 12.0 * math.log2(int(above) / int(below or "1"))
    except (ValueError, ZeroDivisionError, OverflowError):
        raise DarkrackError(at, expected, repr(line.strip())) from None
    if not math.isfinite(semitones) or abs(semitones) > 1200.0:
        raise DarkrackError(at, expected, repr(line.strip()))
    return semitones


def parse_note(name: str, where: str) -> float:
    """Semitones of a note's name over C ("C", "F#", "Bb"); DarkrackError otherwise."""
    folded = name.strip().upper().replace("♯", "#").replace("♭", "B")
    if folded not in NOTES:
        raise DarkrackError(where, "the name of a note, as C, F# or Bb", repr(name))
    return float(NOTES[folded])
