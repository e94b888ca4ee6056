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

SILENCE_DB = -200.0  # what a silent cell holds; 10^(-200/20) is far under the smallest sample of any DAC
SILENT_LEVEL = 0.01  # network levels up to here are silence (1 % of the range above the floor)
LOUDEST_DB = 6.0  # one lone partial at RMS 1 has 20 log10(sqrt 2) = 3 dB; the rest is room for error

LOOP_START = 0.4  # of the note: past the attack of all but the slowest swells, and 0.6 s left to go round in
LOOP_MARGIN_FRAMES = 3  # the last analysis windows of the training notes reach over the end of the note
SUSTAINED_DB_PER_S = -3.0  # a note that falls more slowly than this is held, not struck
FADED_DB = 30.0  # a loop this far under the loudest frame is what a struck note left, whatever its slope
STEEPEST_DB_PER_S = -100.0

CENTRE_ROWS = 6  # rows that make the pitch that is heard
CENTRE_RANGE_DB = 30.0  # and how far under the strongest of them a row still counts


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
    k = np.arange(1.0, partials.rows + 1)[:, None]
    ratio = k + np.clip(deviation.astype(np.float64), -1.0, 1.0) / 2

    loop_start, loop_end = _loop(partials)
    ratio /= _detune(level_db[:, loop_start:], ratio[:, loop_start:], level_db, ratio)
    trend, decay = _slopes(level_db, loop_start, loop_end, partials.frame_rate_hz)
    seconds_in_loop = np.arange(partials.frames - loop_start) / partials.frame_rate_hz
    silent = level_db <= SILENCE_DB
    level_db[:, loop_start:] -= trend[:, None] * seconds_in_loop
    level_db[silent] = SILENCE_DB
    return NoteFrames(
        level_db.astype(np.float32),
        ratio.astype(np.float32),
        decay.astype(np.float32),
        loop_start,
        loop_end,
    )


def _loop(partials: Partials) -> tuple[int, int]:
    loop_end = max(partials.frames - 1 - LOOP_MARGIN_FRAMES, 0)
    return min(round(LOOP_START * partials.frames), loop_end), loop_end


def _detune(
    loop_db: npt.NDArray[np.float64],
    loop_ratio: npt.NDArray[np.float64],
    level_db: npt.NDArray[np.float64],
    ratio: npt.NDArray[np.float64],
) -> float:
    """Least-squares factor by which the strong low partials of the loop are sharp of the harmonic series.

    Minimises sum a^2 (ratio - (1 + detune) k)^2, so what is left is stretch and vibrato, not pitch. A note
    that is silent by then is measured over all of it; a silent note has no detune.
    """
    for level, frequency in ((loop_db, loop_ratio), (level_db, ratio)):
        low, heard = level[:CENTRE_ROWS], frequency[:CENTRE_ROWS]
        row_energy = (10 ** (low / 10)).sum(axis=1)
        row_energy[row_energy < row_energy.max() * 10 ** (-CENTRE_RANGE_DB / 10)] = 0
        if row_energy.max() < 10 ** (SILENCE_DB / 20):
            continue
        energy = 10 ** (low / 10) * (row_energy > 0)[:, None]
        k = np.arange(1.0, len(low) + 1)[:, None]
        return float((energy * k * heard).sum() / (energy * k * k).sum())
    return 1.0


def _slopes(
    level_db: npt.NDArray[np.float64], loop_start: int, loop_end: int, frame_rate_hz: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Slope of every row inside the loop, and the slope that it keeps for as long as it is held; dB / s."""
    rows = len(level_db)
    total_db = 10 * np.log10((10 ** (level_db / 10)).sum(axis=0))
    seconds = np.arange(loop_start, loop_end + 1) / frame_rate_hz
    if len(seconds) < 2:
        return np.zeros(rows), np.zeros(rows)
    inside = level_db[:, loop_start : loop_end + 1]
    weight = (inside > SILENCE_DB).astype(np.float64)
    centred = seconds - (weight * seconds).sum(axis=1, keepdims=True) / np.maximum(
        weight.sum(axis=1, keepdims=True), 1
    )
    trend = (weight * centred * inside).sum(axis=1) / np.maximum((weight * centred**2).sum(axis=1), 1e-3)

    total = float(np.polyfit(seconds, total_db[loop_start : loop_end + 1], 1)[0])
    loudest = int(total_db.argmax())
    drop_db = float(total_db[loudest] - total_db[loop_start : loop_end + 1].mean())
    if drop_db > FADED_DB and loudest < loop_start:
        total = min(total, -drop_db / (float(seconds.mean()) - loudest / frame_rate_hz))
    if total > SUSTAINED_DB_PER_S:
        trend = np.clip(trend, STEEPEST_DB_PER_S, -STEEPEST_DB_PER_S)
        return trend, np.zeros(rows)
    # A row's own slope is a noisy estimate: one that came out flat must not ring on when the note is over.
    decay = np.clip(trend, max(3 * total, STEEPEST_DB_PER_S), max(total / 2, STEEPEST_DB_PER_S))
    return decay, decay
