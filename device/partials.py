"""The inverse of the `partials` grid: what the generator put out becomes frames that a voice can hold.

Row r is the band around partial k = r + 1 of the note, column t is the moment t / frame_rate_hz after its
beginning. Level and frequency are all there is; start phases are free (the ear does not miss them).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from device.errors import DarkrackError

Array = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]

SILENCE_DB = -200.0  # what a silent cell holds; 10^(-200/20) is far under the smallest sample of any DAC
SILENT_LEVEL = 0.01  # network levels up to here are silence (1 % of the range above the floor)
LOUDEST_DB = 6.0  # one lone partial at RMS 1 has 20 log10(sqrt 2) = 3 dB; the rest is room for error
MOST_RAISED_DB = 6.0  # a generated note that is further under RMS 1 than this is meant to be faint

LOOP_START = (0.4, 0.7)  # of the note: past the attack; the later, the longer a swell takes
LOOP_MARGIN_FRAMES = 3  # the last analysis windows of the training notes reach over the end of the note
SWOLLEN_DB = 3.0  # a swell is over this far under the loudest frame
STRUCK_S = (0.04, 0.2)  # when a struck note is loud
# A note is struck if it falls faster than this both over all of its length and inside the loop (one of the two
# alone is an accent, or a tremolo on its way down), or if it has lost FADED_DB by the end of the loop. On 34
# programs of FluidR3 at 5 pitches, no sustained note falls faster than 2.9 dB/s or loses more than 5 dB so.
SUSTAINED_DB_PER_S = -3.0
FADED_DB = 10.0
STEEPEST_DB_PER_S = -100.0

CENTRE_ROWS = 6  # rows that make the pitch that is heard
CENTRE_RANGE_DB = 30.0  # and how far under the strongest of them a row still counts
# A low row this close to its harmonic is meant to be there and is brought within STRAY_CENTS of it, so that a
# note is in tune by whichever partial one listens to; a bell's partials are further away and stay.
HARMONIC_CENTS = 25.0
STRAY_CENTS = 3.0


@dataclass(frozen=True)
class Partials:
    """Constants of the grid, as they stand in a bundle's manifest.

    ``limit_hz``: no row is trained or heard above it.
    """

    rows: int = 80
    frames: int = 128
    frame_rate_hz: float = 125.0
    floor_db: float = -100.0
    limit_hz: float = 16_000.0


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
    return max(1, min(grid.rows, int(grid.limit_hz / f0_hz)))


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
    network_level, deviation = output.reshape(shape)
    for name, plane in (("level", network_level), ("deviation", deviation)):
        wrong = np.argwhere(~np.isfinite(plane))
        if len(wrong):
            row, frame = wrong[0]
            raise DarkrackError(
                "bundle output 'frames'",
                f"finite {name}",
                f"{plane[row, frame]} in row {row}, frame {frame} ({len(wrong)} in all)",
                "run `darkrack bundle verify` on the bundle",
            )

    level_db = np.minimum(partials.floor_db * (1.0 - network_level.astype(np.float64)), LOUDEST_DB)
    level_db[network_level <= SILENT_LEVEL] = SILENCE_DB
    # Training notes have RMS 1 in their loudest frame (half the sum of squares is 1). A generated one is brought there,
    # so that a knob changes the sound and leaves the level to whoever plays; what is nearly silent stays nearly so.
    total_db = 10 * np.log10((10 ** (level_db / 10)).sum(axis=0) / 2)
    raised_db = min(-float(total_db.max()), MOST_RAISED_DB)
    level_db[level_db > SILENCE_DB] += raised_db
    total_db += raised_db
    k = np.arange(1.0, partials.rows + 1)[:, None]
    ratio = k + np.clip(deviation.astype(np.float64), -1.0, 1.0) / 2

    loop_start, loop_end = _loop(total_db)
    heard = slice(loop_start, loop_end + 1) if level_db[:, loop_start:].max() > SILENCE_DB else slice(None)
    ratio *= _centring(level_db[:, heard], ratio[:, heard])
    trend, decay = _slopes(level_db, total_db, loop_start, loop_end, partials.frame_rate_hz)
    seconds_in_loop = (np.arange(partials.frames) - loop_start) / partials.frame_rate_hz
    silent = level_db <= SILENCE_DB
    level_db -= trend[:, None] * np.maximum(seconds_in_loop, 0)
    if not decay.any():
        # What is held is held at the mean level of the loop, and comes there on the second half of the way to it.
        to_mean_db = trend * (loop_end - loop_start) / 2 / partials.frame_rate_hz
        way = np.clip(1 + (np.arange(partials.frames) - loop_start) / max(loop_start / 2, 1), 0, 1)
        level_db += to_mean_db[:, None] * way
    level_db[silent] = SILENCE_DB
    return NoteFrames(
        level_db.astype(np.float32),
        ratio.astype(np.float32),
        decay.astype(np.float32),
        loop_start,
        loop_end,
    )


def _loop(total_db: Floats) -> tuple[int, int]:
    """First and last frame of the loop: as long as it can be once the note has swollen to its level."""
    frames = len(total_db)
    loop_end = max(frames - 1 - LOOP_MARGIN_FRAMES, 0)
    swollen = int((total_db > total_db.max() - SWOLLEN_DB).argmax())
    earliest, latest = (round(share * frames) for share in LOOP_START)
    return min(max(swollen, earliest), latest, loop_end), loop_end


def _centring(level_db: Floats, ratio: Floats) -> Floats:
    """Factor (rows, 1) that brings the strong low partials onto the harmonic series of the f0 asked for.

    One factor for all rows, by least squares: sum a^2 (factor ratio - k)^2 is smallest, so that stretch and
    vibrato stay. On top of it, what a harmonic low row strays from its place beyond STRAY_CENTS.
    """
    factor = np.ones((len(ratio), 1))
    energy = 10 ** (level_db[:CENTRE_ROWS] / 10) * (level_db[:CENTRE_ROWS] > SILENCE_DB)
    row_energy = energy.sum(axis=1, keepdims=True)
    energy *= row_energy >= row_energy.max() * 10 ** (-CENTRE_RANGE_DB / 10)
    if not energy.any():
        return factor
    low = ratio[:CENTRE_ROWS]
    k = np.arange(1.0, len(low) + 1)[:, None]
    factor *= (energy * k * k).sum() / (energy * k * low).sum()
    mean = (energy * low * factor[: len(low)]).sum(axis=1, keepdims=True)
    stray_cents = 1200 * np.log2(
        np.where(mean > 0, mean / np.maximum(k * energy.sum(axis=1, keepdims=True), 1e-30), 1)
    )
    excess_cents = stray_cents - np.clip(stray_cents, -STRAY_CENTS, STRAY_CENTS)
    factor[: len(low)] *= np.where(np.abs(stray_cents) < HARMONIC_CENTS, 2 ** (-excess_cents / 1200), 1)
    return factor


def _slopes(
    level_db: Floats, total_db: Floats, loop_start: int, loop_end: int, frame_rate_hz: float
) -> tuple[Floats, Floats]:
    """Slope of every row inside the loop, and the slope that it keeps for as long as it is held; dB / s.

    The second is all zeros for a note that is held, else below zero in every row.
    """
    rows = len(level_db)
    seconds = np.arange(loop_start, loop_end + 1) / frame_rate_hz
    if len(seconds) < 2:
        return np.zeros(rows), np.zeros(rows)
    inside = level_db[:, loop_start : loop_end + 1]
    weight = (inside > SILENCE_DB).astype(np.float64)
    centred = seconds - (weight * seconds).sum(axis=1, keepdims=True) / np.maximum(
        weight.sum(axis=1, keepdims=True), 1
    )
    trend = (weight * centred * inside).sum(axis=1) / np.maximum((weight * centred**2).sum(axis=1), 1e-3)

    early, early_end = (round(s * frame_rate_hz) for s in STRUCK_S)
    whole = _slope_db(total_db[early : loop_end + 1]) * frame_rate_hz
    loop = _slope_db(total_db[loop_start : loop_end + 1]) * frame_rate_hz
    late = loop_end - (loop_end - loop_start) // 3
    drop_db = 0.0
    if early_end < loop_start:
        drop_db = float(total_db[early : early_end + 1].mean() - total_db[late : loop_end + 1].mean())
    if drop_db > FADED_DB:
        loop = min(loop, whole)
    elif max(loop, whole) > SUSTAINED_DB_PER_S:
        return np.clip(trend, STEEPEST_DB_PER_S, -STEEPEST_DB_PER_S), np.zeros(rows)
    # A row's own slope is a noisy estimate: one that came out flat must not ring on when the note is over.
    decay = np.clip(trend, max(3 * loop, STEEPEST_DB_PER_S), max(loop / 2, STEEPEST_DB_PER_S))
    return decay, decay


def _slope_db(total_db: Floats) -> float:
    """Slope of the straight line through these frames, dB per frame."""
    if len(total_db) < 2:
        return 0.0
    centred = np.arange(len(total_db)) - (len(total_db) - 1) / 2
    return float(centred @ total_db / (centred @ centred))
