"""The inverse of the `partials` grid: what the generator put out becomes frames that a voice can hold.

Row r is the band around partial k = (r + 1) / rows_a_partial of the note, column t is the moment t / frame_rate_hz
after its beginning. Level and frequency are all there is; start phases are free (the ear does not miss them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError

Array = npt.NDArray[np.float32]

SILENCE_DB = -200.0  # what a silent cell holds; 10^(-200/20) is far under the smallest sample of any DAC
SILENT_LEVEL = 0.01  # network levels up to here are silence (1 % of the range above the floor)
LOUDEST_DB = 6.0  # one lone partial at RMS 1 has 20 log10(sqrt 2) = 3 dB; the rest is room for error
MOST_RAISED_DB = 6.0  # a generated note that is further under RMS 1 than this is meant to be faint
MOST_ROWS_A_PARTIAL = 2  # at halves of f0; finer ones were not tried


@dataclass(frozen=True)
class Partials:
    """Constants of the grid, as they stand in a bundle's manifest.

    ``limit_hz``: no row is trained or heard above it. ``rows_a_partial``: 1, or 2 for rows at halves of f0 too, where
    an organ's drawbars, bells and breath have theirs; ``rows`` counts them all.
    """

    rows: int = 80
    frames: int = 128
    frame_rate_hz: float = 125.0
    floor_db: float = -100.0
    limit_hz: float = 16_000.0
    rows_a_partial: int = 1

    @property
    def heard_hz(self) -> float:
        """What nothing is above that is played at any pitch: partials stay under the limit."""
        return self.limit_hz


@dataclass(frozen=True)
class NoteFrames:
    """One note, ready to be held for any time.

    ``level_db`` (rows, frames) float32, 0 dB = amplitude 1, silence = SILENCE_DB, with the slope of every row
    taken out from ``loop_start`` on; ``ratio`` (rows, frames) float32, frequency / f0; ``decay_db_per_s``
    (rows,) float32 <= 0. Frames play as they are up to ``loop_end``, then to and fro between ``loop_start``
    and ``loop_end`` (frames), and from ``loop_start`` on every row falls by its ``decay_db_per_s``.
    """

    level_db: Array
    ratio: Array
    decay_db_per_s: Array
    loop_start: int
    loop_end: int


def nominal_hz(pitch_midi: float) -> float:
    """Equal temperament, A4 = MIDI 69 = 440 Hz."""
    return float(440.0 * 2.0 ** ((pitch_midi - 69.0) / 12.0))


def sounding_rows(f0_hz: float, grid: Partials) -> int:
    """How many rows of the grid lie at or below ``limit_hz`` for this fundamental (at least 1)."""
    return max(1, min(grid.rows, int(grid.limit_hz * grid.rows_a_partial / f0_hz)))


def decode(output: npt.NDArray[np.floating], partials: Partials) -> NoteFrames:
    """Turn the generator's output into frames that can be held, exactly in tune with the f0 asked for.

    ``output``: (2, rows, frames) or (1, 2, rows, frames), [0] level (0 = floor, 1 = 0 dB), [1] deviation in
    half bands, about -1..1. Values outside are clipped: a network may overshoot. Raises DarkrackError where
    the shape is another or a value is not finite.
    """
    shape = (2, partials.rows, partials.frames)
    if output.shape not in (shape, (1, *shape)):
        raise DarkrackError(
            "bundle output 'frames'", f"shape {shape}", str(output.shape), "export the bundle again"
        )
    from device.decoding import decode_planes  # numba, for which whoever only reads a manifest need not wait

    with np.errstate(over="ignore"):  # what float32 cannot hold is refused as infinite
        # Writable, because numba compiles all of it once more for arrays that are not.
        network_level, deviation = np.require(output.reshape(shape), np.float32, ["C", "W"])
    level_db, ratio = np.empty_like(network_level), np.empty_like(deviation)
    decay_db_per_s = np.empty(partials.rows, np.float32)
    finite, loop_start, loop_end = decode_planes(
        network_level,
        deviation,
        float(partials.floor_db),
        float(partials.frame_rate_hz),
        partials.rows_a_partial,
        level_db,
        ratio,
        decay_db_per_s,
    )
    if not finite:
        raise _not_finite(level=network_level, deviation=deviation)
    return NoteFrames(level_db, ratio, decay_db_per_s, loop_start, loop_end)


def _not_finite(**planes: Array) -> DarkrackError:
    """Where the first value lies that is not a number that can be played."""
    name, plane = next((name, plane) for name, plane in planes.items() if not np.isfinite(plane).all())
    wrong = np.argwhere(~np.isfinite(plane))
    row, frame = wrong[0]
    return DarkrackError(
        "bundle output 'frames'",
        f"finite {name}",
        f"{plane[row, frame]} in row {row}, frame {frame} ({len(wrong)} in all)",
        "run `darkrack bundle verify` on the bundle",
    )


# ITU-R BS.1770-5, annex 1, tables 1 and 2: the K weighting at 48 kHz, numerator and denominator of two filters. The
# first is the head, 4 dB from 2 kHz on, the second a high pass at 38 Hz.
K_WEIGHTING_RATE_HZ = 48_000.0
K_WEIGHTING = (
    ((1.53512485958697, -2.69169618940638, 1.19839281085285), (1.0, -1.69065929318241, 0.73248077421585)),
    ((1.0, -2.0, 1.0), (1.0, -1.99004745483398, 0.99007225036621)),
)
K_OFFSET_DB = -0.691  # its formula takes off what the weighting adds at 997 Hz
HEARD_SHARE = 0.45  # of the sample rate: the voices play nothing above


def loudness_db(note: NoteFrames, f0_hz: float) -> float:
    """How loud the loudest frame of a note is at ``f0_hz``; a sine of RMS 1 at 1 kHz has 0 dB.

    ITU-R BS.1770-5 of one channel, without gates: the power of all partials, each weighted for its frequency, summed.
    A decay is left out: it only lowers what comes after the loop's first frame. Partials over HEARD_SHARE of 48 kHz
    count nothing. Silence is under -180 dB.
    """
    turn = note.ratio.astype(np.float64) * (2 * np.pi * f0_hz / K_WEIGHTING_RATE_HZ)
    power = 10 ** (note.level_db.astype(np.float64) / 10) / 2
    power[turn > 2 * np.pi * HEARD_SHARE] = 0.0
    once, twice = np.cos(turn), np.cos(2 * turn)
    for above, below in K_WEIGHTING:
        # |b0 + b1 z + b2 z^2|^2 on the unit circle.
        (high, low) = (
            b0 * b0 + b1 * b1 + b2 * b2 + 2 * b1 * (b0 + b2) * once + 2 * b0 * b2 * twice
            for b0, b1, b2 in (above, below)
        )
        power *= high / low
    return K_OFFSET_DB + 10 * float(np.log10(max(power.sum(axis=0).max(), 1e-20)))
